"""What a run costs: laws of the estimate, the schedule against small graphs, and runs that were really made."""

import csv
import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from relmap.catalogue.papers import read_papers
from relmap.cli.runs import config_of_run, costs_of
from relmap.errors import InputError
from relmap.job.config import load
from relmap.job.costs import START_SECONDS, Costs, Network, Scale, repeats_of, wall_seconds, work_of
from relmap.job.listing import Job, jobs_of, read_jobs

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "resources"
PLAIN = Network(operations=1e6, rates=(1e10, 2e10, 8e10), weights_mb=100)
SCALE = Scale(
    {"resnet50": PLAIN, "vgg16": replace(PLAIN, operations=4e6)}, {"saliency": (3.5, 2, 1), "rise": (240, 200, 200)}
)
CONFIG = load({"papers": ["clam"]})


def job(kind="attribute", place="imagenet/vgg16/plain", made=("saliency",), **settings):
    outputs = tuple(f"results/a/maps/imagenet/vgg16/{method}.{end}" for method in made for end in ("zarr", "json"))
    given = {"parts": 1, "inputs": (), "outputs": outputs, "threads": 1, "network": True, "memory_mb": 1000}
    return Job(**{"rule": kind, "kind": kind, "place": place, **given, **settings})


def line(rule="attribute", place="imagenet/vgg16/plain", **values):
    given = {"run": "a", "seconds": 14.0, "effort": 1.0, "extent": 1.0, "bytes": 0}
    return {name: str(value) for name, value in {"rule": rule, "place": place, **given, **values}.items()}


def test_a_rate_lies_between_those_that_were_measured():
    assert [PLAIN.rate(width) for width in (0.125, 0.25, 1.0)] == pytest.approx([1e10, 2e10, 8e10])
    assert PLAIN.rate(0.5) == pytest.approx(4e10), "halfway in logarithms"
    assert PLAIN.rate(0.01) == PLAIN.rate(0.125) and PLAIN.rate(2) == PLAIN.rate(1)
    assert PLAIN.seconds(100, 0.25) == pytest.approx(100 * 1e6 / 16 / 2e10)


def test_networks_and_methods_that_nobody_measured_are_like_others():
    assert SCALE.network("c3_resnet50_3") is SCALE.networks["resnet50"], "a training of one of its architecture"
    assert SCALE.network("resnet50_squash") is SCALE.networks["resnet50"] is SCALE.network("mine")
    assert SCALE.passes("saliency", {}) == 3.5 and SCALE.passes("saliency", {}, counted=True) == 2
    assert SCALE.passes("saliency_of_mine", {}) == 3.5, "a variant"
    assert SCALE.passes("rise", {"rise": {"masks": 8000}}) == 240 * 40
    assert SCALE.passes("score_cam", {}) == (3.5 + 240) / 2
    assert SCALE.passes("lime", {"lime": {"samples": 500}}) == 500
    assert SCALE.passes("extremal", {"extremal": {"iterations": 500}}) == 1500, "with the gradient"
    assert repeats_of({"steps": 20, "percents": [10, 20, 30], "sigma": 50, "draws": None}) == 60
    with pytest.raises(InputError, match=r"networks\.csv: absent"):
        Scale.read(ROOT / "docs")


def test_work_grows_with_images_pixels_methods_and_width():
    one = work_of(job(), CONFIG, SCALE)
    entry = CONFIG["models"]["vgg16"]
    images = entry["max_images"]
    assert one.operations == pytest.approx(images * entry["input_size"] ** 2 * 4e6 * entry["width"] ** 2 * 2)
    assert work_of(job(made=["saliency", "saliency_b"]), CONFIG, SCALE).effort == pytest.approx(2 * one.effort)
    assert work_of(job(made=["saliency"], parts=2), CONFIG, SCALE).extent == pytest.approx(one.extent / 2, rel=0.01)
    wide = load({"papers": ["clam"], "models": {"vgg16": {"width": 1.0}}})
    grown = work_of(job(), wide, SCALE)
    assert grown.effort / one.effort == pytest.approx(64 / 8), "64 times the operations, each eight times as fast"
    assert grown.operations == pytest.approx(64 * one.operations) and grown.extent == one.extent
    scored = job("score", "imagenet/vgg16/lerf", (), inputs=("a.zarr", "b.zarr"))
    lerf = CONFIG["evaluation"]["lerf"]
    assert work_of(scored, CONFIG, SCALE).extent == 2 * lerf["images"], "its cap"
    more = load({"papers": ["clam"], "evaluation": {"lerf": {"steps": 2 * lerf["steps"]}}})
    assert work_of(scored, more, SCALE).effort == pytest.approx(2 * work_of(scored, CONFIG, SCALE).effort)


def test_layers_that_are_trained_several_times_take_as_much_longer():
    trained = job("train_cla_layers", "imagenet/vgg16/clam", ())
    five = load({"papers": ["clam"], "clam": {"trainings": 5}})
    once, often = (work_of(trained, config, SCALE) for config in (CONFIG, five))
    assert often.effort == pytest.approx(5 * once.effort) and often.extent == pytest.approx(5 * once.extent)


def test_a_job_takes_its_start_and_grows_from_the_most_like_it():
    work = work_of(job(), CONFIG, SCALE)
    lines = [
        line(effort=work.effort / 3, seconds=START_SECONDS + 10, bytes=100, extent=work.extent / 2),
        line(place="voc2007/vgg16/plain", effort=work.effort, seconds=1000),
        line(place="imagenet/vgg16/clam", effort=work.effort, seconds=5000),
        line(run="guess", effort=work.effort, seconds=9),
    ]
    cost = Costs(lines, SCALE, {}, throughput=work.operations / 7).of(job(), CONFIG)
    assert cost.seconds == pytest.approx(START_SECONDS + 3 * 10) and cost.source == "a/attribute/imagenet/vgg16/plain"
    assert cost.bytes == 200 and cost.gpu_seconds == pytest.approx(START_SECONDS + 7)
    busier = line(effort=work.effort / 3, seconds=40, bytes=100, extent=work.extent / 2)
    assert Costs([busier, *lines], SCALE, {}).of(job(), CONFIG).seconds == cost.seconds, "of two alike the faster"
    other = Costs(lines[1:], SCALE, {}).of(job(), CONFIG)
    assert other.source == "a/attribute/voc2007/vgg16/plain", "of another data set rather than of another arm"
    none = Costs(lines[3:], SCALE, {}).of(job(), CONFIG)
    assert none.source == "" and none.seconds == START_SECONDS, "a guess is nobody's measurement"
    short = Costs([line(seconds=1.5, effort=work.effort)], SCALE, {}).of(job(), CONFIG)
    assert short.seconds == 1.5, "shorter than a start"
    got = Costs([], SCALE, {"a.tar": 1e9}, bandwidth=1e8).of(job("retrieve_file", "", outputs=("d/a.tar",)), CONFIG)
    assert got.seconds == START_SECONDS + 10 and got.bytes == 1e9


def chain(*edges, threads=1, count=None, network=False):
    """Jobs, one a number, and which needs which."""
    count = count or 1 + max(max(edge) for edge in edges)
    return [
        job(
            inputs=tuple(str(below) for below, above in edges if above == place),
            outputs=(str(place),),
            threads=threads,
            network=network,
        )
        for place in range(count)
    ]


def test_the_schedule_of_small_graphs():
    row = chain((0, 1), (1, 2))
    assert wall_seconds(row, [1, 2, 3], 8) == 6, "a chain waits for itself"
    assert wall_seconds(row, [1, 2, 3], 8, between=1) == 9
    free = chain(count=4)
    assert [wall_seconds(free, [3, 3, 3, 3], cores) for cores in (1, 2, 3, 4, 9)] == [12, 6, 6, 3, 3]
    assert wall_seconds(chain(count=4, threads=4), [3] * 4, 4) == 12, "each takes all cores"
    assert wall_seconds(chain(count=4, threads=9), [3] * 4, 4) == 12, "as many as there are"
    assert wall_seconds(chain(count=4, network=True), [3] * 4, 8, gpus=2) == 6
    # A long chain first: begun last, it would end at 11.
    assert wall_seconds(chain((2, 3), count=4), [5, 5, 1, 9], 2) == 10
    assert wall_seconds([], [], 2) == 0


def test_more_cores_never_take_longer_and_never_less_than_the_work():
    jobs, seconds = chain((0, 3), (1, 3), (2, 4), (3, 5), (4, 5), count=9), [2, 7, 3, 4, 6, 1, 5, 5, 8]
    taken = [wall_seconds(jobs, seconds, cores) for cores in range(1, 10)]
    assert taken[0] == sum(seconds) and taken == sorted(taken, reverse=True)
    assert taken[-1] == 12, "the longest chain"
    assert all(time >= sum(seconds) / cores for cores, time in enumerate(taken, 1))


@pytest.fixture(scope="module")
def toy():
    return jobs_of(ROOT, ROOT / "tests/toy/config.yaml", cores=2, anew=True)


def test_jobs_are_told_of_as_snakemake_has_them(toy):
    kinds = {each.kind for each in toy}
    assert {"attribute", "score", "predict", "render_dataset", "tabulate"} <= kinds and "all" not in kinds
    explained = next(each for each in toy if each.kind == "attribute")
    assert explained.place == "toy/toy_net/plain" and explained.rule == "attribute_toy_toy_net"
    assert explained.network and explained.memory_mb >= 500 and explained.parts == 1
    assert any(path.endswith(".zarr") for path in explained.outputs)
    predicted = next(each for each in toy if each.kind == "predict")
    assert set(predicted.outputs) <= set(explained.inputs), "one's outputs are another's inputs"
    assert read_jobs("\n".join(json.dumps(each.__dict__) for each in toy)) == toy
    with pytest.raises(InputError, match=r"snakemake cannot plan this: .*no_such_rule"):
        jobs_of(ROOT, None, ["no_such_rule"])


def test_divided_jobs_are_each_a_share(toy, tmp_path):
    divided = yaml.safe_load((ROOT / "tests/toy/config.yaml").read_text()) | {"compute": {"parts": 3}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(divided))
    shares = jobs_of(ROOT, tmp_path / "config.yaml", anew=True)
    divided = [each for each in shares if each.kind == "attribute"]
    whole = next(each for each in toy if each.kind == "attribute")
    assert [each.parts for each in divided] == [3, 3, 3] and {each.place for each in divided} == {whole.place}
    config = load({"papers": [], "compute": {"parts": 3}})
    efforts = [work_of(replace(each, place="imagenet/vgg16/plain"), config, SCALE).effort for each in divided]
    assert sum(efforts) == pytest.approx(
        work_of(replace(whole, place="imagenet/vgg16/plain"), config, SCALE).effort, rel=0.01
    )


def test_the_tables_cover_the_catalogue():
    from relmap.catalogue.methods import CATALOGUE
    from relmap.catalogue.models import MODELS

    scale = Scale.read(TABLES)
    assert set(scale.networks) <= set(MODELS) and set(scale.methods) <= set(CATALOGUE)
    makers = {MODELS[name].maker for name in scale.networks}
    assert makers == {row.maker for row in MODELS.values() if row.maker}, "python benchmarks/networks.py"
    vgg = scale.networks["vgg16"]
    assert vgg.operations * 224**2 == pytest.approx(2 * 15.47e9, rel=0.01), "15.5 G multiplications"
    assert vgg.weights_mb == pytest.approx(4 * 138.36, rel=0.01), "138 million weights"
    assert all(0 < rate < 1e13 for network in scale.networks.values() for rate in network.rates)


with open(TABLES / "runs.csv", newline="", encoding="utf-8") as file_:
    RUNS = list(csv.DictReader(file_))


@pytest.mark.parametrize("run", RUNS, ids=[run["name"] for run in RUNS])
def test_runs_that_were_made_are_told_within_a_quarter(run):
    """Nothing else to speak of was at work then. Of demo and clam the table has lines; of smoke it has none.

    Of a small run most bytes are figures', which are told as large as the default run's, too large.
    """
    configfile = ROOT / run["configfile"] if run["configfile"] else None
    settings = [run["settings"]] if run["settings"] else []
    config = config_of_run(ROOT, configfile, settings)
    found = costs_of(ROOT, config, configfile, settings=settings, cores=int(run["cores"]), anew=True)
    assert abs(math.log(found["seconds"] / float(run["wall_seconds"]))) < math.log(1.25), found["seconds"]
    if run["bytes"]:
        assert abs(math.log(found["bytes"] / float(run["bytes"]))) < math.log(1.25), found["bytes"]


def test_the_readme_has_what_papers_cost():
    spec = importlib.util.spec_from_file_location("costs_page", ROOT / "docs/site/costs.py")
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    text = (ROOT / "README.md").read_text()
    assert page.line("c3lrp") in text.splitlines(), "python docs/site/costs.py README.md"
    between = text[text.index("<!-- costs -->") : text.index("<!-- /costs -->")]
    assert between.count("config/paper.yaml") == len(read_papers(ROOT / "papers")) == 5


def test_a_plan_tells_all_of_it(toy):
    config = load({"papers": []})
    found = costs_of(ROOT, config, ROOT / "tests/toy/config.yaml", cores=2, anew=True)
    assert found["jobs"] == len(toy) == sum(rule["jobs"] for rule in found["rules"].values())
    assert found["stores"] == sum(path.endswith(".zarr") for each in toy for path in each.outputs)
    assert found["core_hours"] > 0 == found["gpu_hours"] and found["retrieved_bytes"] == 0
    assert found["seconds"] >= 3600 * found["core_hours"] / 2
