"""What heads look at beside what they move: a pattern weighed by the length of what a head takes from each position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tracemend.models.attention import read_attention
from tracemend.models.hooks import capture
from tracemend.models.language_model import LanguageModel
from tracemend.models.sites import site, sites, trunk


@torch.no_grad()
def looked_and_moved(model: LanguageModel | nn.Module, call: Callable[[], Any]) -> tuple[Tensor, Tensor]:
    r"""Attention of one text, and the same weighted by value: [layer, head, query, key] both.

    .. math:: moved_{ij} = \frac{A_{ij} \lVert v_j W_O \rVert}{\sum_k A_{ik} \lVert v_k W_O \rVert}

    Kobayashi et al. 2020, arXiv 2004.10102. With key-value heads that several heads share, each head's own W_O. Keys of
    a tuned prefix are no positions of the text and are left out: a row of the patterns then sums to less than 1.

    Args:
        model: a loaded model, or any module around a transformers model; adapters on W_O are taken as they are.
        call: runs the model once, on one text.

    Raises:
        ModelError: as :func:`tracemend.models.attention.read_attention`.
    """
    found: list[Tensor] = []
    with capture(model, _values(model)) as seen:
        found += [pattern[0] for pattern in read_attention(model, call).layers]
    moved = []
    for layer, pattern in enumerate(found):
        values = seen[f"blocks.{layer}.attn.hook_v"][0]
        own = pattern[..., -len(values) :]
        share = own * _lengths(model, layer, values, pattern.shape[0]).T[:, None]
        moved.append(share / share.sum(-1, keepdim=True).clamp_min(1e-12))
        found[layer] = own
    return torch.stack(found), torch.stack(moved)


def _values(model: LanguageModel | nn.Module) -> list[str]:
    return [where.name for where in sites(model) if where.name.endswith(".attn.hook_v") and where.name[0] == "b"]


def _lengths(model: LanguageModel | nn.Module, layer: int, values: Tensor, heads: int) -> Tensor:
    """How long what each head would write of each position is, [key, head]."""
    module = trunk(model).get_submodule(site(model, f"blocks.{layer}.attn.hook_z").module)
    by_head = values.repeat_interleave(heads // values.shape[1], dim=1)
    length = []
    for head in range(heads):
        # One head alone, so that whatever the module is (a layer, an adapter on it), it says what that head writes.
        alone = torch.zeros_like(by_head)
        alone[:, head] = by_head[:, head]
        alone = alone.flatten(1)
        length.append((_linear(module, alone) - _linear(module, torch.zeros_like(alone[:1]))).norm(dim=-1))
    return torch.stack(length, dim=-1)


def _linear(module: nn.Module, given: Tensor) -> Tensor:
    return torch.as_tensor(module(given[None]))[0]
