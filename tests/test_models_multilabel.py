"""Networks for images of several classes: their loss, their measure, their probabilities, and what they start from."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from relmap.data.images import Preprocessing
from relmap.data.manifest import build_manifest
from relmap.errors import InputError
from relmap.models import ModelCard, build, load_model, objective, save_model
from relmap.models.average_precision import average_precisions, mean_average_precision
from relmap.models.card import card_path
from relmap.models.examples import InMemory, Normalisation, held_out
from relmap.models.inference import class_scores, evaluate, predict
from relmap.models.sources import accuracies, class_probabilities, labels_of, preprocessing_of, training_source
from relmap.models.training import TrainingConfig, threads, train
from relmap.models.transfer import check_same_classes, transferred
from relmap.network.score_maps import pooled_scores

HALF = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
QUICK = TrainingConfig(epochs=4, batch_size=16, learning_rate=1e-2, holdout=0.2, start_size=0, batch_norm=False)


@pytest.fixture(autouse=True)
def one_thread():
    with threads(1):
        yield


def slow_average_precision(scores, labels):
    """The definition, threshold by threshold."""
    area = before = 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [label for score, label in zip(scores, labels, strict=True) if score >= threshold]
        recall, precision = sum(chosen) / sum(labels), sum(chosen) / len(chosen)
        area += (recall - before) * precision
        before = recall
    return area


def test_average_precision_by_its_definition():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 6, (40, 5), generator=generator).float()  # many ties
    scores[:, 0] = torch.rand(40, generator=generator)
    labels = (torch.rand(40, 5, generator=generator) < 0.3).float()
    labels[:, 4] = 0
    found = average_precisions(scores, labels)
    for c in range(4):
        expected = slow_average_precision(scores[:, c].tolist(), labels[:, c].tolist())
        assert found[c].item() == pytest.approx(expected, rel=1e-12)
    assert math.isnan(found[4]), "no positives"
    assert mean_average_precision(scores, labels) == pytest.approx(found[:4].mean().item())
    order = torch.randperm(40, generator=generator)
    torch.testing.assert_close(average_precisions(scores[order], labels[order])[:4], found[:4])


def test_known_average_precisions():
    # scikit-learn's example: 0.83.
    assert average_precisions(
        torch.tensor([[0.1], [0.4], [0.35], [0.8]]), torch.tensor([[0], [0], [1], [1]])
    ).item() == (pytest.approx(5 / 6))
    constant = average_precisions(torch.zeros(8, 1), torch.tensor([[1.0]] * 2 + [[0.0]] * 6))
    assert constant.item() == 0.25, "one threshold: the share of positives"


def test_loss_by_its_definition():
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(3, 4, 2, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1.0]])
    p = pooled_scores(maps).sigmoid()
    expected = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
    torch.testing.assert_close(objective.loss(maps, labels), expected)
    smooth = 0.8 * labels + 0.1
    expected = -(smooth * p.log() + (1 - smooth) * (1 - p).log()).mean()
    torch.testing.assert_close(objective.loss(maps, labels, 0.2), expected)
    classes = torch.tensor([3, 0, 1])
    expected = -pooled_scores(maps).log_softmax(1).gather(1, classes[:, None]).mean()
    torch.testing.assert_close(objective.loss(maps, classes), expected)


def test_held_out_pictures_leave_every_class_one():
    labels = torch.zeros(50, 6)
    labels[torch.arange(50), torch.arange(50) % 4] = 1
    labels[7, 4] = 1  # its only picture
    for seed in range(20):
        kept, apart = held_out(labels, 0.3, seed)
        assert sorted(torch.cat([kept, apart]).tolist()) == list(range(50))
        assert len(apart) == 15 and (labels[kept].sum(0)[:5] >= 1).all()
    assert not torch.equal(apart, held_out(labels, 0.3, 0)[1])
    kept, apart = held_out(torch.eye(4), 0.5, 0)
    assert len(kept) == 4 and not len(apart), "each is some class's only one"


def scenes(count=160, classes=3, size=32, seed=0):
    """Noise with a square in the colour of each class that a picture has, each in a quarter of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, classes, generator=generator) < 0.4).float()
    images = torch.rand(count, 3, size, size, generator=generator) * 0.6
    for c in range(classes):
        top, left = (c // 2) * size // 2, (c % 2) * size // 2
        there = labels[:, c].bool()
        images[there, c, top : top + size // 2, left : left + size // 2] += 0.4
    return InMemory((images * 255).byte(), labels)


def test_training_learns_every_class_and_reports_its_measure():
    model, source = build("torchray_resnet50", 3, 1 / 16, 32, seed=1), scenes()
    fit = train(model, source, replace(QUICK, epochs=6), HALF, 32)
    images = HALF(source.examples.float() / 255)
    found = evaluate(model, images, source.labels)
    assert found.keys() == {"loss", "mean_average_precision"} and found["mean_average_precision"] > 0.9
    _, apart = held_out(source.labels, 0.2, 0)
    best = evaluate(model, images[apart], source.labels[apart])
    assert fit.accuracy == pytest.approx(best["mean_average_precision"], rel=1e-6)
    rows = [row for row in fit.history if row["split"] == "validation"]
    assert fit.accuracy == max(row["accuracy"] for row in rows)
    assert best["loss"] == pytest.approx(rows[fit.best_epoch - 1]["loss"], rel=1e-4)


def test_probabilities_of_several_classes():
    model = build("torchray_vgg16", 4, 1 / 16, 64, seed=1).eval()
    images = torch.rand(3, 3, 64, 96)
    assert model(images).shape == (3, 4, 1, 2)
    scores = class_scores(model, images)
    torch.testing.assert_close(scores, pooled_scores(model(images)).detach())
    torch.testing.assert_close(predict(model, images, multi_label=True), scores.sigmoid())
    torch.testing.assert_close(predict(model, images), scores.softmax(1))
    torch.testing.assert_close(predict(model, iter(images.split(2)), multi_label=True), scores.sigmoid())


@pytest.fixture
def manifest(tmp_path):
    """Six pictures of three shapes; one without a class."""
    from PIL import Image

    generator, rows = np.random.default_rng(0), []
    for number, labels in enumerate([[0], [0, 2], [], [1, 2], [1], [2]]):
        width, height = [(80, 64), (64, 90), (64, 64)][number % 3]
        Image.fromarray(generator.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        row = {"image_id": str(number), "path": f"{number}.png", "labels": labels, "width": width, "height": height}
        rows.append({**row, "split": "train" if number < 5 else "test"})
    return build_manifest("scenes", tmp_path, rows, ("a", "b", "c"), require_labels=False, workers=1)


ASPECT = Preprocessing(64, 64, fit="aspect", antialias=False)


def test_labels_and_squares_for_training(manifest):
    labels = labels_of(manifest, manifest.rows("train"), True)
    assert labels.tolist() == [[1, 0, 0], [1, 0, 1], [0, 0, 0], [0, 1, 1], [0, 1, 0]]
    with pytest.raises(InputError, match=r"image 1 has 2 labels"):
        labels_of(manifest, manifest.rows("train"), False)
    source = training_source(manifest, ASPECT, multi_label=True)
    assert source.examples.shape == (5, 3, 64, 64) and torch.equal(source.labels, labels)
    # Squashed, not cropped: the last column of a wide picture is there.
    wide = source.examples[0].float()
    from relmap.data.images import load_pixels

    whole = load_pixels(manifest, [0], Preprocessing(64, 64, fit="squash", antialias=False))[0].float()
    torch.testing.assert_close(wide, whole)


def test_scores_come_in_the_order_of_the_pictures(manifest):
    """Pictures of one size are taken together."""
    model, rows = build("torchray_resnet50", 3, 1 / 16, 64, seed=2).eval(), manifest.rows()
    found = class_probabilities(model, manifest, rows, ASPECT, batch_size=4, multi_label=True)
    alone = [class_probabilities(model, manifest, [row], ASPECT, multi_label=True) for row in rows]
    torch.testing.assert_close(found, torch.cat(alone))
    labels = labels_of(manifest, rows[:5], True)
    measured = accuracies(model, manifest, ASPECT, multi_label=True)
    assert measured.keys() == {"mean_average_precision_train", "mean_average_precision_test"}
    assert measured["mean_average_precision_train"] == pytest.approx(mean_average_precision(found[:5], labels))
    # A network of one class an image is right where that is among the labels.
    tops = found.argmax(1).tolist()
    right = [top in labels for top, labels in zip(tops, manifest.label_sets(), strict=True)]
    assert accuracies(model, manifest, ASPECT)["train"] == pytest.approx(sum(right[:5]) / 5)


def test_what_a_row_says_of_pictures():
    from relmap.catalogue.models import MODELS

    whole = preprocessing_of(MODELS["torchray_vgg16"].seen, 256, 224)
    assert (whole.fit, whole.resize, whole.crop, whole.antialias) == ("aspect", 224, 224, False)
    assert whole.mean == (123.68 / 255, 116.779 / 255, 103.939 / 255) and whole.std == (1 / 255,) * 3
    assert preprocessing_of(MODELS["vgg16"].seen, 256, 224) == Preprocessing(256, 224)
    assert preprocessing_of(MODELS["inception_v3"].seen, 342, 299).mean == (0.5, 0.5, 0.5)


def test_the_card_says_so(tmp_path):
    model = build("torchray_resnet50", 4, 1 / 16, 64)
    seen = ASPECT.to_dict()
    card = ModelCard("torchray_resnet50", 4, 1 / 16, 64, seen, "scenes", tuple("abcd"), {}, "a test", multi_label=True)
    save_model(model, tmp_path / "net.safetensors", card)
    _, read = load_model(tmp_path / "net.safetensors")
    assert read.multi_label and Preprocessing.from_dict(read.preprocessing) == ASPECT
    path = card_path(tmp_path / "net.safetensors")
    path.write_text(json.dumps({**json.loads(path.read_text()), "multi_label": "yes"}))
    with pytest.raises(InputError, match="`multi_label` is 'yes'"):
        load_model(tmp_path / "net.safetensors")


@pytest.mark.parametrize("name", ["vgg16", "resnet50"])
def test_all_layers_but_the_last_start_from_the_base(name):
    base = build(name, 10, 1 / 8, 64, seed=1).eval()
    for parameter in base.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    found = transferred(base, f"torchray_{name}", 4, 1 / 8, 64, keep_last=False, seed=3)
    last = "classifier.6" if name == "vgg16" else "fc"
    given = base.state_dict()
    for key, value in found.state_dict().items():
        if key == "conv1.bias":
            assert not value.any()
        elif not key.startswith(last):
            assert torch.equal(value.flatten(), given[key].flatten()), key
    assert found.get_submodule(last).weight.shape[:2] == (4, base.get_submodule(last).in_features)
    assert torch.equal(
        found.get_submodule(last).weight,
        transferred(base, f"torchray_{name}", 4, 1 / 8, 64, keep_last=False, seed=3).get_submodule(last).weight,
    )
    with pytest.raises(InputError, match=r"lent\.safetensors: the weights do not fit"):
        transferred(base, f"torchray_{name}", 4, 1 / 4, 64, keep_last=False, source="lent.safetensors")


def test_vgg_slides_over_larger_images():
    base = build("vgg16", 10, 1 / 8, 64, seed=1).eval().requires_grad_(False)
    slid = transferred(base, "vgg16_sliding", 10, 1 / 8, 64, keep_last=True)
    image = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(slid(image), base(image), atol=1e-5, rtol=1e-5)
    large = torch.rand(2, 3, 128, 128)
    features = base.features(large)
    assert features.shape[2:] == (4, 4)
    windows = [base.classifier(features[..., i : i + 2, j : j + 2].flatten(1)) for i in range(3) for j in range(3)]
    torch.testing.assert_close(slid(large), torch.stack(windows).mean(0), atol=1e-5, rtol=1e-5)


def test_classes_of_a_network_that_is_taken_must_be_the_same():
    card = ModelCard("vgg16", 3, class_names=("a", "b", "c"), dataset="here")
    check_same_classes(card, ("a", "b", "c"), "there")
    with pytest.raises(InputError, match="there: its class 1 is 'x', and 'b' of the network of here"):
        check_same_classes(card, ("a", "x", "c"), "there")
    with pytest.raises(InputError, match="its class 3 is 'd', and 'nothing'"):
        check_same_classes(card, ("a", "b", "c", "d"), "there")


def test_frames_hold_what_was_predicted(manifest):
    from relmap.evidence.evaluation import target_frame

    probabilities = np.array([[0.6, 0.7, 0.1], [0.2, 0.3, 0.4]])
    frame = target_frame(manifest, np.array([0, 3]), probabilities, "label", True)
    predicted = {image: sorted(rows["target"][rows["predicted"]]) for image, rows in frame.groupby("image_id")}
    assert predicted == {"0": [0, 1], "3": [2]} and isinstance(frame, pd.DataFrame)
