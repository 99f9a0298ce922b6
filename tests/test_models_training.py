"""Training: resumption, frozen features, early stopping, folding, errors."""

import csv
import itertools
import math
from dataclasses import replace

import pytest
import scipy.stats
import torch
from relmap.errors import InputError
from relmap.models import augment, build, training
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
from relmap.models.zoo import new_last_layer
from relmap.torchvision_shim import torchvision
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


@pytest.mark.parametrize("number", [1, 7, 20, 45, 77])
def test_held_out_by_number_is_spread_evenly(number):
    counts = torch.tensor([30] * 2 + [3, 1, 20])
    labels = torch.arange(5).repeat_interleave(counts)
    kept, apart = held_out(labels, number, seed=1)
    assert sorted(torch.cat([kept, apart]).tolist()) == list(range(84))
    assert len(apart) == number
    taken = torch.bincount(labels[apart], minlength=5)
    assert (taken < counts).all()
    for one in range(5):  # a class that has less than another had no more to give
        assert taken[one] >= min(taken.max() - 1, counts[one] - 1)
    again = held_out(labels, number, seed=2)[1]
    assert number == 77 or not torch.equal(apart, again)


def test_cubs_training_part_gives_one_a_class():
    """5,994 pictures, of 200 classes, to 5,794 and 200 (C3-LRP, 4.1)."""
    labels = torch.arange(200).repeat_interleave(torch.tensor([30] * 194 + [29] * 6))
    kept, apart = held_out(labels, 200, seed=0)
    assert (len(kept), len(apart)) == (5794, 200)
    assert torch.bincount(labels[apart]).tolist() == [1] * 200


def test_more_held_out_than_can_be_spared():
    with pytest.raises(InputError, match="holdout is 3 pictures, and 2 can be spared"):
        held_out(torch.tensor([0, 0, 1, 1]), 3, seed=0)
    labels = torch.ones(6, 2)
    assert len(held_out(labels, 2, seed=0)[1]) == 2


def test_judged_by_loss():
    """The least held-out loss keeps its epoch, whatever the accuracy, and patience counts from there."""
    recipe = replace(
        QUICK, epochs=25, patience=3, judged_by="loss", learning_rate=0.05, schedule="constant", clip=0.0, holdout=9
    )
    model, source = narrow(), pictures()
    fit = train(model, source, recipe, HALF, 32)
    rows = [row for row in fit.history if row["split"] == "validation"]
    losses = [row["loss"] for row in rows]
    assert losses.index(min(losses)) + 1 == fit.best_epoch
    assert len(rows) == min(25, fit.best_epoch + 3)
    assert fit.accuracy == rows[fit.best_epoch - 1]["accuracy"]
    _, apart = held_out(source.labels, 9, 0)
    images = HALF(clean_view(source.examples[apart].float() / 255, 32, 32))
    assert evaluate(model, images, source.labels[apart])["loss"] == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.parametrize(("decayed", "nesterov"), [("weights", True), ("all", False)])
def test_a_step_of_sgd_is_as_defined(decayed, nesterov):
    """Two steps of one batch, written out: v = m v + g + d w, w -= r v (or r (g + d w + m v))."""
    recipe = replace(
        QUICK,
        optimiser="sgd",
        learning_rate=0.1,
        momentum=0.5,
        weight_decay=0.2,
        schedule="constant",
        warmup=0.0,
        epochs=2,
        batch_size=4,
        holdout=0.0,
        clip=0.0,
        decayed=decayed,
        nesterov=nesterov,
    )
    layer, tokens = nn.Linear(3, 2), torch.tensor([[1.0, 2, -1], [0, 1, 1], [2, 0, 1], [1, 1, 1]])
    labels = torch.tensor([0, 1, 0, 1])
    own = {name: value.detach().clone().double() for name, value in layer.named_parameters()}
    velocity = {name: torch.zeros_like(value) for name, value in own.items()}
    for _ in range(2):
        leaves = {name: value.clone().requires_grad_() for name, value in own.items()}
        nn.functional.cross_entropy(tokens.double() @ leaves["weight"].T + leaves["bias"], labels).backward()
        for name, leaf in leaves.items():
            step = leaf.grad + (0.2 * own[name] if decayed == "all" or name == "weight" else 0)
            velocity[name] = 0.5 * velocity[name] + step
            own[name] -= 0.1 * (step + 0.5 * velocity[name] if nesterov else velocity[name])
    training.train_as_is(layer, InMemory(tokens, labels), recipe)
    for name, value in layer.named_parameters():
        torch.testing.assert_close(value.double(), own[name], rtol=1e-5, atol=1e-6)


def test_the_last_stage_trains_as_the_network_with_the_rest_frozen():
    """Features of the clean picture, and what follows is trained: as if all of it had run at every step."""
    recipe = replace(QUICK, trainable="last_stage", views=1, epochs=2, holdout=3)
    model, source = narrow(classes=5), pictures()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    finetune(model, "resnet50", 3, source, recipe, HALF, 32, seed=4)
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"layer4", "fc"}

    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            whole = narrow(classes=5)
            new_last_layer(whole, "resnet50", 3, 4)
            self.layer4, self.avgpool, self.fc = whole.layer4, whole.avgpool, whole.fc
            self.before = [nn.Sequential(*list(whole.children())[:7]).eval()]

        def forward(self, images):
            with torch.no_grad():
                features = self.before[0](images)
            return self.fc(self.avgpool(self.layer4(features)).flatten(1))

    other = Frozen()
    images = HALF(clean_view(source.examples.float() / 255, 32, 32)).contiguous(memory_format=torch.channels_last)
    training.train_as_is(other, _Once(images, source.labels), recipe, seed=4)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=1e-5, msg=name)


class _Once(InMemory):
    """Whose views are one, drawn as those of features are: a draw of the generator a batch."""


def test_no_last_stage():
    with pytest.raises(InputError, match="names none as `stage`"):
        finetune(narrow("vgg16"), "vgg16", 3, pictures(), replace(QUICK, trainable="last_stage"), HALF, 32)


def test_all_is_a_training_of_the_whole_network():
    recipe = replace(QUICK, trainable="all", epochs=1)
    one, other = narrow(classes=5), narrow(classes=5)
    finetune(one, "resnet50", 3, pictures(), recipe, HALF, 32, seed=2)
    new_last_layer(other, "resnet50", 3, 2)
    train(other, pictures(), recipe, HALF, 32, seed=2)
    assert same(one.state_dict(), other.state_dict())


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


def test_random_crops_are_torchvisions():
    """Their law, by many draws of each: shares of the area, aspect ratios, places; torchvision's are whole pixels."""
    shape, count = (300, 400), 4000
    frames = augment._frames(count, 0.08, 64, torch.Size(shape), torch.Generator().manual_seed(0)).double()
    height, width = shape
    torch.manual_seed(0)
    theirs = [
        torchvision.transforms.RandomResizedCrop.get_params(torch.empty(3, *shape), (0.08, 1.0), (3 / 4, 4 / 3))
        for _ in range(count)
    ]
    top, left, high, wide = torch.tensor(theirs, dtype=torch.float64).T
    ours = torch.stack(
        [
            frames[:, 0] * frames[:, 1],
            (frames[:, 0] * width / (frames[:, 1] * height)).log(),
            (frames[:, 2] - frames[:, 0] + 1) / 2,
            (frames[:, 3] - frames[:, 1] + 1) / 2,
        ]
    )
    expected = torch.stack([high * wide / (height * width), (wide / high).log(), left / width, top / height])
    for one, other in zip(ours, expected, strict=True):
        assert scipy.stats.ks_2samp(one, other).pvalue > 1e-3
    assert (frames[:, :2] <= 1 + 1e-6).all()
    assert (frames[:, :2] + frames[:, 2:].abs() <= 1 + 1e-6).all()


def test_a_random_crop_is_that_part_of_the_picture():
    """A picture that grows to the right and down is, in a view, what it is at the frame's places."""
    across, down = torch.meshgrid(torch.linspace(0.1, 0.9, 60), torch.linspace(0.1, 0.9, 60), indexing="xy")
    images = torch.stack([across, down, 0 * down + 0.5]).expand(6, 3, 60, 60)
    only = Augmentation(crop_area=0.2, shift=0, zoom=0, flip=False, brightness=0, contrast=0, saturation=0)
    views = random_view(images, only, 40, 40, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    torch.rand(6, 8, generator=generator)
    frames = augment._frames(6, 0.2, 40, torch.Size((60, 60)), generator)
    place = (torch.arange(40) * 2 + 1) / 40 - 1
    for view, (half_width, half_height, x, y) in zip(views, frames, strict=True):
        at = x + half_width * place, y + half_height * place
        columns, rows = (0.5 + 0.4 * each * 60 / 59 for each in at)
        inside = slice(3, -3)
        torch.testing.assert_close(view[0, inside, inside], columns[inside].expand(34, 34), atol=1e-4, rtol=0)
        torch.testing.assert_close(view[1, inside, inside], rows[inside, None].expand(34, 34), atol=1e-4, rtol=0)


def test_a_picture_that_holds_no_such_crop_gives_its_middle():
    frames = augment._frames(3, 1.0, 10, torch.Size((10, 100)), torch.Generator().manual_seed(0))
    torch.testing.assert_close(frames, torch.tensor([[4 / 30, 1, 0, 0]]).expand(3, 4))


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
        ({"holdout": 1.5}, "whole number"),
        ({"holdout": -0.1}, "holdout"),
        ({"judged_by": "luck"}, "judged_by"),
        ({"trainable": "tail"}, "trainable"),
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


def test_trainings_share_features():
    """Those of one training serve another, which ends as it would with its own."""
    recipe, source = replace(QUICK, trainable="last_stage", views=1, epochs=1), pictures()
    one, other = narrow(classes=5), narrow(classes=5)
    first, _ = training.trained_part(one, "resnet50", "last_stage")
    features = cache_features(one, first, source, recipe, HALF, 32)
    assert features.examples.shape == (24, 1, 64, 2, 2)
    finetune(one, "resnet50", 3, source, recipe, HALF, 32, seed=5, features=features)
    finetune(other, "resnet50", 3, source, recipe, HALF, 32, seed=5)
    assert same(one.state_dict(), other.state_dict())
