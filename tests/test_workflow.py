"""The workflow's graph: it resolves for every config, offline, and refuses wrong ones in one line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMK = sorted([*(ROOT / "workflow" / "rules").glob("*.smk"), *ROOT.glob("papers/*/*.smk")])


def snakemake(folder, *arguments):
    """Run Snakemake in an empty folder, as `make test` does."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--cores", "1", "--workflow-profile", "none", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)


def jobs(text):
    """Jobs per rule, from a dry run's summary."""
    table = re.search(r"Job stats:\n.*?\n-+ +-+\n(.*?)\n\n", text, re.DOTALL)
    assert table, text[-3000:]
    return {line.split()[0]: int(line.split()[1]) for line in table[1].splitlines()}


def planned(folder, *arguments):
    run = snakemake(folder, "--dry-run", *arguments)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return jobs(run.stdout + run.stderr)


def test_paper_scale_resolves_without_data(tmp_path):
    counts = planned(tmp_path, "--configfile", "config/paper.yaml")
    # A chain for each network on two data sets, and case 1's on ResNet-50.
    assert counts["train_cla_layers"] == 2 * (2 + 1)
    # CUB, ImageNet, VOC 2007 and 2012, COCO, ImageNet-Segmentation; torchvision's six networks, TorchRay's and timm's
    # four each; the three files of the classifier of sentences.
    assert counts["retrieve_file"] == 2 + 4 + 2 + 1 + 3 + 1 + 6 + 4 + 4 + 3
    assert counts["unpack_archive"] == 2 + 4 + 2 + 1 + 3
    assert counts["convert_weights"] == 6 + 4 and counts["convert_weights_of_several"] == 4
    assert counts["train_multilabel"] == 3, "absLRP's classifiers of VOC 2012 are not published"
    assert not {"render_dataset", "pretrain_classifier", "score_attributes"} & counts.keys()


@pytest.mark.parametrize("asked", [["--config", "run=c3lrp", "papers=[c3lrp]"], ["--", "c3lrp"]])
def test_one_paper_retrieves_what_it_needs(asked, tmp_path):
    """A paper on birds alone takes ResNet-50's weights without the pictures of ImageNet, where the run shows none."""
    counts = planned(tmp_path, "--configfile", "config/paper.yaml", *asked)
    of_birds = 2 + 1
    assert counts["retrieve_file"] == of_birds + (4 if asked[0] == "--" else 0), "another paper of the run shows them"
    assert counts["predict"] == 11
    assert counts["convert_weights"] == 1


def test_data_sets_of_paper_scale_are_retrieved_and_unpacked(tmp_path):
    """ImageNet-Segmentation is no archive, and takes its classes from ImageNet's manifest."""
    targets = [f"results/paper/manifests/{name}.parquet" for name in ("voc2007", "coco2014", "imagenet_segmentation")]
    counts = planned(tmp_path, "--configfile", "config/paper.yaml", "--", *targets)
    assert counts["build_manifest"] == 4
    assert counts["retrieve_file"] == 2 + 3 + 1 + 4
    assert counts["unpack_archive"] == 2 + 3 + 4
    alone = ["--configfile", "config/paper.yaml", "--config", "training={base: voc2007}", "datasets={imagenet: null}"]
    run = snakemake(tmp_path, "--dry-run", *alone, "papers=[]", "--", targets[2])
    assert run.returncode and "takes its classes from imagenet, which `datasets` leaves out" in run.stdout + run.stderr


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The default run's jobs."""
    return planned(tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="module")
def clam(tmp_path_factory):
    """The jobs of a run of CLAM alone."""
    return planned(tmp_path_factory.mktemp("clam"), "--config", "papers=[clam]")


def test_default_trains_what_the_papers_train(default):
    assert default["pretrain_classifier"] == 6 + 3
    # CLAM's two, and the authors' form of ABN; what differs in the seed alone is trained by one job.
    assert default["finetune_classifier"] == 2 + 1
    assert default["finetune_cub200_2011_c3_resnet50"] == default["finetune_cub200_2011_abn_resnet50"] == 1
    assert default["train_multilabel"] == 4 + 3 and default["compose_grids"] == 1
    assert default["reuse_classifier_of_base"] == 1, "timm's ResNet-50 is torchvision's where both are trained here"
    assert default["reuse_classifier"] == 4, "three on ImageNet-Segmentation, one slid over the grids"
    assert default["reuse_classifier_in_another_form"] == 3 + 1 + 2, "squashed, also there, and behind an adaptive pool"
    assert {"tabulate_ae", "decide_ae", "draw_ae_maps", "draw_ae_examples", "draw_ae_curves", "draw_ae_grids"} <= (
        default.keys()
    )


def test_c3lrp_trains_as_many_networks_as_it_is_asked_for(tmp_path):
    """Five of each, two, or all but one; at the paper's scale each is a job, for it takes hours."""

    def of(*arguments):
        counts = planned(tmp_path, *arguments)
        return {k for k in range(5) if f"attribute_cub200_2011_c3_resnet50_{k}" in counts}, counts

    alone = ["--config", "papers=[c3lrp]"]
    networks, counts = of(*alone)
    assert networks == set(range(5)) and counts["predict"] == 5 + 5 + 1
    assert counts["score"] == counts["predict"] + 3, "minimal pairs: one training of each of the two, and the third"
    assert {"compare_ties", "count_masks", "measure_price", "draw_c3lrp_maps", "decide_c3lrp"} <= counts.keys()
    (tmp_path / "two.yaml").write_text("papers: [c3lrp]\nmodels: {c3_resnet50: {trainings: 2}}\n")
    assert of("--configfile", tmp_path / "two.yaml")[0] == {0, 1}
    assert of(*alone, "models={c3_resnet50_1: null}")[0] == {0, 2, 3, 4}
    networks, counts = of("--configfile", "config/paper.yaml", *alone)
    assert networks == set(range(5)) and counts["finetune_classifier"] == 11


def test_clam_trains_what_it_trains(clam):
    default = clam
    assert default["pretrain_classifier"] == default["finetune_classifier"] == 2
    pairs = [f"{dataset}_{model}" for dataset in ("cub200_2011", "imagenet") for model in ("vgg16", "resnet50")]
    jobs = {f"attribute_{pair}{arm}" for pair in pairs for arm in ("", "_clam", "_untrained")}
    assert {name for name in default if name.startswith("attribute_")} == jobs | {"attribute_imagenet_resnet50_case1"}
    assert default["score"] == 4 + 2, "perturbation asks the network, minimal pairs those of birds"
    maps = {name for name in default if name.startswith("score_maps_")}
    assert maps == {f"score_maps_{pair}" for pair in pairs}, "pointing, and segmentation on the birds"
    assert default["score_attributes"] == 2
    assert default["compare_methods"] == default["measure_cost"] == default["render_gallery"] == 1
    assert {"tabulate_clam", "decide_clam", "write_report"} <= default.keys()


def test_jobs_may_divide_the_pairs_and_another_puts_them_together(tmp_path, clam):
    config = tmp_path / "parts.yaml"
    config.write_text("papers: [clam]\ncompute: {parts: 3}\n")
    counts = planned(tmp_path, "--configfile", config)
    assert counts == planned(tmp_path, "--config", "papers=[clam]", "--set-scatter", "pairs=3")
    parts = {name for name in clam if name.startswith("attribute_")}
    assert all(counts[name] == 3 and counts[name.replace("attribute", "gather")] == 1 for name in parts)
    maps = {name for name in clam if name.startswith("score_maps_")}
    assert maps and all(counts[f"{name}_part"] == 3 for name in maps)
    assert counts["score_part"] == 3 * clam["score"]
    others = parts | maps | {"score", "total"}
    assert {name: counts[name] for name in clam.keys() - others} == {name: clam[name] for name in clam.keys() - others}


def test_smoke_is_the_same_graph(tmp_path, default):
    smoke = planned(tmp_path, "--configfile", "config/smoke.yaml").keys()
    assert smoke <= default.keys()
    # Networks that have learned nothing are sure of no picture.
    of_grids = {"compose_grids", "attribute_imagenet_grids_vgg16_sliding", "threshold_grids", "draw_ae_grids"}
    # Networks and data sets whose jobs are those of others; two of five trainings, and one form of ABN.
    others = (
        "voc2012",
        "coco2014",
        "torchray_resnet50",
        "resnet50_ram",
        "alexnet",
        "densenet121",
        "inception_v3",
        "vgg19",
        "vgg16_sliding",
    )
    others += ("patch32", "patch16_384", "resnet50_official", *(f"resnet50_{k}" for k in (2, 3, 4)))
    left_out = {
        name for name in default if name.startswith(("attribute_", "score_maps_")) and any(map(name.count, others))
    }
    assert default.keys() - smoke == of_grids | left_out | {"reuse_classifier_of_base", "explain_patches"}


def test_minimal_pairs_are_of_rendered_birds(tmp_path):
    """One job a network of the birds, which takes CLAM's layers; where the birds are not rendered there is none."""
    scores = [f"results/demo/scores/cub200_2011/{model}/minimal_pairs.parquet" for model in ("vgg16", "resnet50")]
    counts = planned(tmp_path, "--config", "papers=[clam]", "--", *scores)
    assert counts["score"] == 2 and counts["attribute_cub200_2011_vgg16_clam"] == counts["initialise_cla_layers"] / 2
    run = snakemake(tmp_path, "--dry-run", "--configfile", "config/paper.yaml", "--", "leaderboard")
    assert run.returncode == 0 and "minimal_pairs.parquet" not in run.stdout + run.stderr


def test_target_of_the_paper(tmp_path, clam):
    assert clam.keys() - planned(tmp_path, "clam").keys() == {
        "all",
        "write_config",
        "record_provenance",
        "pack_gallery",
        "write_report",
        "compare_methods",
        "measure_cost",
        "tabulate_leaks",
        "lay_out_engine",
        "render_gallery",
        "render_training",
        "tabulate_accuracies",
        "rank_methods",
        "render_leaderboard",
        "compare_siblings",
        "render_minimal_pairs",
    }


def test_a_run_takes_what_it_has(tmp_path, default):
    """Without a data set, a model, a paper or any: what can be made is planned, and no more."""
    birdless = planned(tmp_path, "--config", "datasets={cub200_2011: null}")
    assert {"attribute_imagenet_vgg16", "attribute_imagenet_resnet50_case1", "draw_clam_curves"} <= birdless.keys()
    assert not {"finetune_classifier", "score_attributes", "ablate_clam", "draw_clam_layers"} & birdless.keys()
    assert not [name for name in birdless if "cub200" in name]
    single = planned(tmp_path, "--config", "models={vgg16: null}")
    assert single["pretrain_classifier"] == 5 + 3 and not [name for name in single if "vgg16" in name]
    lacking = planned(tmp_path, "--config", "papers=[c3lrp]", "datasets={cub200_2011: null}")
    assert "tabulate_c3lrp" in lacking and not [n for n in lacking if n.startswith(("attribute", "pretrain"))]
    nothing = planned(tmp_path, "--config", "papers=[]")
    assert "rank_methods" not in nothing and "rank_methods" not in lacking
    assert "compare_methods" in nothing and not [
        name for name in nothing if name.startswith(("attribute", "tabulate_c"))
    ]
    five = planned(tmp_path, "--config", "papers=[clam,ae,abslrp,ucag,c3lrp]")
    assert {name for name in default if name.startswith("attribute")} <= five.keys()


def test_a_papers_method_is_read_by_the_jobs_that_make_its_maps(tmp_path):
    """An edit of CLAM's layers remakes what CLAM makes, and no map or table of another method or paper."""
    run = snakemake(tmp_path, "--filegraph")
    assert run.returncode == 0, run.stderr[-3000:]
    nodes = [node.split("output &rarr;")[0] for node in re.split(r"\n\d+ \[ shape", run.stdout)[1:]]
    inputs = {re.search(r'point-size="18">(\w+)<', node)[1]: node for node in nodes}

    def readers(name):
        return {rule for rule, node in inputs.items() if f"papers/clam/cla/{name}</font>" in node}

    pairs = [f"{dataset}_{model}" for dataset in ("cub200_2011", "imagenet") for model in ("vgg16", "resnet50")]
    maps = {f"attribute_{pair}_{arm}" for pair in pairs for arm in ("clam", "untrained")}
    maps |= {"attribute_imagenet_resnet50_case1"}
    assert readers("refined.py") == maps | {"ablate_clam", "ablate_explainers", "relate_images"}
    on_layers = {"index_training_images", "initialise_cla_layers", "train_cla_layers", "score_attributes"}
    assert readers("layer.py") == readers("refined.py") | on_layers
    makers = {"initialise_cla_layers", "train_cla_layers"}
    assert readers("layers.py") == makers | {"tabulate_clam", "decide_clam", "write_report"}


def test_sentences_of_abslrp(tmp_path):
    """Figure 9's classifier is trained, retrieved, or a folder of one's own, whose files are asked for at once."""
    table = "results/demo/tables/abslrp_sentiment.csv"

    def of(weights):
        return ["--config", "papers=[abslrp]", f"abslrp={{sentiment: {{weights: {weights}}}}}", "--", table]

    assert {"train_sentiment", "explain_sentences"} <= planned(tmp_path, *of("train")).keys()
    retrieved = planned(tmp_path, *of("retrieve"))
    assert retrieved["retrieve_file"] == 3 and "train_sentiment" not in retrieved
    (tmp_path / "own").mkdir()
    for name in ("model.safetensors", "config.json"):
        (tmp_path / "own" / name).touch()
    run = snakemake(tmp_path, "--dry-run", *of("own"))
    assert run.returncode and "`abslrp.sentiment.weights`: no file own/vocab.txt" in run.stdout + run.stderr
    (tmp_path / "own" / "vocab.txt").touch()
    own = planned(tmp_path, *of("own"))
    assert "explain_sentences" in own and not {"train_sentiment", "retrieve_file"} & own.keys()


def test_engine_needs_classifiers_alone(tmp_path, default):
    counts = planned(tmp_path, "engine")
    assert {"compare_methods", "measure_cost", "render_gallery", "predict"} <= counts.keys()
    assert not {name for name in counts if name.startswith(("attribute_", "score", "train_"))}
    assert "measure_cost" not in planned(tmp_path, "gallery")


def test_one_job_packs_the_gallery_after_all_maps(tmp_path, default):
    """Whatever the number of networks; nothing of it where no paper asks for maps, and no other job waits for it."""
    assert default["pack_gallery"] == 1
    counts = planned(tmp_path, "--config", "papers=[c3lrp]", "--", "results/demo/gallery")
    assert counts["pack_gallery"] == counts["attribute_cub200_2011_c3_resnet50_0"] == 1
    first = "attribute_cub200_2011_c3_resnet50_0"
    assert not {name for name in counts if name.startswith("attribute_cub200_2011_c3_") and name != first}, (
        "of five trainings the first"
    )
    assert not {name for name in counts if name.startswith(("score", "tabulate", "render_g", "draw"))}
    assert "pack_gallery" not in planned(tmp_path, "--config", "papers=[]")


def test_the_leaderboard_is_of_all_scores(tmp_path, default):
    counts = planned(tmp_path, "leaderboard")
    assert counts["rank_methods"] == counts["render_leaderboard"] == 1 and counts["score"] == default["score"] - 8, (
        "one training of five"
    )
    assert not {name for name in counts if name.startswith(("tabulate", "draw", "decide", "measure"))}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "seeed=3"], ["seeed", "`seed`"]),
        (["--config", "compute={device: gpu}"], ["compute.device", "auto, cpu, cuda"]),
        (
            ["--config", "clam={arms: {clam: {imagenet: {vgg16: [features.99]}}}}"],
            ["clam.arms.clam.imagenet.vgg16", "features.99", "features.28"],
        ),
        (["--config", "papers=[clamm]"], ["`papers`", "papers/clamm", "abslrp, ae, c3lrp, clam, ucag"]),
        (["--config", "datasets={imagenet: null}"], ["`training.base`", "`imagenet`"]),
        (["--configfile", "config/own.yaml"], ["`models.resnet50.weights`", "data/own/resnet50.safetensors"]),
        (["--config", "engine={methods: [lrp_epsilom]}"], ["`engine.methods.lrp_epsilom`", "`lrp_epsilon`"]),
    ],
)
def test_wrong_config_ends_in_one_line(tmp_path, arguments, words):
    run = snakemake(tmp_path, "--dry-run", *arguments)
    assert run.returncode != 0
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert all(word in errors[0] for word in words), errors[0]
    assert "Traceback" not in run.stdout + run.stderr
    assert not (tmp_path / "results").exists()


def test_scripts_ask_only_for_what_their_rules_give():
    """Every `params.x`, `input.x`, `output.x` of a script is named in the rule that runs it."""
    rules = "\n".join(path.read_text() for path in SMK)
    blocks = re.split(r"\n\s*rule\b", rules)
    for script in sorted([*(ROOT / "workflow" / "scripts").glob("*.py"), *ROOT.glob("papers/*/scripts/*.py")]):
        users = [block for block in blocks if re.search(rf'script:\s+"[^"]*scripts/{script.name}"', block)]
        assert users, f"no rule runs {script.name}"
        text = script.read_text()
        asked = {
            "params": set(re.findall(r"\bparams\.(\w+)", text)),
            "input": set(re.findall(r"\b(?:snakemake\.input|files|given)\.(\w+)", text)) - {"get"},
            "output": set(re.findall(r"\bsnakemake\.output\.(\w+)", text)),
        }
        for block in users:
            for kind, names in asked.items():
                section = re.search(rf"\n\s+{kind}:\n(.*?)(?=\n {{4,12}}\w+:\n|\Z)", block, re.DOTALL)
                given = set(re.findall(r"^\s+(\w+)=", section[1], re.MULTILINE)) if section else set()
                assert names <= given, f"{script.name} asks for {kind}.{sorted(names - given)}"


def test_rule_script_and_log_share_a_name():
    for path in SMK:
        for name, block in re.findall(r"^\s*rule (\w+):\n(.*?)(?=^\s*rule |\Z)", path.read_text(), re.DOTALL | re.M):
            assert f'"<logs>/{name}' in block, f"{name} logs elsewhere"
            script = re.search(r"scripts/(\w+)\.py", block)
            assert script is None or script[1] == name, f"{name} runs {script[1]}.py"
            for directive in ("log:", "message:", "params:" if "params." in block else "log:"):
                assert directive in block, f"{name} has no {directive}"


def test_two_papers_of_one_name_are_refused(tmp_path):
    (tmp_path / "ae").mkdir()
    for name in ("paper.yaml", "table1.csv", "table2.csv", "table3.csv"):
        (tmp_path / "ae" / name).write_text((ROOT / "papers" / "ae" / name).read_text())
    for papers in (f"[{tmp_path / 'ae'}]", f"[ae,{tmp_path / 'ae'}]"):
        run = snakemake(tmp_path, "--dry-run", "--config", f"papers={papers}")
        (line,) = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
        assert run.returncode != 0 and "'ae' is another's" in line


def test_another_workflow_can_take_it_in_as_a_module(tmp_path):
    """With a config of its own, from a folder of its own; Snakemake then calls the rules as that workflow does."""
    (tmp_path / "Snakefile").write_text(
        f"""
module relmap:
    snakefile: "{ROOT / "Snakefile"}"
    config: {{"papers": ["c3lrp"], "run": "mine"}}

use rule * from relmap as relmap_*

rule mine:
    default_target: True
    input: "results/mine/tables/c3lrp_table1.csv"
    output: "mine.csv"
    shell: "cp {{input}} {{output}}"
"""
    )
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    counts = jobs(run.stdout + run.stderr)
    assert counts["mine"] == counts["relmap_tabulate_c3lrp"] == 1 and counts["relmap_render_dataset"] == 2
    assert not [name for name in counts if "clam" in name]
