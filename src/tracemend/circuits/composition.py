"""How much a later head reads of what an earlier one writes, from the weights alone (Elhage et al. 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from tracemend.circuits.circuit import heads_of, layers_of
from tracemend.circuits.weights import as_met, module_at, reads, writes
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel

Kind = Literal["q", "k", "v"]
Head = tuple[int, int]


def composition(model: LanguageModel, earlier: Head, later: Head, kind: Kind = "k") -> float:
    """Composition score of two heads, between 0 and 1.

    With W_OV = W_V W_O of the earlier head and W_QK = W_Q W_Kᵀ, W_OV of the later one (rows times matrix, gains of
    the norms folded in, no rotation by position), and Frobenius norms:

        q: |W_OV W_QK| / (|W_OV| |W_QK|)     k: |W_QK W_OVᵀ| / ...     v: |W_OV W_OV'| / ...

    Nothing of the size d_model x d_model is built.

    Args:
        model: a decoder.
        earlier: layer and head that write.
        later: layer and head that read, in a later layer.
        kind: by which of its inputs.

    Raises:
        CircuitError: ``later`` is not in a later layer; ``q`` or ``k`` of a model that normalises queries and keys.

    Example:
        >>> composition(load("smollm2"), (16, 0), (18, 6), "k")
    """
    if later[0] <= earlier[0]:
        raise CircuitError(f"head {later} cannot read what head {earlier} writes: it is not in a later layer.")
    if kind != "v" and has_query_norms(model):
        raise CircuitError(
            f"{model.name} normalises queries and keys, so that W_Q W_Kᵀ is not what its heads attend by; of its kinds "
            "of composition only v is in the weights alone."
        )
    return composition_of(factors(model, earlier, "ov"), factors(model, later, "ov" if kind == "v" else "qk"), kind)


def has_query_norms(model: LanguageModel) -> bool:
    """Whether norms lie between W_Q, W_K and the scores (Qwen3): then no product of weights gives the scores."""
    attention = module_at(model, "blocks.0.attn.hook_pattern")
    return any("norm" in name for name, _ in attention.named_children())


def factors(model: LanguageModel, head: Head, circuit: Literal["qk", "ov"]) -> tuple[Tensor, Tensor]:
    """W_Q and W_Kᵀ, or W_V and W_O, of one head: [d_model, d_head] and [d_head, d_model], the norm folded in."""
    layer, index = head
    norm = module_at(model, f"blocks.{layer}.ln1.hook_normalized")
    if circuit == "ov":
        written = writes(model, layer)[index]
        if isinstance(norm, nn.LayerNorm):  # nobody reads the mean of what is written
            written = written - written.mean(-1, keepdim=True)
        return as_met(norm, reads(model, layer, "v")[index]), written
    return as_met(norm, reads(model, layer, "q")[index]), as_met(norm, reads(model, layer, "k")[index]).T


def composition_of(writer: tuple[Tensor, Tensor], reader: tuple[Tensor, Tensor], kind: Kind) -> float:
    """The score from factored matrices [d_model, d_head] and [d_head, d_model]; see :func:`composition`."""
    a, b = writer
    c, d = (reader[1].T, reader[0].T) if kind == "k" else reader
    # |A (B C) D| from products of d_head x d_head.
    product = _norm(a, (b @ c) @ d)
    sizes = _norm(a, b) * _norm(*reader)
    return float(product / sizes) if sizes > 0 else 0.0


def random_composition(
    model: LanguageModel, *, pairs: int = 50, kind: Kind = "k", random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Scores of random pairs of heads in different layers, and of random matrices of the same shapes, [pairs] each."""
    layers, heads = layers_of(model), heads_of(model)
    found, chance = [], []
    for _ in range(pairs):
        one, other = sorted(torch.randperm(layers, generator=random)[:2].tolist())
        which = torch.randint(heads, (2,), generator=random).tolist()
        found.append(composition(model, (one, which[0]), (other, which[1]), kind))
        a, b = factors(model, (one, which[0]), "ov")
        shapes = [a.shape, b.shape, a.shape, b.shape]
        w, x, y, z = (torch.randn(shape, generator=random) for shape in shapes)
        chance.append(composition_of((w, x), (y, z), kind))
    return torch.tensor(found), torch.tensor(chance)


def _norm(left: Tensor, right: Tensor) -> Tensor:
    """|left @ right|, Frobenius, from the Gram matrices of the inner dimension."""
    return ((left.T @ left) * (right @ right.T)).sum().clamp_min(0).sqrt()
