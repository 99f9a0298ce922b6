"""``import relmap``: maps in one call, whatever the form of the targets, with errors that say how to mend them."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import relmap
import torch
from reference_nets import inputs, network
from relmap.catalogue.methods import ATTENTION, BRANCH, CATALOGUE, NEEDS, SIZES, Method
from relmap.catalogue.papers import read_paper, read_papers
from relmap.catalogue.rows import load_rows
from relmap.explainers.base import Relevance
from relmap.propagation import composites, starts
from trials import tried

PAPERS = Path(__file__).parents[1] / "papers"
ON_IMAGES = tuple(name for name, row in CATALOGUE.items() if not ({ATTENTION, BRANCH} & set(row.needs) or row.wraps))


@pytest.fixture(scope="module")
def model():
    return network("vgg16", torch.float32)


@pytest.fixture(scope="module")
def propagator(model):
    return relmap.Propagator(model)


@pytest.fixture(scope="module")
def exact():
    """In float64: contrastive maps are small remainders, which float32 gives a different rounding in each batch."""
    return relmap.Propagator(network("vgg16")), inputs()[0][:3]


@pytest.fixture(scope="module")
def images():
    return inputs(torch.float32)[0][:3]


@pytest.fixture(scope="module")
def targets():
    return inputs(torch.float32)[1][:, :3]  # (2, 3)


def test_importing_relmap_imports_nothing_heavy():
    code = "import sys, relmap; assert not {'torch', 'numpy', 'pandas'} & set(sys.modules); relmap.methods()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_method_has_a_maker_a_citation_and_known_needs():
    for method in relmap.methods():
        module, attribute = method.maker.split(":")
        maker = getattr(importlib.import_module(f"relmap.explainers.{module}"), attribute)
        assert maker.__doc__ and method.citation and method.label
        assert set(method.needs) <= set(NEEDS)
    assert len({method.label for method in relmap.methods()}) == len(CATALOGUE)


def test_the_methods_of_the_papers_that_propagate_backwards_are_there():
    """Ids as the papers' tables mean them, but for those of wrappers, of class maps and of methods that come later."""
    entries = [e for paper in read_papers(PAPERS) for t in paper.tables.values() for e in t["methods"].values()]
    ids = [entry["id"].values() if isinstance(entry["id"], dict) else [entry["id"]] for entry in entries]
    rows = load_rows(sorted(PAPERS.glob("*/rows.py")))
    missing = set().union(*ids) - set(rows.methods)
    elsewhere = {"wgrad_cam", "xgrad_cam", "attention_branch_network"}
    elsewhere |= {"attention_last_layer", "attention_rollout", "tibav", "norm_grad"}
    elsewhere |= {"c3_lrp_contour", "c3_lrp_c1c", "center"}
    elsewhere |= {name for name in missing if name.startswith(("ucag_", "attribution_equilibrium_c"))}
    elsewhere |= {"attribution_equilibrium_a_u"}
    assert missing <= elsewhere


def test_forms_of_targets(propagator, images, targets):
    one = relmap.explain(propagator, images, targets[0], "lrp_epsilon")
    assert one.shape == (3, 64, 64) and one.dtype == torch.float32
    several = relmap.explain(propagator, images, targets.T, "lrp_epsilon")
    assert several.shape == (3, 2, 64, 64)
    torch.testing.assert_close(several[:, 0], one)
    for form in (targets.T.tolist(), targets.T.numpy()):
        assert torch.equal(relmap.explain(propagator, images, form, "lrp_epsilon"), several)
    same = relmap.explain(propagator, images, 4, "lrp_epsilon")
    torch.testing.assert_close(same, relmap.explain(propagator, images, [4, 4, 4], "lrp_epsilon"))
    predicted = relmap.explain(propagator, images, method="lrp_epsilon")  # the nets are right on all of these
    torch.testing.assert_close(predicted, one)


def test_a_map_is_what_the_engine_gives(model, propagator, images, targets):
    walk = propagator.by(composites.epsilon(0.1))
    activations = walk.forward(images)
    start = starts.logit(activations.logits, targets[1])[None]
    theirs = walk.propagate(activations, start).relevance[0].sum(1)
    torch.testing.assert_close(relmap.explain(model, images, targets[1], "lrp_epsilon", epsilon=0.1), theirs)


def test_several_methods_share_one_forward_pass(model, images, monkeypatch):
    calls = []
    original = relmap.Propagator.forward
    monkeypatch.setattr(relmap.Propagator, "forward", lambda *a, **k: calls.append(1) or original(*a, **k))
    maps = relmap.compare(model, images, 0, ["lrp_epsilon", "lrp_gamma", "grad_cam", "abslrp"])
    assert list(maps) == ["lrp_epsilon", "lrp_gamma", "grad_cam", "abslrp"] and len(calls) == 1
    assert list(relmap.compare(model, images, 0, "lrp_epsilon")) == ["lrp_epsilon"]
    for method, together in maps.items():
        torch.testing.assert_close(together, relmap.explain(model, images, 0, method))


@pytest.mark.parametrize("method", ON_IMAGES)
def test_the_batch_changes_nothing(method, exact, targets):
    propagator, images = exact
    whole = relmap.explain(propagator, images, targets.T, tried(method))
    assert whole.shape == (3, 2, 64, 64) and whole.isfinite().all()
    ones = relmap.explain(propagator, images, targets.T, tried(method), batch_size=1)
    torch.testing.assert_close(whole, ones, rtol=1e-6, atol=1e-9 * whole.abs().max().item())
    if not CATALOGUE[method].signed:
        assert (whole >= 0).all()


def test_the_model_stays_as_it_was(images):
    model = network("resnet50", torch.float32).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    relmap.explain(model, images, 0, "abslrp")
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_model_that_changed_since_needs_a_new_propagator(images):
    model = network("vgg16", torch.float32)
    propagator = relmap.Propagator(model)
    relmap.explain(propagator, images, 0, "lrp_epsilon")
    with torch.no_grad():
        model.features[0].weight.mul_(2)
    with pytest.raises(relmap.InputError, match="build a new Propagator"):
        relmap.explain(propagator, images, 0, "lrp_epsilon")


@pytest.mark.parametrize(
    ("arguments", "parameters", "message"),
    [
        ((0, "lrp_epslon"), {}, "method 'lrp_epslon' is unknown"),
        ((10, "lrp_epsilon"), {}, "target 10 is no class of this model; it has 10"),
        ((-1, "lrp_epsilon"), {}, "target -1"),
        (([1, 2], "lrp_epsilon"), {}, "targets have shape"),
        ((torch.tensor([0.5, 1, 2]), "lrp_epsilon"), {}, "whole numbers"),
        ((torch.tensor([True, False, True]), "lrp_epsilon"), {}, "whole numbers, not torch.bool"),
        (([[1, 2], [3], [4]], "lrp_epsilon"), {}, "as many for each image"),
        (("lrp_epsilon",), {}, "give a method as method='lrp_epsilon'"),
        ((0, "lrp_epsilon"), {"batch_size": 0}, "batch_size must be"),
        ((0, "lrp_epsilon"), {"epsilom": 1}, "'epsilom'; it takes epsilon, bias, start"),
        ((0, "lrp_zero"), {"epsilon": 1}, "fixes 'epsilon' to 0.0"),
        ((0, "lrp_epsilon"), {"start": "logits"}, "start 'logits' is unknown"),
        ((0, "lrp_alpha1_beta0"), {"first": "zbox"}, "first 'zbox' is unknown"),
        ((0, "grad_cam"), {"layer": "features.99"}, "layer 'features.99' does not exist"),
    ],
)
def test_errors_say_how_to_mend_them(propagator, images, arguments, parameters, message):
    with pytest.raises(relmap.InputError, match=message):
        relmap.explain(propagator, images, *arguments, **parameters)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x.double(), r"layer 'features\.0' has weights of torch.float32 and gets torch.float64: convert"),
        (lambda x: x[0], r"layer 'features\.0' takes \(N, 3, H, W\), not \(3, 64, 64\).*images\[None\]"),
        (lambda x: x[:, :1], r"takes \(N, 3, H, W\), not \(3, 1, 64, 64\)"),
        (lambda x: x[:0], "there is none to explain"),
        (lambda x: list(x), "must be one tensor, not list"),
    ],
)
@pytest.mark.parametrize("face", [relmap.explain, relmap.conservation])
def test_images_that_do_not_fit_are_refused_by_name(propagator, images, face, spoil, message):
    with pytest.raises(relmap.InputError, match=message):
        face(propagator, spoil(images), method="lrp_epsilon")


PHOTOGRAPHS = {
    "whole numbers": (lambda x: (x.abs() * 50).to(torch.uint8), r"whole numbers \(torch\.uint8\).* from 0 to 255"),
    "0 to 255": (lambda x: (x.abs() * 50).round(), "as photographs from 0 to 255 that were not normalised"),
    "channels last": (
        lambda x: x.movedim(1, -1),
        r"\(N, H, W, C\): give \(N, C, H, W\), images\.permute\(0, 3, 1, 2\)",
    ),
    "no number": (lambda x: x.index_fill(0, torch.tensor(1), torch.nan), "image 1 holds NaN or infinity"),
    "infinite": (lambda x: x.index_fill(0, torch.tensor(2), torch.inf), "image 2 holds NaN or infinity"),
}


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("face", [relmap.explain, relmap.conservation])
def test_images_that_cannot_be_meant_are_refused(propagator, images, face, name):
    spoil, message = PHOTOGRAPHS[name]
    with pytest.raises(relmap.InputError, match=message):
        face(propagator, spoil(images), 0, "lrp_epsilon")


class Own(Relevance):
    def __init__(self, propagator, *, epsilon=0.1):
        super().__init__(propagator, composites.epsilon(epsilon), starts.logit)


class Broken(Relevance):
    def __init__(self, propagator):
        len(1)


def test_a_method_of_ones_own_needs_no_file(propagator, images, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "own", Method("own", "Own", "myself", Own))
    monkeypatch.setitem(CATALOGUE, "broken", Method("broken", "Broken", "myself", Broken))
    theirs = relmap.explain(propagator, images, 0, "lrp_epsilon", epsilon=0.2)
    torch.testing.assert_close(relmap.explain(propagator, images, 0, "own", epsilon=0.2), theirs)
    assert relmap.methods()[-2].id == "own" and len(relmap.conservation(propagator, images, method="own"))
    with pytest.raises(relmap.InputError, match="'eps'; it takes epsilon"):
        relmap.explain(propagator, images, 0, "own", eps=1)
    with pytest.raises(TypeError, match="len"):  # a mistake in the method is not the caller's
        relmap.explain(propagator, images, 0, "broken")


def test_a_walk_refuses_what_it_cannot_reach(propagator, images):
    walk = propagator.by(composites.epsilon())
    activations = walk.forward(images, keep="features.0")  # one name may stand alone
    assert "features.0" in activations.outputs
    start = starts.logit(activations.logits, torch.zeros(3, dtype=torch.long))[None]
    assert list(walk.propagate(activations, start, capture="features.0").captured) == ["features.0"]
    with pytest.raises(relmap.InputError, match=r"no relevance reaches 'features\.0' on the way"):
        walk.propagate(activations, start, stop="features.5", capture=["features.0"])
    for transform in (lambda r: None, lambda r: r.sum(2)):
        with pytest.raises(relmap.InputError, match=r"the transform at 'features\.5' must keep the shape"):
            walk.propagate(activations, start, transforms={"features.5": transform})
    with pytest.raises(relmap.InputError, match=r"the forward pass has no 'classifier\.6'"):
        walk.propagate(walk.forward(images, until="features.5"), start)


def test_conservation_takes_targets_as_explain_does(propagator, images):
    with pytest.raises(relmap.InputError, match="target 10 is no class"):
        relmap.conservation(propagator, images, 10, "lrp_epsilon")
    dense = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))  # logits (N, C, h, w)
    assert len(relmap.conservation(dense, images, method="abslrp"))


def test_conservation_tells_where_relevance_leaks(propagator, images):
    table = relmap.conservation(propagator, images, method="lrp_alpha1_beta0", first="same").set_index("operation")
    assert (table["leak_share"] < 1e-3).all()  # no bias counts; a dead unit or two keeps what it is sent
    assert table.index[0] == "classifier.6" and table.index[-1] == "features.0"
    below = table["passed_on"].shift(1).iloc[1:]
    assert (
        (table["received"].iloc[1:] - below).abs() < 1e-4 * below.abs()
    ).all()  # a chain: each receives what was passed on
    leaking = relmap.conservation(propagator, images, method="lrp_epsilon").groupby("kind")["leak_share"].max()
    assert leaking["conv"] > 1e-2 and leaking["relu"] == 0 and leaking["max_pool"] < 1e-5


@pytest.mark.parametrize("net", ["vgg16", "resnet50"])
def test_one_id_is_one_map(net):
    """What a job makes for a paper's tables, all methods in one pass, is what `explain` gives for an id, to the bit."""
    images, targets = inputs(torch.float32)
    images, targets = images[:2], targets[0, :2]
    paper = read_paper(Path(__file__).parents[1] / "papers" / "clam")
    ids = {entry["id"] for entry in paper.tables[1]["methods"].values()} | set(paper.controls)
    ids = sorted(method for method in ids if method in CATALOGUE)
    assert {"clrp_two_passes_norms", "sglrp_two_passes_norms", "lrp_alpha1_beta0_norms", "constant"} <= set(ids)
    together = relmap.compare(relmap.Propagator(network(net, torch.float32)), images, targets, [*ids, "clrp", "sglrp"])
    for method, maps in together.items():
        alone = relmap.explain(network(net, torch.float32), images, targets, method)
        assert torch.equal(maps, alone), method
    if net == "resnet50":
        assert not torch.allclose(together["clrp"], together["clrp_two_passes_norms"]), "another reading has another id"


class Adding(torch.nn.Module):
    """A residual network that adds what is no part of the image: a normalisation, a position embedding, a number."""

    def __init__(self, constant: bool, size: float):
        super().__init__()
        torch.manual_seed(0)
        self.constant = constant
        self.first, self.second = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.third = torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 4, 3, padding=1)
        self.embedding = torch.nn.Parameter(size * torch.randn(1, 4, 8, 8))
        self.size, self.head = size, torch.nn.Linear(4, 5)
        self.register_buffer("mean", size * torch.rand(3, 1, 1))

    def forward(self, x):
        if self.constant:
            x = (x - self.mean) / 1
        x = torch.relu(self.first(x))
        if self.constant:
            x = x + self.embedding
        y = self.third(torch.relu(self.norm(self.second(x))))
        if self.constant:
            y = self.size + y
        x = x + y
        if self.constant:
            x = x + x.new_full((4, 1, 1), self.size)
        x = torch.nn.functional.max_pool2d(torch.relu(x), 2)
        return self.head(torch.nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


# A network of random weights has a random constant.
# What is added has the image's size, and CAMERAS shows the network others.
OF_ANY_SIZE = {name for name, row in CATALOGUE.items() if SIZES in row.needs}


@pytest.mark.parametrize("method", [name for name in ON_IMAGES if name not in {"random_network", *OF_ANY_SIZE}])
def test_a_constant_that_is_added_is_no_branch(method):
    """Zeros change no map; other numbers leave it a map of each image by itself."""
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with_zeros, without = (Adding(constant, 0.0).double().eval() for constant in (True, False))
    expected = relmap.explain(without, x, 1, tried(method))
    found = relmap.explain(with_zeros, x, 1, tried(method))
    if not method.startswith("abslrp"):  # an operation of its own there, which only positive values pass
        # An addition has a stabiliser of its own, 1e-6, where the method's layers have one.
        tolerance = 2e-5 if method.startswith(("lrp_epsilon", "lrp_gamma")) else 1e-10
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * expected.abs().max().item())
    model = Adding(True, 0.5).double().eval()
    maps = relmap.explain(model, x, 1, tried(method))
    # A difference of two classes may speak against the first everywhere, and be cut off.
    assert maps.isfinite().all() and (method == "finer_cam" or (maps != 0).any())
    torch.testing.assert_close(maps[1:], relmap.explain(model, x[1:], 1, tried(method)))
