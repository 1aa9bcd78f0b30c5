"""Which numbers of a gradient row belong to which parameter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

# Where the architectures keep their layers: BERT `layer.0`, Llama `layers.0`, GPT-2 `h.0`, T5 `block.0`.
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")


@dataclass(frozen=True)
class Block:
    """A contiguous part of a gradient row.

    Attributes:
        name: of the parameter whose leading elements it holds; of the prompt encoder where the gradient is taken at
            its output.
        shape: of the part.
        offset: where it begins in the row.
        group: what it belongs to: ``prompt``, ``prefix``, ``head``, ``layer.3``, ``decoder.layer.3`` or ``other``.
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    group: str

    @property
    def size(self) -> int:
        """How many numbers."""
        return prod(self.shape)

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
        return "other"
    side = "decoder." if ".decoder." in name[: found.start() + 1] else ""
    return f"{side}layer.{found.group(1)}"


def lay_out(parts: Iterable[tuple[str, tuple[int, ...], str]]) -> Layout:
    """Blocks one after another, from (name, shape, group)."""
    blocks, offset = [], 0
    for name, shape, group in parts:
        blocks.append(Block(name, tuple(shape), offset, group))
        offset += blocks[-1].size
    return tuple(blocks)


def groups(layout: Layout) -> Mapping[str, list[slice]]:
    """Columns of each group, in the order of the layout."""
    found: dict[str, list[slice]] = {}
    for block in layout:
        found.setdefault(block.group, []).append(block.columns)
    return found
