"""Attention patterns of a model, and their tracing from the output back to the input.

Patterns are read at the sites ``hook_pattern``, so that they are those the network computed, grouped queries repeated
for their heads. What was read, an output, is traced down by its *start*: how much of it each position of the top layer
holds (one position for a decoder, all alike for a mean over them).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tracemend.arrays import Doubles
from tracemend.errors import ModelError
from tracemend.models.hooks import capture
from tracemend.models.language_model import LanguageModel
from tracemend.models.sites import sites

# What a pipe of width 1 holds: scipy's flows are of whole numbers.
_PIPE = 10**8
_PATTERN = re.compile(r"(?P<stack>decoder\.)?blocks\.(?P<layer>\d+)\.(?P<kind>attn|cross_attn)\.hook_pattern")


@dataclass(frozen=True, eq=False)
class Attention:
    """Attention patterns of one forward pass, the lowest layer first.

    Attributes:
        layers: self-attention, of an encoder-decoder that of its encoder: [batch, head, query, key] a layer, with as
            many keys as queries, plus those of a tuned prefix, which come first.
        decoder: self-attention of an encoder-decoder's decoder.
        cross: attention of that decoder to the encoder's positions.
    """

    layers: Sequence[Tensor]
    decoder: Sequence[Tensor] = field(default=())
    cross: Sequence[Tensor] = field(default=())


def read_attention(model: LanguageModel | nn.Module, call: Callable[[], Any], *, grad: bool = False) -> Attention:
    """The patterns of the forward pass that ``call`` does.

    Args:
        model: a loaded model, or any module around a transformers model.
        call: runs the model once, itself or inside something larger.
        grad: keep the patterns in the graph, so that a loss of them can be tuned on; those that depend on nothing that
            is tuned are constants there.

    Raises:
        ModelError: the model was loaded with an attention that keeps no patterns (``sdpa`` answers a request for them
            with an empty tuple and a line in a log), or no sites are known for its architecture.

    Example:
        >>> model = load("minilm")
        >>> inputs = model.tokenizer("so it goes", return_tensors="pt")
        >>> read_attention(model, lambda: model.network(**inputs)).layers[0].shape      # [batch, head, query, key]
        torch.Size([1, 12, 5, 5])
    """
    network = model.network if isinstance(model, LanguageModel) else model
    found: dict[tuple[bool, str], list[tuple[int, str]]] = {}
    for site in sites(network):
        match = _PATTERN.fullmatch(site.name)
        if match:
            where = (match["stack"] is not None, match["kind"])
            found.setdefault(where, []).append((int(match["layer"]), site.name))
    _refuse_others(network)
    names = {where: [name for _, name in sorted(rows)] for where, rows in found.items()}
    with capture(network, [name for rows in names.values() for name in rows], grad=grad, constants=True) as seen:
        call()
    kept = {where: [seen[name] for name in rows] for where, rows in names.items()}
    return Attention(kept[False, "attn"], kept.get((True, "attn"), ()), kept.get((True, "cross_attn"), ()))


def rollout(layers: Sequence[Tensor], start: Tensor, *, residual: float = 0.5) -> Tensor:
    r"""Attention rollout (Abnar & Zuidema 2020): the start carried down through all layers.

    .. math:: s_{l-1} = s_l \tilde A_l, \quad \tilde A_l = r I + (1 - r) \tfrac{1}{H} \sum_h A_{lh}

    which is the start times the product of all :math:`\tilde A`, rows divided by their sums. The residual stream is
    taken to bring a position as much as all attention does (r = 1/2).

    Args:
        layers: patterns [batch, head, pos, pos], the lowest first.
        start: [batch, pos].
        residual: r, from 0 to 1.

    Returns:
        [batch, pos], of the same sum as the start.

    Raises:
        ModelError: the residual is out of range, or keys and queries are not as many.
    """
    _check_residual(residual)
    carried = start
    for pattern in reversed(list(layers)):
        carried = (carried[:, None] @ _mixed(pattern, residual))[:, 0]
    return carried


def flow(layers: Sequence[Tensor], start: Tensor, *, residual: float = 0.5) -> Tensor:
    r"""Attention flow (Abnar & Zuidema 2020): how much could come from each position, were layers a net of pipes.

    .. math:: w_j = \frac{f_j}{\sum_k f_k} \sum_i s_i, \quad
        f_j = \text{maximum flow from the start to position } j \text{ of the input}

    where the pipe from position i above a layer to j below it holds :math:`\tilde A_l` [i, j] of :func:`rollout`, and
    that from the source to i of the top layer the start. Rollout shares a position's weight out among those below;
    flow asks how much may reach one of them over all paths together, so that it is not lost in many layers. Every
    position of the input is a search of its own (scipy's Dinic): the cost grows with the fourth power of the length. It
    has no gradient.

    Args:
        layers: patterns [batch, head, pos, pos], the lowest first.
        start: [batch, pos].
        residual: r, from 0 to 1.

    Returns:
        [batch, pos], of the same sum as the start.

    Raises:
        ModelError: the residual is out of range, or keys and queries are not as many.
    """
    mixed = [_mixed(pattern, residual).detach().double().cpu().numpy() for pattern in layers]
    starts = start.detach().double().cpu().numpy()
    rows = [_flows([of[i] for of in mixed], given) for i, given in enumerate(starts)]
    return torch.as_tensor(np.stack(rows), dtype=start.dtype, device=start.device)


def _flows(layers: Sequence[Doubles], start: Doubles) -> Doubles:
    """Of one row [pos]."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    n, depth = len(start), len(layers)
    # Node l n + i is position i above layer l, so that the input comes first; the last node is the source.
    source = (depth + 1) * n
    pipes = [(source, depth * n + i, start[i]) for i in range(n)]
    for at, pattern in enumerate(layers):
        pipes += [((at + 1) * n + i, at * n + j, pattern[i, j]) for i in range(n) for j in range(n)]
    above, below, held = (np.array(column) for column in zip(*pipes, strict=True))
    held = np.round(held * _PIPE).astype(np.int32)
    open_ = held > 0
    net = csr_array((held[open_], (above[open_], below[open_])), shape=(source + 1, source + 1))
    found = np.array([maximum_flow(net, source, j).flow_value for j in range(n)], dtype=np.float64)
    return found / found.sum() * start.sum() if found.sum() > 0 else found


def back_trace(layers: Sequence[Tensor], start: Tensor) -> Tensor:
    r"""Layer-wise attention tracing (Wu, Nguyen & Ong 2020): each head's start passed down its own column of heads.

    .. math:: c_h^{l-1} = c_h^l A_{lh}, \quad c_h^L = start, \quad w = \tfrac{1}{H} \sum_h c_h^0

    The accumulated attention of a position is shared out among those it attends to, layer by layer; the residual stream
    is left out, and the heads are put together at the input only.

    Args:
        layers: patterns [batch, head, pos, pos], the lowest first, all with as many heads.
        start: [batch, pos].

    Returns:
        [batch, pos], of the same sum as the start.

    Raises:
        ModelError: keys and queries are not as many.
    """
    if not layers:
        return start
    carried = start[:, None, None].expand(-1, layers[0].shape[1], 1, -1)
    for pattern in reversed(list(layers)):
        carried = carried @ _square(pattern)
    return carried[:, :, 0].mean(dim=1)


def down_decoder(attention: Attention, *, residual: float) -> Tensor:
    """From the first position of a decoder to the encoder's positions [batch, key], of sum 1.

    A decoder that was given its start token alone attends to that alone, so what its layers bring is the encoder's: the
    share 1 - ``residual`` of what has come down to each layer, the top one first.
    """
    left, found = 1.0, torch.zeros_like(attention.cross[0][:, 0, 0])
    for pattern in reversed(list(attention.cross)):
        found = found + left * (1 - residual) * pattern.mean(dim=1)[:, 0]
        left *= residual
    return found / found.sum(-1, keepdim=True)


def _mixed(pattern: Tensor, residual: float) -> Tensor:
    """The mean over heads with the residual stream's share [batch, pos, pos]: what rows lack of 1 left the sequence."""
    _check_residual(residual)
    mean = _square(pattern).mean(dim=1)
    return residual * torch.eye(mean.shape[-1], device=mean.device, dtype=mean.dtype) + (1 - residual) * mean


def _check_residual(residual: float) -> None:
    if not 0 <= residual <= 1:
        raise ModelError(f"residual is {residual}; expected a number from 0 to 1.")


def _square(pattern: Tensor) -> Tensor:
    if pattern.shape[-1] != pattern.shape[-2]:
        raise ModelError(
            f"a pattern has {pattern.shape[-2]} queries and {pattern.shape[-1]} keys: the keys of a tuned prefix, or "
            "of a cache, have no layer below to be traced to; take the keys of the sequence only."
        )
    return pattern


def _refuse_others(network: nn.Module) -> None:
    """Say at once what capture could only say after the pass."""
    for module in network.modules():
        kind = getattr(getattr(module, "config", None), "_attn_implementation", None)
        if kind is not None and kind != "eager":
            raise ModelError(
                f"the model's attention is {kind!r}, which keeps no patterns; load it with "
                'tracemend.models.load(name, attention="eager").'
            )
