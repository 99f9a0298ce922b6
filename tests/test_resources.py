"""What jobs ask a scheduler for: measured, scaled by size, more at each attempt; and the profiles that use it."""

import contextlib
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from relmap.errors import InputError
from relmap.job.config import dump, load
from relmap.job.costs import Scale
from relmap.job.listing import Job
from relmap.job.measuring import main, measure, methods_of
from relmap.job.resources import COLUMNS, GUESS, Measured, read_table
from relmap.job.sizes import Size, images_of, size
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "resources" / "measured.csv"
HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def line(rule="score", run="a", **values):
    given = {
        "place": "",
        "load": 90,
        "seconds": 60,
        "cpu_seconds": 0,
        "peak_mb": 1000,
        "images": 100,
        "work": 1e6,
        "frame": 1e5,
        "effort": 1,
        "extent": 1,
        "bytes": 0,
    } | values
    return {name: str(value) for name, value in {"run": run, "rule": rule, **given}.items()}


def job(kind, place, parts=1, inputs=(), outputs=()):
    return Job(f"{kind}_of", kind, place, parts, tuple(inputs), tuple(outputs), 1, True, 1000)


JOBS = [
    job("predict", "cub200_2011/vgg16", outputs=["results/demo/targets/cub200_2011/vgg16.parquet"]),
    job("predict", "cub200_2011/c3_resnet50_1"),
    job("build_manifest", "coco2014"),
    job(
        "score",
        "cub200_2011/vgg16/gae",
        4,
        ["a.zarr"],
        ["results/demo/parts/2-of-4/scores/cub200_2011/vgg16/gae.parquet"],
    ),
    job("draw", "never_run"),
]


@pytest.fixture
def run(tmp_path):
    """A run's folder with four benchmarks."""
    folder = tmp_path / "results" / "demo"
    config = load({"run": "demo"})
    for name, (seconds, memory, load_) in {
        "predict/cub200_2011/vgg16": (3.5, 480, 70),
        "predict/cub200_2011/c3_resnet50_1": (2.0, 520.4, 140),
        "build_manifest/coco2014": ("-", "-", "-"),
        "../parts/2-of-4/benchmarks/score/cub200_2011/vgg16/gae": (9, 700, 90),
    }.items():
        path = folder / "benchmarks" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{HEAD}{seconds}\t0:00:03\t{memory}\t0\t0\t0\t0\t0\t{load_}\t1\n")
    (folder / "config.yaml").write_text(dump(config))
    made = tmp_path / JOBS[0].outputs[0]
    made.parent.mkdir(parents=True)
    made.write_bytes(b"12345")
    return folder


def test_a_runs_lines_are_remade_and_those_of_others_stay(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("relmap.job.measuring.jobs_of", lambda *args, **settings: JOBS)
    shutil.copy(ROOT / "resources" / "networks.csv", tmp_path)
    shutil.copy(ROOT / "resources" / "methods.csv", tmp_path)
    table = tmp_path / "measured.csv"
    rows = [
        line("predict", "other", seconds=2),
        line("predict", "demo", seconds=9, place="old"),
        line("predict", "guess"),
        line("draw", "guess"),
    ]
    text = [",".join(COLUMNS), *(",".join(row[name] for name in COLUMNS) for row in rows)]
    table.write_text("\n".join(text) + "\n")
    main([str(run), str(tmp_path)])
    lines = {(entry["run"], entry["rule"], entry["place"]): entry for entry in read_table(table)}
    own = {("demo", each.kind, each.place) for each in JOBS[:4]}
    assert set(lines) == {("other", "predict", ""), ("guess", "draw", ""), *own}, (
        "a guess goes when its rule was measured"
    )
    assert lines["demo", "score", "cub200_2011/vgg16/gae"]["images"] == str(24 * 36 // 4), "a share of the work"
    predicted = lines["demo", "predict", "cub200_2011/vgg16"]
    assert [predicted[name] for name in ("seconds", "peak_mb", "load", "bytes")] == ["3.5", "480", "70", "5"]
    together = Measured(lines.values()).lines["predict"][0]
    assert [together[name] for name in ("seconds", "peak_mb", "load")] == [3.5, 520, 140], "of a run's jobs the most"
    models = load({})["models"]
    pixels = [models[name]["input_size"] ** 2 * models[name]["width"] for name in ("vgg16", "c3_resnet50")]
    assert together["frame"] == max(pixels) * 64
    unmeasured = lines["demo", "build_manifest", "coco2014"]
    assert unmeasured["seconds"] == "0.0", "a job that was too short to be measured"
    before = table.read_bytes()
    main([str(run), str(tmp_path)])
    assert table.read_bytes() == before
    with pytest.raises(InputError, match="no benchmarks"):
        measure(run, JOBS[4:], Scale.read(tmp_path))
    (run / "config.yaml").unlink()
    with pytest.raises(SystemExit, match=r"error: .*no config\.yaml; name the folder of a run that has ended"):
        main([str(run), str(tmp_path)])


def test_what_methods_cost_is_a_runs(run):
    assert methods_of(run) == []
    (run / "tables").mkdir()
    (run / "tables" / "cost.csv").write_text(
        "model,method,forward_equivalents,forwards\nvgg16,saliency,2,3.14159\nvgg16,rise,200,240\n"
    )
    assert methods_of(run) == [
        {"method": "rise", "passes": "240", "operations": "200", "repeats": "200"},
        {"method": "saliency", "passes": "3.142", "operations": "2", "repeats": "1"},
    ]


def test_sizes_follow_from_the_config():
    config = load({"models": {"vgg16": {"max_images": 50}}})
    assert images_of("cub200_2011", config["datasets"]["cub200_2011"]) == (24 * 60, 24 * 36)
    assert images_of("voc2007", config["datasets"]["voc2007"]) == (1800, 160)
    assert images_of("imagenet", {"source": "retrieve"}) == (1_281_167, 50_000)
    assert images_of("mine", {"source": "local", "format": "voc2007"}) == (5_011, 4_952)
    vgg = config["models"]["vgg16"]
    assert size(config, "predict", "cub200_2011", "vgg16").images == 50
    assert size(config, "build_manifest", "cub200_2011").images == 24 * 96
    trained = size(config, "pretrain_classifier", "imagenet", "vgg16")
    assert trained.work == 24 * 60 * vgg["input_size"] ** 2 * vgg["pretrain"]["epochs"]
    one, all_ = (size(config, "score", "cub200_2011", name) for name in ("c3_resnet50_3", "c3_resnet50"))
    assert one == all_, "a training is its model"
    wide = load({"models": {"vgg16": {"width": 1.0}}, "compute": {"batch_size": 32}})
    assert size(wide, "score", "imagenet", "vgg16").frame == 32 * 64**2
    share = size(config, "score", "cub200_2011", "vgg16", parts=8)
    assert (share.images, share.work) == (7, 7 * 64**2), "of eight jobs that divide 50 images"
    assert size(config, "tabulate").images == 24 * 36, "of the largest data set"


def test_needs_grow_with_the_size_and_never_fall_below_what_was_measured():
    measured = Measured([line(), line(run="b", seconds=600, peak_mb=3000, images=1000, work=1e8, frame=1e6)])
    at = [Size(10, 1e5, 1e4), Size(100, 1e6, 1e5), Size(500, 1e7, 5e5), Size(1000, 1e8, 1e6), Size(2000, 1e9, 1e7)]
    memory = [measured.memory_mb("score", one) for one in at]
    assert memory == [1800, 1800, 4800, 4800, 34500], "the nearest line above, then by pixels"
    tables = Measured([line("decide"), line("decide", "b", seconds=600, peak_mb=3000, images=1000)])
    assert [tables.memory_mb("decide", one) for one in at[3:]] == [4800, 8600], "of a table, by images"
    minutes = [measured.minutes("score", one) for one in at]
    assert minutes == [10, 10, 40, 40, 400]
    assert tables.minutes("decide", at[-1]) == 80
    same = Measured([line("explain_toys"), line("explain_toys", "b", seconds=600, peak_mb=3000)])
    assert same.minutes("explain_toys", at[-1]) == 40 and same.memory_mb("explain_toys", at[0]) == 4800
    shared = Measured([line(seconds=6000, cpu_seconds=600)])
    assert shared.minutes("score", at[1]) == 40, "others worked on that machine too"
    assert measured.threads("score") == 1 and Measured([line(load=320)]).threads("score") == 3
    with pytest.raises(InputError, match="no line of absent; run it and add its run's"):
        measured.minutes("absent", at[0])


def test_every_rule_has_been_measured_or_is_named_as_a_guess():
    asked = {
        rule
        for path in [*(ROOT / "workflow/rules").glob("*.smk"), *ROOT.glob("papers/*/*.smk")]
        for rule in re.findall(r'(?:memory|minutes|threads)_of\(\s*"(\w+)"', path.read_text())
    }
    lines = read_table(TABLE)
    measured = {entry["rule"] for entry in lines if entry["run"] != GUESS}
    guessed = {entry["rule"] for entry in lines if entry["run"] == GUESS}
    assert len(asked) > 40 and asked <= measured | guessed and not measured & guessed


def planned_jobs(folder, configfile):
    """The planned jobs of a config."""
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        planned = api.workflow(
            resource_settings=ResourceSettings(cores=16),
            config_settings=ConfigSettings(configfiles=[ROOT / configfile]),
            snakefile=ROOT / "Snakefile",
            workdir=folder,
        )
        with contextlib.redirect_stdout(io.StringIO()):
            planned.dag(DAGSettings()).printrulegraph()
        yield from planned._workflow.dag.jobs


def test_every_job_asks_for_memory_time_and_threads_and_for_more_when_it_failed(tmp_path):
    asked, local = 0, set()
    for job in planned_jobs(tmp_path, "tests/toy/config.yaml"):
        first = dict(job.resources.items())
        if "mem_mb" not in first:
            local.add(job.rule.name)
            continue
        assert first["mem_mb"] >= 500 and first["runtime"] >= 10 and job.threads >= 1, job.rule.name
        job.attempt = 2
        job.reset_params_and_resources()
        assert job.resources["mem_mb"] == 2 * first["mem_mb"], job.rule.name
        assert job.resources["runtime"] == 2 * first["runtime"], job.rule.name
        asked += 1
    assert asked > 12 and local == {"all", "write_config", "record_provenance"}, "which run where Snakemake runs"


@pytest.mark.parametrize("profile", ["workstation", "slurm", "kubernetes"])
def test_profiles_plan_what_the_default_plans(profile, tmp_path):
    """A plan needs no cluster."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    command += ["--workflow-profile", str(ROOT / "profiles" / profile)]
    command += ["--configfile", str(ROOT / "tests/toy/config.yaml")]
    cores = ["--cores", "2"] if profile == "workstation" else []
    run = subprocess.run([*command, *cores, "--dry-run"], capture_output=True, text=True, cwd=ROOT, check=False)
    said = run.stdout + run.stderr
    assert run.returncode == 0, said[-2000:]
    assert re.search(r"^total +\d\d$", said, re.MULTILINE)
    assert re.search(r"^score_maps_toy_toy_net +1$", said, re.MULTILINE)
