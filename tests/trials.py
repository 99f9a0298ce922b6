"""Every method of the catalogue as tests try it that are not about its numbers: few masks, few steps."""

from dataclasses import replace

from relmap.catalogue.methods import CATALOGUE, Method


def tried(method: str) -> Method:
    """The row of a method with its ``trial`` parameters."""
    row = CATALOGUE[method]
    return replace(row, parameters={**row.parameters, **row.trial})
