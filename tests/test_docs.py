"""Pages: their Python and their commands run as printed, their links lead somewhere, and the site has them all."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import yaml
from reference_nets import inputs, network
from relmap.catalogue.methods import CATALOGUE

ROOT = Path(__file__).parents[1]


# Pages with Python that runs as it stands; the others' is of files that only a reader has.
RUN = ("README.md", "docs/index.md", "docs/questions.md", "docs/rules.md")


@pytest.mark.parametrize("page", RUN)
def test_python_blocks_run(page, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    images, targets = inputs(torch.float32)
    names = {"model": network("vgg16", torch.float32), "images": images[:2], "targets": targets[0, :2]}
    if page == "docs/questions.md":
        names |= {"resnet": network("resnet50", torch.float32), "vit": network("vit", torch.float32)}
    with patch.dict(CATALOGUE):  # a page may register a method
        for block in blocks:
            exec(compile(block, page, "exec"), names)
    assert "abslrp" in capsys.readouterr().out or page == "docs/questions.md", "which asserts"


def test_the_example_rule_of_the_docs_is_what_its_equation_says():
    (block,) = (
        b
        for b in re.findall(r"```python\n(.*?)```", (ROOT / "docs/rules.md").read_text(), re.DOTALL)
        if "class Square(Rule)" in b
    )
    names: dict = {}
    exec(compile(block, "docs/rules.md", "exec"), names)
    from relmap.propagation import Propagator

    layer = torch.nn.Linear(5, 3).double()
    propagator = Propagator(torch.nn.Sequential(layer))
    x = torch.randn(2, 5).double()
    explainer = names["SquareLRP"](propagator)
    relevance = explainer.read(propagator.forward(x, explainer.walks), torch.tensor([[1, 2]]))[0]
    share = layer.weight.detach()[[1, 2]] ** 2 * x**2
    torch.testing.assert_close(relevance, share / share.sum(1, keepdim=True))


PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))


def anchors(page):
    """Names of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower())) for heading in headings}


def test_links_lead_to_files_and_headings():
    for page in PAGES:
        for link, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
            target = page.parent / link if link else page
            assert target.exists(), f"{page.name}: {link}"
            assert not heading or heading in anchors(target), f"{page.name}: {link}#{heading}"


def navigated(entries):
    for entry in entries:
        values = entry.values() if isinstance(entry, dict) else [entry]
        for value in values:
            yield from navigated(value) if isinstance(value, list) else [value]


def test_the_site_has_every_page_and_no_other():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    pages = [path.name for path in (ROOT / "docs").glob("*.md")]
    pages += [f"papers/{path.parent.name}.md" for path in ROOT.glob("papers/*/notes.md")]
    assert sorted(navigated(config["nav"])) == sorted(pages)
    assert config["strict"] and config["theme"]["font"] is False


def test_the_page_of_the_library_is_what_its_docstrings_say():
    made = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "site" / "api.py")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert made.stdout == (ROOT / "docs" / "api.md").read_text(), "make docs writes it anew"


def test_what_builds_the_site_is_pinned():
    asked = re.findall(r"^([\w-]+)>=", (ROOT / "docs/site/requirements.in").read_text(), re.MULTILINE)
    lock = (ROOT / "docs/site/requirements.lock").read_text()
    assert asked and all(re.search(rf"^{name}==", lock, re.MULTILINE) for name in asked)
    assert re.fullmatch(r"(?:[\w.-]+==[\w.]+\n)+", lock)
    assert "mkdocs" not in (ROOT / "requirements.lock").read_text()


def commands(pattern):
    """Commands in the pages, from code blocks, tables and running text, without their comments."""
    found = []
    for page in PAGES:
        text = re.sub(r"```python\n.*?```", "", page.read_text(), flags=re.DOTALL)
        found += [command.split("  #")[0].strip() for command in re.findall(pattern, text)]
    return sorted(set(found))


@pytest.mark.parametrize("command", commands(r"\.venv/bin/snakemake ([^`\n]+)"))
def test_commands_of_snakemake_are_understood(command, tmp_path):
    """Each is planned; what a run would do is for other tests."""
    arguments = shlex.split(command)
    call = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    call += ["--dry-run", *(["--workflow-profile", "none"] if "--workflow-profile" not in arguments else [])]
    if "--report" in arguments:
        pytest.fail("a report needs a finished run") if len(arguments) > 2 else None
        arguments = []
    run = subprocess.run([*call, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    said = run.stdout + run.stderr
    own = "config/own.yaml" in arguments  # asks for files that only a user has, and says which
    assert run.returncode == 0 or (own and "data/own/resnet50.safetensors" in said), said[-2000:]


def test_the_workflow_that_takes_relmap_in_is_planned(tmp_path):
    """docs/module.md: its two files, beside a copy of the repository."""
    page = (ROOT / "docs" / "module.md").read_text()
    for name, text in re.findall(r"```\w+\n# (\S+)\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(text)
    (tmp_path / "relmap").symlink_to(ROOT)
    call = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1"]
    run = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert re.search(r"^relmap_tabulate_c3lrp +1$", run.stdout + run.stderr, re.MULTILINE)
    assert not list(ROOT.glob("workflow/[Ss]nakefile")), "it would claim that the catalog's deployment works"


@pytest.mark.parametrize("module", commands(r"python -m (relmap[\w.]*)"))
def test_modules_that_are_commands_exist(module):
    found = importlib.util.find_spec(module)
    assert found is not None and (
        found.submodule_search_locations or '__name__ == "__main__"' in Path(found.origin).read_text()
    )


def own_commands():
    """Commands of `relmap` in the pages, from shell blocks and code in running text."""
    found = set()
    for page in PAGES:
        text = page.read_text()
        lines = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
        lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        said = (re.fullmatch(r"(?:\.venv/bin/)?(relmap [a-z-].*?)(?:  +#.*)?", line) for line in lines)
        found |= {match[1] for match in said if match}
    return sorted(found)


@pytest.mark.parametrize("command", own_commands())
def test_commands_of_relmap_are_understood(command):
    """Each names a command and options that exist; what they do is for tests/test_cli.py."""
    import click
    from relmap.cli.main import main

    name, *arguments = shlex.split(command)[1:]
    group = main if name.startswith("-") else main.get_command(click.Context(main), name)
    assert group is not None, command
    if isinstance(group, click.Group) and arguments:
        group, arguments = group.get_command(click.Context(group), arguments[0]), arguments[1:]
        assert group is not None, command
    known = {option for parameter in group.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = [word.split("=")[0] for word in arguments if word.startswith("--")]
    assert not set(given) - known - {"--help", "--debug"}, command


@pytest.mark.parametrize("target", commands(r"(?m)(?:^|`)make ([a-z]+)"))
def test_targets_of_make_exist(target):
    known = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert target in known
