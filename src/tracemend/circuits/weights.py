"""Weights by head and neuron, of any architecture in the table of sites, and norms with their scale held fixed.

Row vectors: a stream x [d_model] reads as ``x @ W``. Where a matrix is, and how heads lie in it, is what the table of
sites says of the activation that it makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tracemend.errors import CircuitError
from tracemend.models import LanguageModel, site
from tracemend.models.sites import trunk

# Far above every epsilon, so that a norm of it is the gain alone.
_LARGE = 1e3


def module_at(model: LanguageModel, name: str) -> nn.Module:
    """The module whose input or output is that site."""
    return trunk(model).get_submodule(site(model, name).module)


def matrix(module: nn.Module) -> Tensor:
    """A linear module's weight as [in, out].

    Raises:
        CircuitError: it has none of its own (an adapter around it, for instance).
    """
    weight: Any = getattr(module, "weight", None)
    if isinstance(module, Conv1D):
        return torch.as_tensor(weight.detach())
    if isinstance(module, nn.Linear):
        return torch.as_tensor(weight.detach().T)
    raise CircuitError(
        f"{type(module).__name__} is no plain linear layer, so it has no one weight; merge the adapter first "
        "(merge_and_unload)."
    )


def reads(model: LanguageModel, layer: int, part: str) -> Tensor:
    """W_Q, W_K or W_V of a block by head, [heads, d_model, d_head]; of grouped queries each key-value head repeated.

    Args:
        part: ``q``, ``k`` or ``v``.
    """
    where = site(model, f"blocks.{layer}.attn.hook_{part}")
    found = where.read(matrix(module_at(model, where.name))).permute(1, 0, 2)
    heads = int(model.config.num_attention_heads)
    return found.repeat_interleave(heads // found.shape[0], dim=0)


def writes(model: LanguageModel, layer: int) -> Tensor:
    """W_O of a block by head, [heads, d_head, d_model]."""
    whole = matrix(module_at(model, f"blocks.{layer}.attn.hook_z"))
    by_head: Tensor = whole.unflatten(0, (int(model.config.num_attention_heads), -1))
    return by_head


def values(model: LanguageModel, layer: int) -> Tensor:
    """What each neuron of a block's MLP writes, [d_mlp, d_model]."""
    return matrix(module_at(model, f"blocks.{layer}.mlp.hook_post"))


def unembedding(model: LanguageModel) -> Tensor:
    """W_U, [vocab, d_model]."""
    return torch.as_tensor(model.network.get_output_embeddings().weight.detach())


def embedding(model: LanguageModel) -> Tensor:
    """W_E as it enters the stream, [vocab, d_model]."""
    module: Any = model.network.get_input_embeddings()
    scale = getattr(module, "embed_scale", 1.0)
    return torch.as_tensor(module.weight.detach() * scale)


def gain(norm: nn.Module) -> Tensor:
    """What a norm multiplies each number of the normalised stream with, [d_model]."""
    weight: Any = getattr(norm, "weight", None)
    if weight is None:
        raise CircuitError(f"{type(norm).__name__} has no gain; norms of this kind are not known here.")
    if isinstance(norm, nn.LayerNorm):
        return torch.as_tensor(weight.detach())
    # What is stored may be the gain or the gain less one: ask the module.
    with torch.no_grad():
        return torch.as_tensor(norm(torch.full_like(weight, _LARGE)).detach())


def as_met(norm: nn.Module, weight: Tensor) -> Tensor:
    """A weight [..., d_model, n] that reads a normalised stream as it meets the stream: with the norm's gain, and
    without what a layer norm takes away, the stream's mean."""
    found = gain(norm)[:, None] * weight
    return found - found.mean(-2, keepdim=True) if isinstance(norm, nn.LayerNorm) else found


def copying(model: LanguageModel) -> Tensor:
    """Σ Re λ / Σ |λ| over the eigenvalues λ of W_E W_V W_O W_U of every head, [layers, heads].

    +1 raises what is attended to, -1 lowers it. The eigenvalues are those of a d_head x d_head product.
    """
    both = as_met(module_at(model, "ln_final.hook_normalized"), unembedding(model).T) @ embedding(model)
    found = []
    for layer in range(int(model.config.num_hidden_layers)):
        into = as_met(module_at(model, f"blocks.{layer}.ln1.hook_normalized"), reads(model, layer, "v"))
        values = torch.linalg.eigvals(torch.einsum("hdm,mn,hne->hde", writes(model, layer), both, into).cpu())
        found.append(values.real.sum(-1) / values.abs().sum(-1).clamp_min(1e-12))
    return torch.stack(found)


@dataclass(frozen=True, eq=False)
class FrozenNorm:
    """A layer norm or RMS norm with the scale it had on one stream: then it is linear, and parts add up.

    ``norm(x) = center(x) * gain * inverse + bias``, where ``inverse`` (1 / σ) is taken from ``x`` and kept.

    Attributes:
        gain: [d_model].
        bias: [d_model]; zero of an RMS norm.
        inverse: 1 / σ by position, [..., 1].
        centred: whether it takes the mean away first.
    """

    gain: Tensor
    bias: Tensor
    inverse: Tensor
    centred: bool

    @classmethod
    def at(cls, norm: nn.Module, stream: Tensor) -> FrozenNorm:
        """Freeze ``norm`` at these streams, [..., d_model]."""
        weight, centred = gain(norm), isinstance(norm, nn.LayerNorm)
        bias: Any = getattr(norm, "bias", None)
        bias = torch.zeros_like(weight) if bias is None else bias.detach()
        # The scale is read off the module's own answer: no epsilon has to be known.
        raw = (stream - stream.mean(-1, keepdim=True) if centred else stream) * weight
        inverse = ((norm(stream) - bias) * raw).sum(-1, keepdim=True) / (raw * raw).sum(-1, keepdim=True)
        return cls(weight, bias, inverse, centred)

    def direction(self, reading: Tensor) -> Tensor:
        """The direction of the stream [..., d_model] whose product with a part is that part's share of the reading.

        Args:
            reading: what the normalised stream is multiplied with, [d_model].
        """
        found = reading * self.gain
        if self.centred:
            found = found - found.mean(-1, keepdim=True)
        return found * self.inverse
