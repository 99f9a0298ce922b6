"""Attention Branch Network: both forms against their equations written out, their loss, training, files and map."""

import math

import pytest
import relmap
import torch
import torch.nn.functional as F
from relmap.errors import InputError
from relmap.models import build, objective
from relmap.models.abn import group_form, official_form
from relmap.models.card import ModelCard, load_model, save_model
from relmap.models.examples import InMemory, Normalisation
from relmap.models.training import TrainingConfig, finetune, threads, train
from relmap.models.transfer import transferred
from relmap.torchvision_shim import torchvision
from torch import nn

FORMS = ("abn_resnet50", "abn_resnet50_official")
HALF = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
both = pytest.mark.parametrize("architecture", FORMS)


@pytest.fixture(autouse=True)
def one_thread():
    with threads(1):
        yield


def lively(architecture, width=1 / 16, classes=5, size=64):
    """One whose batch norms differ from each other and from nothing, around what they have seen."""
    model = build(architecture, classes, width, size, seed=2).double()
    generator = torch.Generator().manual_seed(5)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data.uniform_(0.5, 1.5, generator=generator)
        norm.bias.data.uniform_(-0.5, 0.5, generator=generator)
        norm.momentum = None  # the mean over what it sees
    with torch.no_grad():
        model.train().weighted_heads(torch.randn(16, 3, size, size, dtype=torch.float64, generator=generator))
    return model.eval()


def pictures(count=8, classes=3, size=36):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat_interleave(count)
    images = torch.rand(len(labels), 3, size, size, generator=generator) * 0.5
    images[torch.arange(len(labels)), labels] += 0.5
    return InMemory((images * 255).byte(), labels)


def normed(state, name, x):
    mean, var, weight, bias = (
        state[f"{name}.{key}"].view(1, -1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def bottleneck(state, name, x, stride=1):
    y = normed(state, f"{name}.bn1", F.conv2d(x, state[f"{name}.conv1.weight"])).relu()
    y = normed(state, f"{name}.bn2", F.conv2d(y, state[f"{name}.conv2.weight"], stride=stride, padding=1)).relu()
    y = normed(state, f"{name}.bn3", F.conv2d(y, state[f"{name}.conv3.weight"]))
    if f"{name}.downsample.0.weight" in state:
        x = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
        x = normed(state, f"{name}.downsample.1", x)
    return (x + y).relu()


def stage(state, number, blocks, x):
    for block in range(blocks):
        x = bottleneck(state, f"layer{number}.{block}", x, stride=2 if number > 1 and block == 0 else 1)
    return x


def written_out(architecture, state, images):
    """Output, the branch's logits and the attention, by the equations alone, from the tensors' names."""
    x = normed(state, "bn1", F.conv2d(images, state["conv1.weight"], stride=2, padding=3)).relu()
    x = stage(state, 2, 4, stage(state, 1, 3, F.max_pool2d(x, 3, 2, 1)))
    point = {key: state[f"attention_branch.{key}.weight"] for key in ("conv1", "classes", "conv3")}
    if architecture == "abn_resnet50":
        b = bottleneck(state, "attention_branch.blocks.1", bottleneck(state, "attention_branch.blocks.0", x))
        h = F.conv2d(normed(state, "attention_branch.bn1", b), point["conv1"]).relu()
        inner = F.conv2d(h, state["attention_branch.conv2.weight"])
        a = F.conv2d(normed(state, "attention_branch.bn2", inner).relu(), point["conv3"])
        a = 1 / (1 + (-normed(state, "attention_branch.bn3", a)).exp())
        z = stage(state, 3, 6, x * a)
    else:
        x = b = stage(state, 3, 6, x)
        for block in range(3):
            b = bottleneck(state, f"attention_branch.blocks.{block}", b)
        h = F.conv2d(normed(state, "attention_branch.bn1", b), point["conv1"])
        h = normed(state, "attention_branch.bn2", h).relu()
        a = normed(state, "attention_branch.bn3", F.conv2d(h, point["conv3"], padding=1))
        a = 1 / (1 + (-a).exp())
        z = x * (1 + a)
    z = stage(state, 4, 3, z).mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    return z, F.conv2d(h, point["classes"]).mean((2, 3)), a


@both
def test_it_is_its_equations(architecture):
    model = lively(architecture)
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits, of_branch, attention = written_out(architecture, model.state_dict(), images)
    assert attention.shape == ((3, 1, 8, 8) if architecture == "abn_resnet50" else (3, 1, 4, 4))
    assert attention.std() > 0.05
    torch.testing.assert_close(model(images), logits)
    torch.testing.assert_close(model.attention(images), attention)
    heads = model.weighted_heads(images)
    assert [weight for weight, _ in heads] == ([1.0, 0.1] if architecture == "abn_resnet50" else [1.0, 1.0])
    torch.testing.assert_close(heads[0][1], logits)
    torch.testing.assert_close(heads[1][1], of_branch)
    assert sum(value.numel() for value in model.state_dict().values()) > 0
    used = {name for name in model.state_dict() if "num_batches" not in name}
    assert used == {
        name for name, _ in [*model.named_parameters(), *model.named_buffers()] if "num_batches" not in name
    }


@both
def test_full_size(architecture):
    """torchvision's layers by their names; the branch's channels are those of the reference code."""
    model = build(architecture, 200, device="meta")
    base = build("resnet50", 200, device="meta").state_dict()
    own = {name: value.shape for name, value in model.state_dict().items()}
    assert {name: own[name] for name in base} == {name: value.shape for name, value in base.items()}
    assert all(name in base or name.startswith("attention_branch.") for name in own)
    branch = model.attention_branch
    if architecture == "abn_resnet50":
        assert [block.conv1.out_channels for block in branch.blocks] == [512, 512]
        assert branch.conv1.weight.shape == (10, 2048, 1, 1)
        assert branch.classes.weight.shape == (200, 10, 1, 1)
    else:
        assert [tuple(block.conv2.weight.shape) for block in branch.blocks] == [(512, 512, 3, 3)] * 3
        assert branch.conv1.weight.shape == (200, 2048, 1, 1)
        assert branch.classes.weight.shape == (200, 200, 1, 1)
        assert branch.conv3.weight.shape == (1, 200, 3, 3)
        assert {conv.stride for conv in branch.modules() if isinstance(conv, nn.Conv2d)} == {(1, 1)}
        assert model.layer4[0].conv2.stride == (2, 2)


def test_on_a_resnet_of_basic_blocks():
    for form in (group_form, official_form):
        model = form(torchvision.models.resnet18(num_classes=4), 4).eval()
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, 4)
        assert model.attention(torch.rand(1, 3, 64, 64)).shape[:2] == (1, 1)


@both
def test_the_loss_is_of_both_branches(architecture):
    model = lively(architecture).requires_grad_(True)
    images, labels = torch.randn(4, 3, 64, 64, dtype=torch.float64), torch.arange(4)
    logits, of_branch, _ = written_out(architecture, model.state_dict(), images)
    weight = 0.1 if architecture == "abn_resnet50" else 1.0
    expected = sum(
        share * -values.float().log_softmax(1)[torch.arange(4), labels].mean()
        for share, values in ((1.0, logits), (weight, of_branch))
    )
    loss = objective.total_loss(objective.heads(model, images), labels)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(value.grad is not None and value.grad.any() for value in model.parameters())
    model.zero_grad()
    objective.loss(model(images), labels).backward()
    assert model.attention_branch.classes.weight.grad is None  # what only the branch's own loss reaches


def test_a_network_with_one_output_is_trained_for_it():
    model, images = build("resnet18", 3, 1 / 16, 32), torch.rand(4, 3, 32, 32)
    ((weight, logits),) = objective.heads(model.eval(), images)
    assert weight == 1
    assert torch.equal(logits, model(images))
    labels = torch.tensor([0, 1, 2, 0])
    assert objective.total_loss([(weight, logits)], labels, 0.1) == objective.loss(logits, labels, 0.1)


@both
@pytest.mark.parametrize("trainable", ["last_stage", "all"])
def test_training_lowers_both_losses(architecture, trainable):
    base = build("resnet50", 7, 1 / 16, 32, seed=1).eval()
    model = transferred(base, architecture, 3, 1 / 16, 32, keep_last=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recipe = TrainingConfig(
        epochs=16,
        batch_size=8,
        learning_rate=1e-2,
        holdout=6,
        views=2,
        start_size=0,
        trainable=trainable,
        judged_by="loss",
    )
    source = pictures()
    images = HALF(source.examples[:, :, 2:34, 2:34].float() / 255)
    first = [objective.loss(logits, source.labels).item() for _, logits in model.weighted_heads(images)]
    fit = finetune(model, architecture, 3, source, recipe, HALF, 32)
    last = [objective.loss(logits, source.labels).item() for _, logits in model.weighted_heads(images)]
    assert all(after < 0.9 * before for before, after in zip(first, last, strict=True)), (first, last)
    validation = [row["loss"] for row in fit.history if row["split"] == "validation"]
    assert validation.index(min(validation)) + 1 == fit.best_epoch
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    stages = {name.split(".")[0] for name in changed}
    after = ("attention_branch", "layer4", "fc", *(["layer3"] if architecture == "abn_resnet50" else []))
    assert stages >= set(after)
    assert (stages == set(after)) == (trainable == "last_stage")


@both
def test_it_starts_from_a_resnet_and_is_nothing_untrained(architecture):
    base = build("resnet50", 7, 1 / 16, 32, seed=1).eval()
    model = transferred(base, architecture, 4, 1 / 16, 32, keep_last=False, seed=3)
    given, found = base.state_dict(), model.state_dict()
    assert all(torch.equal(found[name], given[name]) for name in given if not name.startswith("fc."))
    again = transferred(base, architecture, 4, 1 / 16, 32, keep_last=False, seed=3).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in found.items())
    other = transferred(base, architecture, 4, 1 / 16, 32, keep_last=False, seed=4).state_dict()
    assert not torch.equal(found["attention_branch.conv1.weight"], other["attention_branch.conv1.weight"])
    with pytest.raises(InputError, match="attention_branch must be trained"):
        transferred(base, architecture, 7, 1 / 16, 32, keep_last=True)


@both
def test_files(architecture, tmp_path):
    model = build(architecture, 4, 1 / 16, 32, seed=1).eval()
    save_model(model, tmp_path / "abn.safetensors", ModelCard(architecture, 4, 1 / 16, 32))
    loaded, card = load_model(tmp_path / "abn.safetensors")
    images = torch.rand(2, 3, 32, 32)
    assert card.architecture == architecture
    assert torch.equal(loaded(images), model(images))
    assert torch.equal(loaded.attention(images), model.attention(images))


@both
def test_its_map(architecture):
    model = lively(architecture)
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    maps = relmap.explain(model, images, torch.tensor([[0, 4]] * 3), "attention_branch_network")
    attention = written_out(architecture, model.state_dict(), images)[2]
    expected = F.interpolate(attention, (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(maps, expected.expand(3, 2, 64, 64))
    assert 0 < maps.min() <= maps.max() < 1
    channels = relmap.explain(model, images, 0, "attention_branch_network", by_channel=True)
    torch.testing.assert_close(channels, expected)
    alone = relmap.explain(model, images[1:2], 0, "attention_branch_network")
    torch.testing.assert_close(alone, maps[1:2, 0])


@both
def test_other_methods_treat_it(architecture):
    """Its logits' gradients are autograd's, through the product with the attention."""
    model = lively(architecture)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    model(images)[:, 1].sum().backward()
    maps = relmap.explain(model, images.detach(), 1, "input_x_gradient")
    torch.testing.assert_close(maps, (images * images.grad).sum(1).detach())


def test_a_network_without_a_branch_is_told_so():
    model = build("resnet18", 3, 1 / 16, 32).eval()
    with pytest.raises(InputError, match="this one has none"):
        relmap.explain(model, torch.rand(1, 3, 32, 32), 0, "attention_branch_network")
    model.attention_map = "layer4"
    with pytest.raises(InputError, match=r"not \(N, 1, h, w\)"):
        relmap.explain(model, torch.rand(1, 3, 32, 32), 0, "attention_branch_network")


def test_of_several_classes_an_image():
    """Its branch is trained by the same objective as its output."""
    model = build("abn_resnet50", 3, 1 / 16, 32, seed=1)
    source = pictures()
    several = InMemory(source.examples, F.one_hot(source.labels, 3).float())
    recipe = TrainingConfig(epochs=1, batch_size=8, start_size=0)
    fit = train(model, several, recipe, HALF, 32)
    assert all(math.isfinite(row["loss"]) for row in fit.history)
