"""The config: complete, validated, and clear about what is wrong."""

import copy
import importlib
import inspect
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from relmap.catalogue.rows import as_configured, load_rows
from relmap.errors import InputError
from relmap.job.config import check_ids, defaults, dump, load, read_schema
from relmap.job.config_text import config_text
from relmap.models.training import TrainingConfig

from papers.clam.cla.layers import LAYER_SETS, candidate_layers, layer_file, layer_label, select_layers
from papers.clam.cla.settings import ClamOptions, Optimiser

ROOT = Path(__file__).parents[1]
DEFAULTS = defaults()


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


def merged(override, base=None):
    """As Snakemake merges config files: mappings key by key, everything else replaced."""
    result = copy.deepcopy(DEFAULTS if base is None else base)
    for key, value in override.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(value, result[key]) if nested else value
    return result


def test_config_yaml_is_written_from_the_schema():
    assert (ROOT / "config.yaml").read_text() == config_text(), "run `make config`"
    assert load(read("config.yaml")) == read("config.yaml") == DEFAULTS


def test_dataclasses_have_the_schemas_defaults():
    options = ClamOptions.from_config(DEFAULTS["clam"])
    assert ClamOptions() == options
    assert TrainingConfig() == TrainingConfig.from_mapping(DEFAULTS["training"]["pretrain"])


@pytest.mark.parametrize("name", ["config/paper.yaml", "config/smoke.yaml"])
def test_other_configs_are_valid(name):
    complete = load(merged(read(name), read("config.yaml")))
    assert complete["run"] == Path(name).stem
    ClamOptions.from_config(complete["clam"])


def test_schema_describes_every_key():
    schema = read_schema()
    Draft202012Validator.check_schema(schema)

    def walk(node, where):
        node = {**schema["$defs"][node["$ref"].rsplit("/", 1)[1]], **node} if "$ref" in node else node
        assert node.get("description"), f"{where} has no description"
        if node.get("type") == "object":
            assert "additionalProperties" in node, f"{where} lets unknown keys pass"
        for key, inner in node.get("properties", {}).items():
            walk(inner, f"{where}.{key}")

    for key, node in schema["properties"].items():
        walk(node, key)


def test_training_sections_are_recipes():
    for stage in ("pretrain", "finetune", "multilabel"):
        TrainingConfig.from_mapping(DEFAULTS["training"][stage])


def test_defaults_fill_a_partial_config():
    given = {"run": "x", "training": {"finetune": {"epochs": 3}}, "models": {"resnet50": {"finetune": {"epochs": 5}}}}
    assert load(given) == merged(given)
    assert load(given)["models"]["resnet50"]["finetune"] == {"epochs": 5}, "a model states only what differs"


def test_only_the_demo_trains_convolutions_on_birds():
    """CLAM, A.1, freezes them; narrow networks then do not see the parts by which birds differ."""
    paper = load(merged(read("config/paper.yaml")))
    for model, rate in (("vgg16", 0.0003), ("resnet50", 0.003)):
        demo = merged(DEFAULTS["models"][model]["finetune"], DEFAULTS["training"]["finetune"])
        recipe = merged(paper["models"][model]["finetune"], paper["training"]["finetune"])
        assert demo["trainable"] == "all"
        assert (recipe["trainable"], recipe["epochs"], recipe["batch_size"]) == ("head", 30, 128)
        assert (recipe["learning_rate"], recipe["batch_norm"], recipe["patience"]) == (rate, False, 5)


def test_dump_round_trips():
    assert yaml.safe_load(dump(DEFAULTS)) == DEFAULTS


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"seeed": 1}, ["seeed", "seed"]),
        ({"datasets": {"cub200_2011": {"exclude": [7]}}}, ["datasets.cub200_2011.exclude.0", "7", "string"]),
        ({"training": {"pretrain": {"epoch": 3}}}, ["training.pretrain.epoch", "epochs"]),
        ({"models": {"vgg16": {"pretrain": {"epoch": 3}}}}, ["models.vgg16.pretrain.epoch", "epochs"]),
        ({"training": {"base": "imagenett"}}, ["training.base", "`imagenet`"]),
        ({"datasets": {"cub_200": {}}}, ["datasets.cub_200", "cub200_2011", "extensions"]),
        ({"models": {"lenet": {}}}, ["models.lenet", "vgg16"]),
        ({"evaluation": {"lerf": {"steps": "many"}}}, ["evaluation.lerf.steps", "many", "integer"]),
        ({"models": {"vgg16": {"width": "1"}}}, ["models.vgg16.width", "number"]),
        ({"compute": {"device": "gpu"}}, ["compute.device", "auto, cpu, cuda"]),
        ({"run": "a/b"}, ["run", "a/b"]),
        ({"run": "a" * 101}, ["run", "too long"]),
        ({"models": {"vgg16": {"resize": 60}}}, ["models.vgg16.resize", "60", "64"]),
        ({"clam": {"patch_size": 2, "attribute_size": 2}}, ["patch_size 2", "attribute_size 2"]),
        ({"clam": {"layers": {"features.28": {"patch_size": 3, "attribute_size": 3}}}}, ["clam.layers.features.28"]),
        ({"clam": {"layers": {"features.27": {}}}}, ["features.27", "features.2"]),
        ({"clam": {"arms": {"untrained": {"imagenet": {"vgg16": "before_pooling"}}}}}, ["untrained", "reserved"]),
        ({"clam": {"arms": {"clam": {"imagenet": {"vgg16": "case1"}}}}}, ["clam.arms.clam.imagenet.vgg16", "case1"]),
        ({"clam": {"arms": {"clam": {"imagenet": {"vgg16": ["features.3"]}}}}}, ["features.3", "features.28"]),
        ({"engine": {"methods": ["lrp_epsilom"]}}, ["engine.methods", "lrp_epsilom", "`lrp_epsilon`"]),
        ({"engine": {"cost": {"models": ["lenet"]}}}, ["engine.cost.models", "lenet", "resnet50"]),
        ({"clam": {"ablation": [{"name": "odd", "set": {"distanc": "l2"}}]}}, ["odd", "distanc", "distance"]),
    ],
)
def test_wrong_configs_name_culprit_and_cure(override, words):
    with pytest.raises(InputError) as caught:
        config = load(merged(override))
        check_ids(config, load_rows([ROOT / "papers" / "clam" / "rows.py"], config))
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_layer_sets_run_from_output_to_input():
    assert len(LAYER_SETS["vgg16"]["all_convolutions"]) == 13
    assert LAYER_SETS["vgg16"]["before_pooling"] == (
        "features.28",
        "features.21",
        "features.14",
        "features.7",
        "features.2",
    )
    assert len(LAYER_SETS["resnet50"]["case2"]) == 16
    assert LAYER_SETS["resnet50"]["case1"][:3] == ("layer4.2", "layer4.2.conv2", "layer4.1")
    for architecture, sets in LAYER_SETS.items():
        order = candidate_layers(architecture)
        for layers in sets.values():
            assert sorted(layers, key=order.index) == list(layers)


def test_candidate_layers_exist_in_the_networks():
    from relmap.models.zoo import build

    for architecture in LAYER_SETS:
        names = dict(build(architecture, 2, device="meta").named_modules())
        assert set(candidate_layers(architecture)) <= names.keys()


def test_selected_layers_are_sorted_and_known():
    assert select_layers("vgg16", ["features.2", "features.28"]) == ("features.28", "features.2")
    with pytest.raises(InputError, match="at least one"):
        select_layers("vgg16", [])
    assert layer_file(3, "layer4.2") == "03_layer4.2"
    assert layer_label("features.28") == "Conv-28"


def test_paper_scale_does_not_inherit_what_the_demo_cut():
    complete = load(merged(read("config/paper.yaml"), read("config.yaml")))
    options = ClamOptions.from_config(complete["clam"])
    chosen = ("features", "pattern_amplitude", "largest_patch", "layers")
    papers = {"attributes": None, "optimiser": Optimiser(epochs=100, batch_size=64)}
    assert options == ClamOptions(**papers, **{name: getattr(options, name) for name in chosen})
    assert options.layers["layer4.2"] == {"patch_size": 4}
    assert complete["clam"]["train_images_per_class"] >= 30, "all of CUB's"
    assert complete["evaluation"]["max_images"] is None
    assert complete["evaluation"]["lerf"] == {
        "images": None,
        "steps": 100,
        "pixels": 200,
        "reference_size": 224,
        "fill": "mean",
    }
    assert {model["width"] for model in complete["models"].values()} == {1.0}


def test_explainers_parameters_belong_to_a_methods_row():
    """What a job is told of a method holds them, so that maps of two counts are never taken for one another's."""
    rows = load_rows()
    for masks in (500, 501):
        config = {"datasets": {}, "explainers": {"rise": {"masks": masks}, "smoothgrad": {"samples": 3, "noise": 0.1}}}
        found = as_configured(rows, config).methods
        assert found["rise"].to_dict()["parameters"] == {"masks": masks}
        assert found["smoothgrad"].parameters == {"samples": 3, "noise": 0.1}
        assert found["rise_softmax"] == rows.methods["rise_softmax"] and rows.methods["rise"].parameters == {}
    of_demo = as_configured(rows, DEFAULTS).methods
    assert of_demo["rise_softmax"].parameters == {"score": "softmax", "masks": 200}
    assert of_demo["extremal_perturbation_coco"].parameters["iterations"] == 10


@pytest.mark.parametrize(
    ("explainers", "words"),
    [
        ({"rize": {"masks": 3}}, ["explainers.rize", "rise"]),
        ({"rise_softmax": {"score": "sigmoid"}}, ["explainers.rise_softmax.score", "fixes it to 'softmax'"]),
    ],
)
def test_explainers_refuse_what_no_method_takes(explainers, words):
    with pytest.raises(InputError) as caught:
        as_configured(load_rows(), {"datasets": {}, "explainers": explainers})
    assert all(word in str(caught.value) for word in words)


def test_masks_are_counted():
    with pytest.raises(InputError, match=r"explainers\.rise\.masks"):
        load(merged({"explainers": {"rise": {"masks": 0}}}))


def test_paper_scale_has_the_published_numbers_of_masks_and_steps():
    explainers = load(merged(read("config/paper.yaml"), read("config.yaml")))["explainers"]
    for method, parameters in explainers.items():
        module, maker = load_rows().methods[method].maker.split(":")
        signature = inspect.signature(getattr(importlib.import_module(f"relmap.explainers.{module}"), maker))
        assert parameters == {name: signature.parameters[name].default for name in parameters}, method


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_finite_number_is_refused_with_its_key(value):
    with pytest.raises(InputError, match=r"`evaluation.confidence` is (nan|-?inf); give a finite number"):
        load({"evaluation": {"confidence": value}})
    with pytest.raises(InputError, match=r"`evaluation.road.percents.1` is"):
        load({"evaluation": {"road": {"percents": [10, value]}}})


def test_nested_values_of_the_command_line_are_sent_to_a_file():
    with pytest.raises(InputError, match=r"`evaluation.max_images` is `3` \(str\).*all values are text.*--configfile"):
        load({"evaluation": {"max_images": "3"}})
    with pytest.raises(InputError) as told:
        load({"evaluation": {"max_images": "three"}})
    assert "--configfile" not in str(told.value)
