"""Someone's own photographs and weights, through the workflow as config/own.yaml has it."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from dataset_trees import annotation_xml, picture, save
from relmap.catalogue.grid import make_plan
from relmap.catalogue.papers import Cell, read_paper
from relmap.catalogue.rows import as_configured, load_rows
from relmap.data.images import IMAGENET_MEAN, IMAGENET_STD
from relmap.data.manifest import read_manifest
from relmap.job.config import load
from relmap.job.files import sha256_file
from relmap.job.provenance import collect
from relmap.models.zoo import build
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[1]
CLASSES = ("heron", "otter", "newt")
# What fills cells without any training; the paper's ids of them.
UNTRAINED = {
    "lrp_alpha1_beta0_norms",
    "clrp_two_passes_norms",
    "sglrp_two_passes_norms",
    "saliency",
    "grad_cam",
    "excitation_backprop",
}


def write_weights(path):
    """ResNet-50 at its full width, as drawn, but that it takes all for the first class, some of them rightly."""
    model = build("resnet50", len(CLASSES))
    model.fc.bias.data[0] += 1
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return path


def write_classes(folder):
    (folder / "classes.txt").write_text("".join(f"{name} the {name}, an animal\n" for name in CLASSES))


def write_photographs(folder):
    """Validation pictures alone in ILSVRC's layout, two a class, with a box each."""
    (folder / "bbox_val").mkdir(parents=True)
    for label, name in enumerate(CLASSES):
        for number in range(2):
            stem = f"{name}_{number}"
            save(picture(90, 80, seed=10 * label + number), folder / "val" / f"{stem}.jpg")
            (folder / "bbox_val" / f"{stem}.xml").write_text(
                annotation_xml(stem, [(name, 20, 20, 59, 49)], width=90, height=80)
            )
    write_classes(folder)
    return folder


def write_folders(folder, below="pictures"):
    """A folder a class, nothing else."""
    for label, name in enumerate(CLASSES):
        for number in range(2):
            save(picture(90, 80, seed=10 * label + number), folder / below / name / f"{number}.png")
    write_classes(folder)
    return folder


def snakemake(folder, dataset, *arguments, run="own", **model):
    """The example's config, with the lines changed that a user changes, and small; below its folder."""
    model = {"weights": "resnet50.safetensors", "input_size": 64, "resize": 64, **model}
    evaluation = {"max_images": 4, "lerf": {"steps": 2, "pixels": 2000}, "resamples": 100}
    mine = {"run": run, "datasets": {"imagenet": dataset}, "models": {"resnet50": model}, "evaluation": evaluation}
    (folder / f"{run}.yaml").write_text(yaml.safe_dump(mine))
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--cores", "1", "--workflow-profile", "none", *arguments]
    command += ["--configfile", ROOT / "config" / "own.yaml", folder / f"{run}.yaml"]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=240, check=False)


def complete(run):
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]


def table_of(folder, number):
    frame = pd.read_csv(folder / "results" / "own" / "tables" / f"clam_table{number}.csv", keep_default_na=False)
    return frame[(frame["dataset"] == "imagenet") & (frame["model"] == "resnet50")]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Photographs with boxes, to the paper's target."""
    folder = tmp_path_factory.mktemp("own")
    write_weights(folder / "resnet50.safetensors")
    write_photographs(folder)
    complete(snakemake(folder, {"path": ".", "classes": "classes.txt"}, "clam"))
    return folder


@pytest.mark.parametrize("number", [1, 2, 3])
def test_cells_that_need_no_training_are_filled(workplace, number):
    table = table_of(workplace, number)
    filled = table[table["missing"] == ""]
    assert set(filled["method"]) >= UNTRAINED | {"constant", "random", "centre_gaussian"}
    assert pd.to_numeric(filled["reproduced"]).between(0, 1).all()
    targets = pd.read_parquet(workplace / "results" / "own" / "targets" / "imagenet" / "resnet50.parquet")
    # Perturbation asks only images that are classified rightly; a network as drawn may have a Grad-CAM without any
    # positive pixel, and such an image has no pointing accuracy.
    expected = targets["correct"].sum() if number == 2 else 4
    assert len(targets) == 4
    assert (filled[filled["method"] != "grad_cam"]["n_images"] == expected).all()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_cells_of_clam_say_what_is_missing(workplace, number):
    table = table_of(workplace, number)
    lacking = table[table["missing"] != ""]
    assert set(lacking["method"]) == {"lrp_clam", "clrp_clam", "sglrp_clam"}
    assert (lacking["reproduced"] == "").all()
    assert lacking["missing"].tolist() == [f"{method} on imagenet with resnet50" for method in lacking["method"]]


def test_what_the_run_leaves_out_is_named(workplace):
    whole = pd.read_csv(workplace / "results" / "own" / "tables" / "clam_table1.csv", keep_default_na=False)
    lacks = whole[whole["role"] == "published"].groupby(["dataset", "model"])["missing"].agg(set)
    assert lacks["cub200_2011", "resnet50"] == {"data set cub200_2011 in the config"}
    assert lacks["imagenet", "vgg16"] == {"model vgg16 in the config"}


def test_claims_about_clam_have_no_data(workplace):
    claims = pd.read_csv(workplace / "results" / "own" / "tables" / "clam_claims.csv").set_index("claim")
    assert claims.loc["clrp_pointing_resnet_marked_improved", "verdict"] == "no data"
    assert not list((workplace / "results" / "own").glob("figures/clam_*"))


def test_the_card_names_the_weights(workplace):
    card = json.loads((workplace / "results" / "own" / "models" / "imagenet" / "resnet50.json").read_text())
    assert sha256_file(workplace / "resnet50.safetensors") in card["origin"]
    assert card["origin"].startswith("own weights: resnet50.safetensors")
    assert card["class_names"] == [f"the {name}" for name in CLASSES]
    assert card["width"] == 1.0
    recorded = collect(workplace / "results" / "own", ROOT)["weights"]["imagenet/resnet50"]
    assert recorded == {"sha256": card["sha256"], "origin": card["origin"]}, "and so does the run's provenance"


def test_a_box_is_asked_for_by_name(tmp_path):
    """A tree in ILSVRC's layout must have boxes; the one line says what else there is."""
    write_folders(tmp_path, "val")
    (tmp_path / "resnet50.safetensors").touch()  # must be there, but is not read so early
    run = snakemake(tmp_path, {"path": ".", "classes": "classes.txt"}, "results/own/manifests/imagenet.parquet")
    assert run.returncode != 0
    (line,) = (line for line in run.stderr.splitlines() if line.startswith("error: "))
    assert line.startswith(f"error: {Path('val', 'heron', '0.png')}: no box of class heron; put 0.xml")
    assert "`datasets.imagenet.format: folder`" in line
    assert "Traceback" not in run.stderr


def test_folders_of_pictures_are_read_without_boxes(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "resnet50.safetensors").touch()
    dataset = {"path": "pictures", "classes": "classes.txt", "format": "folder"}
    complete(snakemake(tmp_path, dataset, "results/own/manifests/imagenet.parquet"))
    frame = read_manifest(tmp_path / "results" / "own" / "manifests" / "imagenet.parquet").frame
    assert frame["image_id"].tolist() == [f"{name}/{number}" for name in sorted(CLASSES) for number in range(2)]
    assert (frame["split"] == "test").all()
    assert [list(labels) for labels in frame["labels"]] == [[0], [0], [2], [2], [1], [1]]
    assert (frame["boxes"].map(len) == 0).all()


def test_without_boxes_cells_say_so():
    config = load(
        {
            "datasets": {"cub200_2011": None, "imagenet": {"source": "local", "format": "folder"}},
            "models": {"vgg16": None},
            "clam": {"arms": {"clam": None, "case1": None}},
        }
    )
    rows = as_configured(load_rows([ROOT / "papers" / "clam" / "rows.py"], config), config)
    plan = make_plan([read_paper(ROOT / "papers" / "clam")], rows, ["imagenet"], ["resnet50"])
    assert plan.scores.keys() == {("imagenet", "resnet50", "lerf")}
    assert (
        plan.missing[Cell("imagenet", "resnet50", "clrp_two_passes_norms", "pointing_energy_mean")]
        == "boxes of imagenet"
    )


def write_repository(folder, **seen):
    """What the Hugging Face Hub has of a ResNet-50 of timm's."""
    folder.mkdir(parents=True)
    write_weights(folder / "model.safetensors")
    own = {"input_size": [3, 64, 64], "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "crop_pct": 1.0, **seen}
    config = {"architecture": "resnet50", "num_classes": len(CLASSES), "pretrained_cfg": own}
    (folder / "config.json").write_text(json.dumps(config))


def test_weights_of_the_hub_are_retrieved_and_see_what_they_were_made_for(tmp_path):
    write_photographs(tmp_path)
    write_repository(tmp_path / "mirror" / "me" / "mine")
    write_repository(tmp_path / "mirror" / "me" / "other", mean=[0.5, 0.5, 0.5])
    dataset, target = {"path": ".", "classes": "classes.txt"}, "results/own/models/imagenet/resnet50.json"
    mirror = ["--config", "data_mirror=mirror"]
    run = snakemake(tmp_path, dataset, target, *mirror, weights="hf:me/other")
    assert run.returncode and "hf:me/other was trained with (0.5, 0.5, 0.5)" in run.stdout + run.stderr
    run = snakemake(tmp_path, dataset, target, *mirror, weights="hf:me/mine", resize=70)
    assert run.returncode and "`models.resnet50.resize` is 70, but hf:me/mine takes 64" in run.stdout + run.stderr
    run = snakemake(tmp_path, dataset, target, *mirror, weights="hf:../mine")
    assert run.returncode and "`weights: hf:../mine`: the Hub's names are ORG/NAME" in run.stdout + run.stderr
    complete(snakemake(tmp_path, dataset, target, *mirror, weights="hf:me/mine"))
    card = json.loads((tmp_path / target).read_text())
    assert card["origin"].startswith("hf:me/mine: mine.safetensors, sha256 ")
    assert card["accuracies"]["test"] == pytest.approx(1 / 3), "all is taken for the first of three classes"
    made, lent = (
        load_file(tmp_path / path)
        for path in (target.replace("json", "safetensors"), "mirror/me/mine/model.safetensors")
    )
    assert all(torch.equal(value, lent[name]) for name, value in made.items() if name in lent) and len(made) > 200
