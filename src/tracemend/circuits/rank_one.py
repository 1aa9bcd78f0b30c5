"""Changes of rank one to a feed-forward layer's second matrix: put on for a while, kept in a small file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from tracemend.circuits.weights import matrix, module_at
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel
from tracemend.models.shards import ShardFile, digest, write_shard

_KIND = "rank-one edits"


@dataclass(frozen=True, eq=False)
class RankOne:
    """W + reads writesᵀ, for W [d_mlp, d_model] of one block.

    Attributes:
        layer: of the block.
        reads: what a key is multiplied with, [d_mlp].
        writes: what is added to the output for a product of 1, [d_model].
        weights: hash of the W that it was made for.
        facts: what it is to do: ``prompt``, ``subject``, ``answer``, ``target``.
    """

    layer: int
    reads: Tensor
    writes: Tensor
    weights: str
    facts: Mapping[str, str] = field(default_factory=dict)


def weights_print(model: LanguageModel, layer: int) -> str:
    """Hash of the second feed-forward matrix of a block."""
    return digest({"weight": _weight(model, layer).detach().cpu()}, {"layer": layer})[:16]


@contextmanager
def edited(model: LanguageModel, edits: Sequence[RankOne]) -> Iterator[LanguageModel]:
    """The model with these edits while the block runs; its bits are put back afterwards.

    Example:
        >>> with edited(model, read_edits("runs/edit/edits.safetensors")[:1]):
        ...     model.network.save_pretrained("changed")        # or ask it

    Raises:
        CircuitError: a layer that the model lacks, or weights other than those an edit was made for (those of another
            model, or of this one with an edit already in place).
    """
    layers = sorted({one.layer for one in edits})
    for one in edits:
        found = weights_print(model, one.layer)
        if found != one.weights:
            raise CircuitError(
                f"the edit {one.facts.get('prompt', '')!r} was made for weights {one.weights} of layer {one.layer}; "
                f"{model.name} has {found} there. Take the model it was made for, and leave other edits first: edits "
                "that belong together are given together."
            )
    before = {layer: _weight(model, layer).detach().clone() for layer in layers}
    try:
        with torch.no_grad():
            for one in edits:
                weight = _weight(model, one.layer)
                change = torch.outer(one.reads, one.writes).to(weight)
                module = module_at(model, f"blocks.{one.layer}.mlp.hook_post")
                weight += change if isinstance(module, Conv1D) else change.T
        yield model
    finally:
        with torch.no_grad():
            for layer, weight in before.items():
                _weight(model, layer).copy_(weight)


def write_edits(path: Path, edits: Sequence[RankOne]) -> None:
    """Write edits to one safetensors file: two vectors each."""
    tensors: dict[str, Tensor] = {}
    for i, one in enumerate(edits):
        tensors |= {f"{i}.reads": one.reads.float().cpu(), f"{i}.writes": one.writes.float().cpu()}
    told = [{"layer": one.layer, "weights": one.weights, "facts": dict(one.facts)} for one in edits]
    write_shard(Path(path), tensors, {"kind": _KIND, "edits": told})


def read_edits(path: Path | str) -> list[RankOne]:
    """Read what :func:`write_edits` wrote.

    Raises:
        CircuitError: the file is missing, damaged, or holds something else.
    """
    with _EditFile(Path(path)) as file:
        if file.facts.get("kind") != _KIND:
            raise CircuitError(f"{path} holds no edits; give the edits.safetensors of a run of circuits edit.")
        if file.sha256() != file.facts["sha256"]:
            raise CircuitError(f"{path} is damaged (its hash is not the one it was written with); make it again.")
        return [
            RankOne(one["layer"], file.tensor(f"{i}.reads"), file.tensor(f"{i}.writes"), one["weights"], one["facts"])
            for i, one in enumerate(file.facts["edits"])
        ]


class _EditFile(ShardFile):
    error = CircuitError


def _weight(model: LanguageModel, layer: int) -> Any:
    module = module_at(model, f"blocks.{layer}.mlp.hook_post")
    matrix(module)  # refuses what is no plain linear layer
    return module.weight
