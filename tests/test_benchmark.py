"""The benchmark's machinery on tiny sizes; what it says of a busy machine; its exit code."""

import csv
import importlib.util
import math
import random
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "relevance_speed.py"


@pytest.fixture(scope="module")
def speed():
    spec = importlib.util.spec_from_file_location("relevance_speed", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_quick_form_measures_what_has_bounds(speed, tmp_path, capsys):
    out = tmp_path / "speed.csv"
    small = ["--quick", "--size", "32", "--batch", "1", "--repetitions", "1", "--threads", "1", "--out", str(out)]
    assert speed.main(small) == 0, "without --check it only says"
    text = capsys.readouterr().out
    for model in ("vgg16", "resnet50"):
        for contestant, limit in (("lrp_alpha1_beta0", 3.0 if model == "vgg16" else 3.5), ("lrp_epsilon", None)):
            assert f"{model} {contestant}: " in text and (limit is None or f"at most {limit}" in text)
        assert f"{model} abslrp: " in text and f"{model} attribution_equilibrium: " in text
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == 2 * 7 and all(float(row["forwards"]) > 0 for row in rows)
    assert all(math.isnan(float(row["memory"])) for row in rows), "nothing is counted"


def test_ucag_beside_enlarged_images(capsys):
    """Counts are those of any machine: patches have 36 x (52 / 32)^2 times the pixels, or less where sizes are odd."""
    spec = importlib.util.spec_from_file_location("unfold_and_conquer_cost", FILE.with_name("unfold_and_conquer.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    small = ["--models", "vgg16", "--size", "32", "--width", "0.0625", "--images", "1", "--repetitions", "1"]
    module.main([*small, "--threads", "1", "--device", "cpu"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| vgg16")]
    times = {cells[1]: (float(cells[5]), float(cells[7].rstrip(" |"))) for cells in lines}
    assert len(times) == 7 and times["grad_cam, 1x"] == (1, 1)
    operations, memory = times["ucag_grad_cam, 16 at once"]
    assert operations > times["grad_cam, 5x"][0] > times["grad_cam, 2x"][0] > 1
    assert operations == times["ucag_grad_cam, 1 at once"][0] and memory > times["ucag_grad_cam, 1 at once"][1]


SMALL = [
    "--models",
    "vgg16",
    "--methods",
    "lrp_epsilon",
    "--size",
    "32",
    "--batch",
    "1",
    "--repetitions",
    "1",
    "--threads",
    "1",
]


def test_the_full_form_counts(speed, capsys):
    speed.main([*SMALL, "--peers", "none"])
    line = next(line for line in capsys.readouterr().out.splitlines() if "| lrp_epsilon |" in line)
    assert 1.9 < float(line.split("|")[5]) < 2.1, "operations: forward and backward"


@pytest.mark.parametrize(("limit", "code"), [(0.0, 1), (1e9, 0)])
def test_with_check_a_bound_that_does_not_hold_fails(speed, monkeypatch, limit, code):
    monkeypatch.setattr(speed, "FORWARDS", {("vgg16", "lrp_epsilon"): limit})
    assert speed.main(["--quick", "--check", *SMALL]) == code
    assert speed.main(["--quick", *SMALL]) == 0


def test_ratios_hold_on_a_busy_machine(speed):
    """Rounds that are slowed down up to twentyfold, and drift while they last, give the ratios of an idle machine."""
    true = {speed.PLAIN: 1.0, "abslrp": 3.0, "literal absLRP": 9.9, "lrp_epsilon": 2.0}
    generator, rounds = random.Random(0), []
    for _ in range(9):
        load = [generator.uniform(1, 20)]

        def turn(name, load=load):
            load[0] *= generator.uniform(0.97, 1.03)
            return true[name] * load[0]

        rounds.append(speed.one_round(turn, {name: 3 if name == "lrp_epsilon" else 1 for name in true}))
    for name, seconds in true.items():
        ratios = sorted(turns[name].forwards for turns in rounds)
        assert ratios[4] == pytest.approx(seconds, rel=0.02)
    assert speed.faster(rounds, "abslrp") == pytest.approx(3.3, rel=0.03)
    assert math.isnan(speed.faster(rounds, "lrp_epsilon"))


def test_what_is_promised(speed):
    assert speed.FORWARDS == {
        ("vgg16", "lrp_alpha1_beta0"): 3.0,
        ("resnet50", "lrp_alpha1_beta0"): 3.5,
        ("vgg16", "lrp_epsilon"): 2.2,
        ("resnet50", "lrp_epsilon"): 2.5,
    }
    assert speed.FASTER == {"abslrp": 3.0, "attribution_equilibrium": 2.0}
    for architecture, method in speed.FORWARDS:
        assert architecture in speed.parsed([]).models and method in speed.parsed(["--quick"]).methods
    assert set(speed.FASTER) <= set(speed.parsed(["--quick"]).methods)


def test_the_share_of_deletion_and_insertion_is_measured(monkeypatch, capsys):
    """Both protocols on both narrow networks; the loop's areas are compared; only --check minds a share."""
    spec = importlib.util.spec_from_file_location(
        "deletion_insertion_benchmark", FILE.with_name("deletion_insertion.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    small = ["--images", "3", "--size", "32", "--threads", "1", "--device", "cpu"]
    monkeypatch.setattr(module, "WANTED", 0.0)
    assert module.main([*small, "--check"]) == 0
    text = capsys.readouterr().out
    assert text.count("of the time in the network") == 4 and text.count("times the speed of a loop") == 2
    monkeypatch.setattr(module, "WANTED", 1.0)
    assert module.main(small) == 0 and module.main([*small, "--check"]) == 1
