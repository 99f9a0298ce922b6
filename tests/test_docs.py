"""The Python in the README and in docs/rules.md runs as it is printed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from reference_nets import inputs, network
from relmap.catalogue.methods import CATALOGUE

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["README.md", "docs/rules.md"])
def test_python_blocks_run(page, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    images, targets = inputs(torch.float32)
    names = {"model": network("vgg16", torch.float32), "images": images[:2], "targets": targets[0, :2]}
    with patch.dict(CATALOGUE):  # a page may register a method
        for block in blocks:
            exec(compile(block, page, "exec"), names)
    assert "abslrp" in capsys.readouterr().out


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


def test_links_lead_to_files():
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


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


@pytest.mark.parametrize("target", commands(r"(?m)(?:^|`)make ([a-z]+)"))
def test_targets_of_make_exist(target):
    known = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert target in known
