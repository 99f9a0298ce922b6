"""The methods that AE's tables and figures name: Table 2's arms, Figure 8's gammas, Eq. 6 as printed, the baselines."""

import json
from pathlib import Path

import pytest
import relmap
import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from oracles.equilibrium import attribution_equilibrium
from oracles.modules import Tape, contribution_map, total
from relmap.catalogue.methods import Method
from relmap.catalogue.papers import read_paper
from relmap.catalogue.rows import load_rows
from relmap.errors import InputError
from relmap.explainers.equilibrium import AttributionEquilibrium, terms_named
from relmap.explainers.integrated_gradients import IntegratedGradients
from relmap.network.graph import Operation
from relmap.propagation import Propagator, composites
from relmap.propagation.rules import AlphaBeta, Epsilon, ZBox
from torch import Tensor, nn

from papers.ae.rows import ARMS, GAMMA_SWEEP, arm_id

PAPER = Path(__file__).resolve().parents[1] / "papers" / "ae"
CLASSES = 4


class Tiny(nn.Module):
    """Torchvision's VGG in its parts, with a 1 x 1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Conv2d(16, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 16, 1), nn.ReLU()]
        layers += [nn.Conv2d(16, 8, 3, padding=1), nn.ReLU()]
        self.features, self.avgpool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(nn.Linear(32, 7), nn.ReLU(), nn.Linear(7, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(3)
    return Tiny().double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


TARGETS = torch.tensor([0, 3, 1])


@pytest.fixture(scope="module")
def rows() -> dict[str, Method]:
    """As a job gets them: written as JSON and read again."""
    methods = load_rows([PAPER / "rows.py"]).methods
    return {name: Method.from_dict(json.loads(json.dumps(row.to_dict()))) for name, row in methods.items()}


@pytest.mark.parametrize("terms", ARMS)
def test_arms_of_table_2(terms, model, images, rows):
    ours = relmap.explain(model, images, TARGETS, rows[arm_id(terms)])
    expected = attribution_equilibrium(model, images, TARGETS, 2.0, terms).sum(1)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


def test_table_2_names_these_arms(rows):
    printed = read_paper(PAPER).tables[2]["methods"]["attribution_equilibrium"]["id"]
    assert {terms: arm_id(terms) for terms in printed} == printed
    assert set(printed.values()) <= rows.keys()


@pytest.mark.parametrize("gamma", GAMMA_SWEEP)
def test_gammas_of_figure_8(gamma, model, images, rows):
    ours = relmap.explain(model, images, TARGETS, rows[GAMMA_SWEEP[gamma]])
    torch.testing.assert_close(ours, attribution_equilibrium(model, images, TARGETS, gamma).sum(1))


@pytest.mark.parametrize("gamma", [1.0, 1.5, 2.0])
def test_algorithm_1_as_printed(gamma, model, images):
    ours = relmap.explain(model, images, TARGETS, "attribution_equilibrium_printed", gamma=gamma)
    printed = attribution_equilibrium(model, images, TARGETS, gamma, printed=True).sum(1)
    torch.testing.assert_close(ours, printed, rtol=1e-9, atol=1e-12)
    tau = relmap.explain(model, images, TARGETS, "attribution_equilibrium", gamma=gamma)
    torch.testing.assert_close(tau, attribution_equilibrium(model, images, TARGETS, gamma).sum(1))
    assert (ours - tau).norm() > 0.1 * tau.norm(), "the readings differ"


@pytest.mark.parametrize("reading", ["tau", "printed"])
@pytest.mark.parametrize("gamma", [1.0, 1.75, 2.0])
def test_sum_law_of_each_reading(gamma, reading, model, images):
    """(gamma - 2) tau at 3 x 3 convolutions; as printed (gamma - 1) sum |G| - tau, which is not the paper's law."""
    explain = AttributionEquilibrium(Propagator(model), gamma=gamma, total=reading)
    sums: dict[str, Tensor] = {}

    def observe(operation: Operation, _: Tensor, parts: tuple[Tensor, ...]) -> None:
        sums[operation.name] = parts[0].flatten(2).sum(2)[0]

    activations = explain.walk.propagator.forward(images, explain.walks, explain.keep)
    explain.propagate(activations, TARGETS[None], observe=observe)
    tape = Tape(model, images)
    contributions = contribution_map(tape, TARGETS)
    scale = (total(contributions.abs()) / total(contributions).abs()).flatten()
    expected = (gamma - 2) * torch.ones(3).double() if reading == "tau" else (gamma - 1) * scale - 1
    for name in ("features.3", "features.7"):
        torch.testing.assert_close(sums[name], expected, rtol=1e-12, atol=1e-12)
    # 1 x 1: gamma 1, no shift; C gives nothing in sum, A and U cancel but for the rounding of float64 (1.2e-15 seen).
    torch.testing.assert_close(sums["features.5"], torch.zeros(3).double(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("names", ["", "Psi", "C+C", "C+B", "c"])
def test_unknown_terms_are_named(names):
    with pytest.raises(InputError, match="Psi"):
        terms_named(names)


def test_composite_of_the_lrp_row(model, images):
    """Epsilon in linear layers, z+ in convolutions, z-box first; relevance of the class is kept but for biases."""
    rules = composites.epsilon_plus_box(-3.0, 3.0).rules(Propagator(model).graph)
    assert isinstance(rules["features.0"], ZBox)
    assert all(isinstance(rules[f"features.{i}"], AlphaBeta) for i in (3, 5, 7))
    assert all(isinstance(rules[f"classifier.{i}"], Epsilon) for i in (0, 2))
    bounds = {"low": images.min().item(), "high": images.max().item()}
    boxed = relmap.explain(model, images, TARGETS, "lrp_epsilon_plus_box", **bounds)
    plain = relmap.explain(model, images, TARGETS, "lrp_epsilon_plus")
    assert not torch.allclose(boxed, plain)
    with pytest.raises(InputError, match="takes no bounds"):
        relmap.explain(model, images, TARGETS, relmap.catalogue.methods.find("lrp_epsilon_plus"), **bounds)


def test_integrated_gradients_are_captum_s(model, images):
    """One forward pass a point, whatever the number of targets."""
    targets = torch.tensor([[0, 1], [2, 3], [1, 0]])
    path = CaptumIntegratedGradients(model)
    theirs = [
        path.attribute(images, baselines=0.0, target=of_all, n_steps=20, method="gausslegendre").sum(1)
        for of_all in targets.T
    ]
    sizes: list[int] = []
    ours = relmap.explain(model, images, targets, "integrated_gradients")
    torch.testing.assert_close(ours, torch.stack(theirs, 1), rtol=1e-6, atol=1e-11)
    propagator = Propagator(model)
    walked = IntegratedGradients(propagator)
    forward = propagator.forward
    walked.walk.propagator.forward = lambda given, *rest: sizes.append(len(given)) or forward(given, *rest)
    walked(images, targets)
    assert sizes == [3] * 20


def test_integrated_gradients_are_complete(model, images):
    """To rounding where the network is smooth; kinks of ReLUs leave an error of the sum, less with more points."""
    targets = torch.tensor([[0, 1], [2, 3], [1, 0]])
    smooth = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(CLASSES)).double()
    smooth(images)

    def lacking(network: nn.Module, steps: int) -> float:
        gain = (network(images) - network(0 * images)).gather(1, targets)
        maps = IntegratedGradients(Propagator(network), steps=steps)(images, targets)
        return (maps.sum((2, 3)) - gain).abs().max().item()

    assert lacking(smooth, 60) < 1e-12
    assert lacking(model, 400) < lacking(model, 20) / 5
    with pytest.raises(InputError, match="token"):
        IntegratedGradients(Propagator(model))(torch.ones(2, 5, dtype=torch.long), targets[:2])
    with pytest.raises(InputError, match="steps is 0"):
        IntegratedGradients(Propagator(model), steps=0)
