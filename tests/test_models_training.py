"""Training: resumption, frozen features, early stopping, folding, errors."""

import csv
import itertools
import math
from dataclasses import replace

import pytest
import torch
from relmap.errors import InputError
from relmap.models import build, training
from relmap.models.augment import Augmentation, clean_view, random_view
from relmap.models.examples import grouped, held_out
from relmap.models.folding import add_batch_norm, fold_batch_norm
from relmap.models.recipe import learning_rate, training_size
from relmap.models.training import (
    HISTORY_COLUMNS,
    InMemory,
    Normalisation,
    Streamed,
    TrainingConfig,
    cache_features,
    evaluate,
    finetune,
    predict,
    threads,
    train,
    write_history,
)
from torch import nn

HALF = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
QUICK = TrainingConfig(
    epochs=3,
    batch_size=8,
    learning_rate=1e-3,
    holdout=0.25,
    checkpoint_seconds=0,
    views=2,
    dropout=-1.0,
    batch_norm=False,
    start_size=0,
)


@pytest.fixture(autouse=True)
def one_thread():
    with threads(1):
        yield


def pictures(count=8, classes=3, size=36, seed=0):
    """Noise whose hue tells the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(count)
    images = torch.rand(len(labels), 3, size, size, generator=generator) * 0.5
    images[torch.arange(len(labels)), labels] += 0.5
    return InMemory((images * 255).byte(), labels)


def narrow(architecture="resnet50", classes=3):
    return build(architecture, classes, 1 / 16, 32, seed=1)


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items()) and one.keys() == other.keys()


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_resumed_equals_uninterrupted(architecture, tmp_path, monkeypatch):
    recipe = replace(QUICK, batch_norm=architecture == "vgg16")
    whole = narrow(architecture)
    expected = train(whole, pictures(), recipe, HALF, 32, seed=4)

    store, saved = training.store, []

    def stop_after_two(*arguments):
        store(*arguments)
        saved.append(1)
        if len(saved) == 2:
            raise Interrupted

    checkpoint = tmp_path / "net.checkpoint"
    monkeypatch.setattr(training, "store", stop_after_two)
    with pytest.raises(Interrupted):
        train(narrow(architecture), pictures(), recipe, HALF, 32, seed=4, checkpoint=checkpoint)
    monkeypatch.setattr(training, "store", store)
    trained = []
    epoch = training._train_epoch
    monkeypatch.setattr(training, "_train_epoch", lambda *a, **k: trained.append(1) or epoch(*a, **k))
    resumed = narrow(architecture)
    found = train(resumed, pictures(), recipe, HALF, 32, seed=4, checkpoint=checkpoint)

    assert len(trained) == 1
    assert same(whole.state_dict(), resumed.state_dict())
    without_time = [{k: v for k, v in row.items() if k != "seconds"} for row in found.history]
    assert without_time == [{k: v for k, v in row.items() if k != "seconds"} for row in expected.history]
    assert found.best_epoch == expected.best_epoch


def test_a_checkpoint_of_another_recipe_is_not_used(tmp_path):
    checkpoint = tmp_path / "net.checkpoint"
    train(narrow(), pictures(), QUICK, HALF, 32, checkpoint=checkpoint)
    other = replace(QUICK, learning_rate=2e-3)
    fresh, continued = narrow(), narrow()
    train(fresh, pictures(), other, HALF, 32)
    train(continued, pictures(), other, HALF, 32, checkpoint=checkpoint)
    assert same(fresh.state_dict(), continued.state_dict())


def test_a_broken_checkpoint_is_named(tmp_path):
    checkpoint = tmp_path / "net.checkpoint"
    checkpoint.write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"net\.checkpoint.*delete it"):
        train(narrow(), pictures(), QUICK, HALF, 32, checkpoint=checkpoint)


def test_training_learns_and_reports(tmp_path):
    model, source = narrow(), pictures(16)
    fit = train(model, source, replace(QUICK, epochs=8, learning_rate=5e-3), HALF, 32)
    images = HALF(clean_view(source.examples.float() / 255, 32, 32))
    assert evaluate(model, images, source.labels)["accuracy"] > 0.9
    assert [row["split"] for row in fit.history] == ["train", "validation"] * 8
    assert fit.accuracy == max(row["accuracy"] for row in fit.history if row["split"] == "validation")
    assert not model.training
    write_history(fit.history, tmp_path / "history.csv")
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == HISTORY_COLUMNS
    assert [int(row["epoch"]) for row in rows] == [row["epoch"] for row in fit.history]


def test_the_caller_s_random_numbers_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(narrow(), pictures(), replace(QUICK, epochs=1), HALF, 32)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_fine_tuning_leaves_the_features_alone(architecture):
    model = narrow(architecture, classes=5).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit = finetune(model, architecture, 3, pictures(), replace(QUICK, batch_norm=True), HALF, 32)
    assert model.state_dict().keys() == before.keys()
    head = "classifier." if architecture == "vgg16" else "fc."
    after = model.state_dict()
    body = [name for name in before if not name.startswith(head)]
    assert all(torch.equal(before[name], after[name]) for name in body)
    weights = [name for name in before if name.startswith(head) and name.endswith("weight")]
    assert not any(before[n].shape == after[n].shape and torch.equal(before[n], after[n]) for n in weights)
    assert predict(model, torch.rand(2, 3, 32, 32)).shape == (2, 3)
    assert 1 <= fit.best_epoch <= QUICK.epochs
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.5] * (2 * (architecture == "vgg16"))


def test_cached_features_are_what_the_head_receives():
    model, source = narrow().eval(), pictures()
    cached = cache_features(model, model.fc, source, replace(QUICK, views=3), HALF, 32)
    images = HALF(clean_view(source.examples.float() / 255, 32, 32))
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(model.fc(cached.examples[:, 0]), expected)
    assert cached.examples.shape == (24, 3, 128)
    assert not torch.allclose(cached.examples[:, 0], cached.examples[:, 1])


def test_features_that_need_too_much_memory():
    with pytest.raises(InputError, match=r"24 pictures x 2 views.*feature_gib"):
        finetune(narrow(), "resnet50", 3, pictures(), replace(QUICK, feature_gib=1e-6), HALF, 32)


def test_early_stopping_keeps_the_best_epoch():
    recipe = replace(QUICK, epochs=20, patience=2, learning_rate=0.05, schedule="constant", clip=0.0)
    model, source = narrow(), pictures()
    fit = train(model, source, recipe, HALF, 32)
    scores = [(row["accuracy"], -row["loss"]) for row in fit.history if row["split"] == "validation"]
    assert len(scores) == min(20, fit.best_epoch + 2)
    assert scores.index(max(scores)) + 1 == fit.best_epoch
    _, apart = held_out(source.labels, 0.25, 0)
    images = HALF(clean_view(source.examples[apart].float() / 255, 32, 32))
    found = evaluate(model, images, source.labels[apart])
    assert found["accuracy"] == pytest.approx(fit.accuracy)
    assert found["loss"] == pytest.approx(-scores[fit.best_epoch - 1][1], rel=1e-4)


def test_with_nothing_held_out_the_last_epoch_is_kept():
    recipe = replace(QUICK, epochs=6, holdout=0.0, patience=1, learning_rate=0.05, schedule="constant", clip=0.0)
    fit = train(narrow(), pictures(), recipe, HALF, 32)
    assert [row["split"] for row in fit.history] == ["train"] * 6
    assert fit.best_epoch == 6
    assert fit.accuracy == fit.history[-1]["accuracy"]


def test_streamed_pictures_train_as_those_in_memory():
    source = pictures()
    streamed = Streamed(lambda indices: source.examples[indices], source.labels)
    one, other = narrow(), narrow()
    train(one, source, QUICK, HALF, 32)
    train(other, streamed, QUICK, HALF, 32)
    assert same(one.state_dict(), other.state_dict())


def test_divergence_is_an_error():
    recipe = replace(QUICK, optimiser="sgd", learning_rate=1e20, clip=0.0)
    with pytest.raises(InputError, match="diverged"):
        train(narrow("vgg16"), pictures(), recipe, HALF, 32)


def test_no_pictures():
    empty = InMemory(torch.zeros(0, 3, 32, 32), torch.zeros(0, dtype=torch.long))
    with pytest.raises(InputError, match="no training pictures"):
        train(narrow(), empty, QUICK, HALF, 32)


def test_folded_batch_norm_computes_the_same():
    model = narrow("vgg16")
    names = list(model.state_dict())
    assert add_batch_norm(model)
    for _ in range(3):
        model.train()(torch.rand(8, 3, 32, 32))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        expected = model.eval()(images)
        fold_batch_norm(model)
        torch.testing.assert_close(model(images), expected, atol=1e-4, rtol=1e-4)
    assert list(model.state_dict()) == names
    assert not add_batch_norm(narrow("resnet50"))


def test_held_out_is_balanced_and_apart():
    labels = torch.tensor([0] * 10 + [1] * 20 + [2])
    kept, apart = held_out(labels, 0.2, seed=1)
    assert sorted(torch.cat([kept, apart]).tolist()) == list(range(31))
    assert torch.bincount(labels[apart], minlength=3).tolist() == [2, 4, 0]
    assert not torch.equal(apart, held_out(labels, 0.2, seed=2)[1])


def test_no_batch_of_one():
    assert [len(group) for group in grouped(torch.arange(65), 64)] == [33, 32]
    assert torch.equal(torch.cat(grouped(torch.arange(65), 64)), torch.arange(65))


def test_learning_rate_schedules():
    recipe = TrainingConfig(learning_rate=1.0, warmup=0.2)
    rates = [learning_rate(recipe, step, 10) for step in range(10)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[6] == pytest.approx(0.5)
    assert all(a > b for a, b in itertools.pairwise(rates[2:]))
    assert learning_rate(replace(recipe, schedule="cosine"), 5, 10) == pytest.approx(0.5)
    assert learning_rate(replace(recipe, schedule="constant"), 9, 10) == 1.0


def test_pictures_grow():
    recipe = TrainingConfig(epochs=10, start_size=32, full_size_from=0.5)
    assert [training_size(recipe, 64, epoch) for epoch in range(7)] == [32, 40, 48, 48, 56, 64, 64]
    assert training_size(TrainingConfig(start_size=0), 64, 0) == 64


def test_no_augmentation_is_the_clean_view():
    images = torch.rand(3, 3, 40, 48)
    nothing = Augmentation(shift=0, zoom=0, flip=False, brightness=0, contrast=0, saturation=0)
    view = random_view(images, nothing, 32, 32, torch.Generator().manual_seed(0))
    torch.testing.assert_close(view, clean_view(images, 32, 32), atol=1e-5, rtol=1e-5)
    assert torch.equal(clean_view(images, 32, 32), images[..., 4:36, 8:40])


def test_a_mirrored_view():
    images = torch.rand(8, 3, 32, 32)
    mirror = Augmentation(shift=0, zoom=0, flip=True, brightness=0, contrast=0, saturation=0)
    views = random_view(images, mirror, 32, 32, torch.Generator().manual_seed(0))
    mirrored = [torch.allclose(view, image.flip(-1), atol=1e-5) for view, image in zip(views, images, strict=True)]
    as_is = [torch.allclose(view, image, atol=1e-5) for view, image in zip(views, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, as_is, strict=True))
    assert any(mirrored)
    assert any(as_is)


def test_views_do_not_depend_on_the_pictures_of_the_batch():
    images = torch.rand(4, 3, 32, 32)
    other = images.clone()
    other[0] = 0
    one = random_view(images, Augmentation(), 32, 32, torch.Generator().manual_seed(3))
    two = random_view(other, Augmentation(), 32, 32, torch.Generator().manual_seed(3))
    assert torch.equal(one[1:], two[1:])
    assert one.min() >= 0
    assert one.max() <= 1


def test_probabilities_by_tensor_or_by_batch():
    model, images = narrow().eval(), torch.rand(5, 3, 32, 32)
    whole = predict(model, images, batch_size=5)
    torch.testing.assert_close(predict(model, iter(images.split(2))), whole)
    torch.testing.assert_close(whole.sum(1), torch.ones(5))
    labels = whole.argmax(1)
    found = evaluate(model, images, labels)
    assert found["accuracy"] == 1.0
    assert found["loss"] == pytest.approx(-whole.max(1).values.log().mean().item(), rel=1e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "unknown key 'epoch'.*epochs"),
        ({"augmentation": {"hue": 1}}, "unknown key 'hue'"),
        ({"optimiser": "adam"}, "optimiser is 'adam'.*adamw"),
        ({"epochs": 0}, "epochs is 0"),
        ({"holdout": 1.0}, "holdout"),
        ({"learning_rate": -1}, "learning_rate"),
    ],
)
def test_bad_recipes(values, message):
    with pytest.raises(InputError, match=message):
        TrainingConfig.from_mapping(values)


def test_recipe_from_the_configuration():
    recipe = TrainingConfig.from_mapping({"epochs": 5, "augmentation": {"flip": False}})
    assert recipe == TrainingConfig(epochs=5, augmentation=Augmentation(flip=False))
    assert math.isclose(recipe.learning_rate, 0.0025)
