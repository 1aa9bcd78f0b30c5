"""What is done to some units of a site at the places that are read: silenced, averaged, resampled, translated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tracemend.arrays import Indices
from tracemend.errors import NeuronError, did_you_mean
from tracemend.models.hooks import Edit

How = Literal["zero", "mean", "resample", "translate"]

# Lengths below it are rounding.
_NOTHING = 1e-12


@dataclass(frozen=True, eq=False)
class Places:
    """The positions of a batch that an intervention touches.

    Attributes:
        inside: whether it does [batch, pos].
        label: index of the label that holds there, -1 where none does [batch, pos].
    """

    inside: Tensor
    label: Tensor

    def behind(self, virtual: int, device: torch.device) -> Places:
        """The same places behind virtual tokens, which are not touched."""
        inside = functional.pad(self.inside, (virtual, 0), value=False)
        return Places(inside.to(device), functional.pad(self.label, (virtual, 0), value=-1).to(device))


@dataclass(eq=False)
class Moved:
    """How far activations were moved, summed as the network runs.

    Attributes:
        change: lengths of the changes.
        length: lengths of the activations that were changed.
    """

    change: float = 0.0
    length: float = 0.0

    @property
    def share(self) -> float:
        """The change's mean length as a share of the activation's."""
        return self.change / max(self.length, _NOTHING)


@dataclass(frozen=True, eq=False)
class Intervention:
    """One way to take what units say, with what it needs to know of other texts.

    With h_j a unit's activation at a place, and means and donors from texts that are not measured,

        zero       h_j = 0
        mean       h_j = mean of h_j
        resample   h_j = its value at a random place of another text; units taken together share the place
        translate  h_j = h_j + a_j (mean of h_j under label z' - its mean under the place's own label z)

    The last is to erase a label by writing another one (Antverg and Belinkov 2022, arXiv 2110.07483): a_j falls
    linearly with the unit's rank, from beta at the first; z' is the next label but ``shift - 1``.

    Attributes:
        how: which.
        bank: activations of the site at places of other texts [n, d].
        means: of the bank's places by label [labels, d].
        beta: step of a translation.
        shift: labels from z on to z', in their order.
    """

    how: How
    bank: Tensor
    means: Tensor
    beta: float = 8.0
    shift: int = 1
    mean: Tensor = field(init=False)

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            raise NeuronError(f"how is {self.how!r}, {did_you_mean(self.how, get_args(How))}")
        if not len(self.bank) or not bool(self.bank.isfinite().all()):
            raise NeuronError("the texts that means are taken from have no place, or activations that are not finite.")
        object.__setattr__(self, "mean", self.bank.mean(0))

    @classmethod
    def of(cls, how: How, bank: Tensor, label: Tensor, labels: int, *, beta: float, seed: int) -> Intervention:
        """With the means of each label's places.

        Args:
            how: which.
            bank: activations at places of other texts [n, d].
            label: index of the label of each place, -1 for none [n].
            labels: how many there are.
            beta: step of a translation.
            seed: of the choice of the label that a translation writes.

        Raises:
            NeuronError: no such intervention, no place, or a translation where a label has no place.
        """
        means = torch.stack([bank[label == z].mean(0) if bool((label == z).any()) else bank.mean(0)
                             for z in range(labels)])  # fmt: skip
        missing = [z for z in range(labels) if not bool((label == z).any())]
        if how == "translate" and missing:
            raise NeuronError(f"label {missing[0]} has no place to take a mean from; give more texts, or another how.")
        shift = 1 + int(np.random.default_rng(seed).integers(labels - 1)) if labels > 1 else 1
        return cls(how, bank, means, beta, shift)

    def target(self, label: Indices) -> Indices:
        """The labels that a translation writes over these."""
        found: Indices = (label + self.shift) % len(self.means)
        return found

    def change(self, h: Tensor, units: Tensor, places: Places, generator: torch.Generator) -> Tensor:
        """What is added to units [k] of activations [batch, pos, d]: [batch, pos, k]."""
        own = h[..., units]
        if self.how == "zero":
            return -own
        if self.how == "mean":
            return self.mean[units].to(h) - own
        if self.how == "resample":
            donor = torch.randint(len(self.bank), h.shape[:2], generator=generator)
            return self.bank[:, units][donor].to(h) - own
        step = self.beta * (1 - torch.arange(len(units)) / len(units))
        differences = self.means[:, units].roll(-self.shift, dims=0) - self.means[:, units]
        found = (differences * step).to(h)[places.label.clamp_min(0)]
        return torch.where((places.label >= 0)[..., None], found, torch.zeros_like(found))

    def edit(
        self, units: Indices, places: Places, *, like: Indices | None = None, seed: int = 0, moved: Moved | None = None
    ) -> Edit:
        """The intervention on some units of one batch, as :func:`tracemend.models.edit` takes it.

        Args:
            units: which; heads are units side by side.
            places: where.
            like: units whose intervention would move each place as far as this one is made to; where this one moves
                nothing, nothing can be stretched, and ``moved`` tells it.
            seed: of donors.
            moved: is told how far.
        """
        at = torch.from_numpy(np.ascontiguousarray(units))
        other = None if like is None else torch.from_numpy(np.ascontiguousarray(like))

        def edited(old: Tensor) -> Tensor:
            generator = torch.Generator().manual_seed(seed)
            flat = old.flatten(2)
            where = places.behind(flat.shape[1] - places.inside.shape[1], flat.device)
            change = self.change(flat, at, where, generator)
            if other is not None:
                wanted = self.change(flat, other, where, generator.manual_seed(seed)).norm(dim=-1, keepdim=True)
                change = change * (wanted / change.norm(dim=-1, keepdim=True).clamp_min(_NOTHING))
            change = torch.where(where.inside[..., None], change, torch.zeros_like(change))
            if moved is not None:
                moved.change += float(change.norm(dim=-1).double().sum())
                moved.length += float((flat.norm(dim=-1) * where.inside).double().sum())
            return flat.index_add(2, at.to(flat.device), change).reshape(old.shape)

        return edited
