"""What the method costs on the paper's network: parameters, multiply-accumulates, seconds a map."""

from __future__ import annotations

from functools import partial

import pandas as pd
import torch
from relmap.inspection.cost import Meter, explanation, in_turns
from relmap.models.zoo import build

# As printed (Section 4.2): parameters in millions, multiply-accumulates in milliards, seconds.
PRINTED = {"parameters_m": 23.9, "macs_g": 65.4, "seconds": 0.1}
# The paper's network: one for CUB's classes, and its pictures' side.
CLASSES, SIDE = 200, 224
FORWARD = "a forward pass"


def price_table(
    architecture: str,
    methods: list[str],
    device: str | torch.device,
    repetitions: int,
    classes: int = CLASSES,
    side: int = SIDE,
) -> pd.DataFrame:
    """What a map of one class of one picture costs, on a network of full width with random weights.

    Args:
        architecture: id of the network.
        methods: ids.
        device: where seconds are measured.
        repetitions: the median counts.
        classes, side: of the network.

    Returns:
        Columns what, parameters_m, macs_g, forwards (as many forward passes), seconds. The paper's row, one of
        a forward pass, and one for each method, its own forward pass included.
    """
    model = build(architecture, classes, 1.0, side, seed=0, device=device).eval().requires_grad_(False)
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    parameters = sum(value.numel() for value in model.parameters()) / 1e6
    jobs = {FORWARD: partial(model, images)}
    jobs |= {method: partial(explanation(model, images, method), 1) for method in methods}
    seconds = in_turns(jobs, repetitions)
    rows = [{"what": "the paper", **PRINTED}]
    for name, job in jobs.items():
        with Meter() as meter:
            job()
        # Two operations are a multiply-accumulate.
        rows.append(
            {"what": name, "parameters_m": parameters, "macs_g": meter.operations / 2e9, "seconds": seconds[name]}
        )
    table = pd.DataFrame(rows)
    forward = float(table.loc[table["what"] == FORWARD, "macs_g"].iloc[0])
    table.insert(table.columns.get_loc("seconds"), "forwards", table["macs_g"] / forward)
    return table
