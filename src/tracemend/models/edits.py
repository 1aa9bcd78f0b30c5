"""What to do with an activation: replace it, add to it, silence it, or set it to its mean; at some places only.

Each function makes what :func:`tracemend.models.edit` takes. The activation of a site has the shape [batch, pos, ...];
heads are its third dimension where the site has them (``hook_q``, ``hook_k``, ``hook_v``, ``hook_z``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tracemend.errors import ModelError
from tracemend.models.hooks import Edit


def replace(value: Tensor, *, positions: Sequence[int] | None = None, heads: Sequence[int] | None = None) -> Edit:
    """Put ``value`` in place of the activation.

    Args:
        value: of the site's shape [batch, pos, ...], or one that broadcasts to it (batch 1, for instance).
        positions: where; negative ones count from the end. By default everywhere.
        heads: which; by default all.

    Raises:
        ModelError: when the network runs: a position or head that the activation lacks, or a shape that does not fit.

    Example:
        >>> with capture(model, ["blocks.1.attn.hook_z"]) as clean:
        ...     model.network(**inputs)
        >>> with edit(model, {"blocks.1.attn.hook_z": replace(clean["blocks.1.attn.hook_z"], heads=[3])}):
        ...     model.network(**others)      # head 3 of layer 1 as on the first inputs
    """
    return _at(lambda old: value, positions, heads)


def add(
    value: Tensor, *, scale: float = 1.0, positions: Sequence[int] | None = None, heads: Sequence[int] | None = None
) -> Edit:
    """Add ``scale * value`` to the activation; the other arguments as in :func:`replace`."""
    return _at(lambda old: old + scale * value, positions, heads)


def zero(*, positions: Sequence[int] | None = None, heads: Sequence[int] | None = None) -> Edit:
    """Set the activation to zero; the arguments as in :func:`replace`."""
    return _at(torch.zeros_like, positions, heads)


def mean(*, positions: Sequence[int] | None = None, heads: Sequence[int] | None = None) -> Edit:
    """Set the activation to its own mean over batch and positions; the arguments as in :func:`replace`.

    Padding counts as well, so give it inputs of one length. A mean over other inputs is :func:`replace` with that mean.
    """
    return _at(lambda old: old.mean(dim=(0, 1), keepdim=True).expand_as(old), positions, heads)


def _at(change: Callable[[Tensor], Tensor], positions: Sequence[int] | None, heads: Sequence[int] | None) -> Edit:
    def edited(old: Tensor) -> Tensor:
        if heads is not None and old.ndim < 4:
            raise ModelError(
                f"the activation of shape {tuple(old.shape)} has no heads; edit hook_q, hook_k, hook_v or hook_z."
            )
        try:
            new = change(old).to(old.dtype).expand_as(old)
        except RuntimeError as error:
            raise ModelError(f"the value does not fit the activation of shape {tuple(old.shape)}: {error}.") from error
        for dim, what, chosen in ((1, "position", positions), (2, "head", heads)):
            if chosen is not None:
                inside = torch.zeros(old.shape[dim], dtype=torch.bool, device=old.device)
                inside[_indices(what, chosen, old.shape[dim])] = True
                new = torch.where(inside.reshape(-1, *[1] * (old.ndim - dim - 1)), new, old)
        return new

    return edited


def _indices(what: str, chosen: Sequence[int], size: int) -> list[int]:
    wrong = [i for i in chosen if not -size <= i < size]
    if wrong:
        raise ModelError(f"{what} {wrong[0]} is out of range: the activation has {size}, 0 to {size - 1}.")
    return list(chosen)
