"""Which numbers of a gradient row belong to which parameter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal, NamedTuple

import torch
from torch import Tensor

# Where the architectures keep their layers: BERT `layer.0`, Llama `layers.0`, GPT-2 `h.0`, T5 `block.0`.
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
# And their embeddings of words and places: `embeddings`, `embed_tokens`, `wte` and `wpe`, `shared`.
_EMBEDDINGS = re.compile(r"(?:^|\.)(?:embed\w*|wte|wpe|shared)\.")


# What a row holds of a block: every number of the gradient, or the two factors whose outer product it is.
Form = Literal["dense", "outer"]


class Part(NamedTuple):
    """A block that has no place in a row yet."""

    name: str
    shape: tuple[int, ...]
    group: str
    kind: Form = "dense"


@dataclass(frozen=True)
class Block:
    """A contiguous part of a gradient row.

    Attributes:
        name: of the parameter whose leading elements it holds; of the prompt encoder where the gradient is taken at
            its output; of the layer, weight and bias together, for an outer block.
        shape: of the gradient; (out, in + 1) for an outer block, whose last column is the bias.
        offset: where it begins in the row.
        group: what it belongs to: ``prompt``, ``prefix``, ``head``, ``layer.3``, ``decoder.layer.3``,
            ``embeddings`` or ``other``.
        kind: ``dense``: the row holds the gradient itself; ``outer``: the row holds a = [input, 1] and then g, and the
            gradient is :math:`g a^T`.
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    group: str
    kind: Form = "dense"

    @property
    def size(self) -> int:
        """How many numbers of a row it takes."""
        return prod(self.shape) if self.kind == "dense" else sum(self.shape)

    @property
    def columns(self) -> slice:
        """Where they stand in the row."""
        return slice(self.offset, self.offset + self.size)


Layout = tuple[Block, ...]


def group_of(name: str) -> str:
    """The part of the model that a parameter belongs to, read off its name.

    Example:
        >>> group_of("base_model.model.encoder.layer.3.attention.self.query.lora_A.default.weight")
        'layer.3'
    """
    if ".modules_to_save." in name:
        return "head"
    if name.startswith("prompt_encoder."):
        return "prompt"
    found = _LAYER.search(name)
    if found is None:
        return "embeddings" if _EMBEDDINGS.search(name) else "other"
    side = "decoder." if ".decoder." in name[: found.start() + 1] else ""
    return f"{side}layer.{found.group(1)}"


def lay_out(parts: Iterable[Part]) -> Layout:
    """Blocks one after another."""
    blocks: list[Block] = []
    offset = 0
    for part in parts:
        blocks.append(Block(part.name, tuple(part.shape), offset, part.group, part.kind))
        offset += blocks[-1].size
    return tuple(blocks)


def factors(rows: Tensor, block: Block) -> tuple[Tensor, Tensor]:
    """The two factors of an outer block: a [n, in + 1] and g [n, out]."""
    a, g = rows[:, block.columns].split((block.shape[1], block.shape[0]), dim=1)
    return a, g


def expand(rows: Tensor, layout: Layout) -> tuple[Tensor, Layout]:
    """Rows [n, P] with every outer block written out as the dense blocks of its weight and its bias."""
    if all(block.kind == "dense" for block in layout):
        return rows, layout
    parts: list[Part] = []
    columns: list[Tensor] = []
    for block in layout:
        if block.kind == "dense":
            parts.append(Part(block.name, block.shape, block.group))
            columns.append(rows[:, block.columns])
            continue
        a, g = factors(rows, block)
        out, inner = block.shape[0], block.shape[1] - 1
        parts += [
            Part(f"{block.name}.weight", (out, inner), block.group),
            Part(f"{block.name}.bias", (out,), block.group),
        ]
        columns += [(g[:, :, None] * a[:, None, :inner]).flatten(1), g]
    return torch.cat(columns, dim=1), lay_out(parts)


def outer_sums(g: Tensor, x: Tensor) -> Tensor:
    r""":math:`\sum_s g_{is} x_{is}^T` [batch, out, in], float32.

    The narrow side comes first: with 8 against 384 columns the other order takes four times as long on a CPU.
    """
    if g.shape[2] > x.shape[2]:
        return torch.bmm(x.transpose(1, 2), g).float().transpose(1, 2)
    return torch.bmm(g.transpose(1, 2), x).float()


def squared_norms(rows: Tensor, layout: Layout) -> Tensor:
    """Squared Euclidean norm of each gradient [n]; an outer block's is the product of its factors'."""
    outer = [block for block in layout if block.kind == "outer"]
    if not outer:
        return rows.square().sum(dim=1)
    found = torch.zeros(len(rows), dtype=rows.dtype, device=rows.device)
    for block in layout:
        if block.kind == "dense":
            found += rows[:, block.columns].square().sum(dim=1)
        else:
            a, g = factors(rows, block)
            found += a.square().sum(dim=1) * g.square().sum(dim=1)
    return found


def groups(layout: Layout) -> Mapping[str, list[slice]]:
    """Columns of each group, in the order of the layout."""
    found: dict[str, list[slice]] = {}
    for block in layout:
        found.setdefault(block.group, []).append(block.columns)
    return found
