r"""C3-LRP (Otsuki et al. 2024, Eq. 1 and 2): a residual block as one operation from its input z to its output z'.

.. math::
    R(z_i) = \sum_j \frac{z_i\, \partial z'_j / \partial z_i}{z'_j + \epsilon} R(z'_j), \qquad
    \text{in vector-Jacobian form: } R(z) = z * J^T \big(R(z') / (z' + \epsilon)\big)

Inside a block this is the gradient, so relevance walks over the block's operations one by one: the operation that
gives z' divides first, each operation that takes z multiplies last, and nothing is computed twice. An operation outside
blocks is a block of its own. Eq. 2, for linear layers, is the same with z' without its bias.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from relmap.network.graph import Graph, Operation
from relmap.propagation.rules.base import Record, Rule, stabilised


@dataclass(frozen=True)
class Block:
    """Operations with one input from outside and one output that is used outside.

    Attributes:
        source: name of the operation whose output is the block's input.
        members: names of its operations.
        sink: name of the member whose output is the block's output.
    """

    source: str
    members: frozenset[str]
    sink: str


def residual_blocks(graph: Graph) -> tuple[Block, ...]:
    """The outermost blocks that end in an addition of two ways, with the ReLU after it where there is one.

    A block begins where the two ways part. Additions whose ways are also read elsewhere end no block.
    """
    nearest, carriers = graph.dominators, graph.carriers()
    blocks: list[Block] = []
    for operation in reversed(graph.operations):
        if operation.kind != "add" or operation.name not in carriers or graph.adds_constant(operation):
            continue
        if any(operation.name in block.members for block in blocks):
            continue
        source, sink = nearest[operation.name], operation.name
        members = graph.between(source, sink)
        users = graph.consumers(sink)
        if [user.kind for user in users] == ["relu"]:
            sink = users[0].name
            members |= {sink}
        inner = (user.name for name in members if name != sink for user in graph.consumers(name))
        if all(name in members for name in inner):
            blocks.append(Block(source, members, sink))
    return tuple(reversed(blocks))


def branches(graph: Graph, addition: Operation) -> tuple[frozenset[str], ...]:
    """Names of the operations on each way into an addition, from where its ways part."""
    source = graph.dominators[addition.name]
    return tuple(graph.between(source, name) for name in addition.inputs)


@dataclass(frozen=True)
class BlockPart(Rule):
    """An operation's part in Eq. 1 of its block.

    Attributes:
        gradient: rule that gives the operation's transposed Jacobian.
        enters: for each input, whether it is the block's input.
        leaves: whether the output is the block's output.
        epsilon: of the denominator.
        signed: whether epsilon takes the denominator's sign, so that it can only grow (as printed it does not).
        bias: whether the denominator has the operation's bias.
    """

    gradient: Rule
    enters: tuple[bool, ...]
    leaves: bool
    epsilon: float
    signed: bool
    bias: bool = True

    signed_shares = True

    @property
    def needs_inputs(self) -> bool:
        return any(self.enters) or self.gradient.needs_inputs

    @property
    def needs_output(self) -> bool:
        return self.leaves or self.gradient.needs_output

    def __call__(self, record: Record, relevance: Tensor) -> tuple[Tensor, ...]:
        if self.leaves:
            z, affine = record.output, record.operation.affine
            if not self.bias and affine is not None and affine.bias is not None:
                z = affine.add_bias(z, -affine.bias)
            relevance = relevance / (stabilised(z, self.epsilon) if self.signed else z + self.epsilon)
        parts = self.gradient(record, relevance)
        return tuple(
            x * part if enters else part for x, part, enters in zip(record.inputs, parts, self.enters, strict=True)
        )
