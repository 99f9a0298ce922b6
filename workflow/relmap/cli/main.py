"""``relmap``: one command, its subcommands, and what becomes of errors."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from relmap.cli.archives import pack, restore
from relmap.cli.doctor import doctor
from relmap.cli.explain import explain
from relmap.cli.listing import COMMANDS
from relmap.cli.new import new
from relmap.cli.runs import plan, status
from relmap.cli.score import score
from relmap.errors import InputError

_DEBUG = "--debug"


class Errors(click.Group):
    """A group whose errors are one line, unless ``--debug`` stands anywhere among the arguments.

    Exit codes: 0 for what went well, 1 for an error, 2 for a command that is not understood.
    """

    def main(self, args: Sequence[str] | None = None, *rest: Any, **more: Any) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        debug = _DEBUG in given
        more.setdefault("obj", {"debug": debug})
        return super().main([each for each in given if each != _DEBUG], *rest, **more)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.obj["debug"]:
                traceback.print_exc()
            elif isinstance(error, InputError):
                click.echo(f"error: {error}", err=True)
            else:
                what = f"{type(error).__name__}: {error}".splitlines()[0]
                click.echo(f"error: {what} (not expected: {_DEBUG} shows where, please report it)", err=True)
            ctx.exit(1)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order below, not by the alphabet


@click.group(cls=Errors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="relmap", prog_name="relmap")
@click.option(_DEBUG, is_flag=True, help="Show where an error comes from.")
def main(debug: bool) -> None:
    """Explain what image classifiers see, and put the explanations to the test.

    \b
    See your own picture explained by eight methods:
      relmap explain photo.jpg --weights resnet50.safetensors
    See what there is:
      relmap methods
    Look what is missing on this machine:
      relmap doctor
    Begin a method of your own, with its test:
      relmap new method mine

    \b
    Completion in bash (zsh, fish: put their name in its place):
      eval "$(_RELMAP_COMPLETE=bash_source relmap)"
    """


for _command in (explain, score, *COMMANDS, plan, status, pack, restore, new, doctor):
    main.add_command(_command)
