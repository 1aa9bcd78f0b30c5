"""Figures of groups of examples, and what lies between two of them: pronouns of women and men, for and against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tracemend.arrays import Floats
from tracemend.data import Pronoun
from tracemend.evaluate.resampling import clusters, interval

Group = npt.NDArray[np.bool_]
# Of two opposed groups the mean of the first less that of the second is the bias.
_OPPOSED = (("pro", "anti"), ("male", "female"))
_RESAMPLES = 1000


def by_group(hits: Floats, examples: Sequence[Pronoun]) -> dict[str, float]:
    """Accuracy of every group, and differences of opposed ones; nothing where there are no groups.

    Args:
        hits: 1 where an example is right, else 0 [n].
        examples: with their groups [n].

    Returns:
        ``accuracy_GROUP`` of each, ``pro_minus_anti`` and ``male_minus_female`` where both are there.
    """
    names = sorted({group for example in examples for group in example.groups})
    found = {f"accuracy_{name}": float(hits[_in(examples, name)].mean()) for name in names}
    for one, other in _OPPOSED:
        if one in names and other in names:
            found[f"{one}_minus_{other}"] = found[f"accuracy_{one}"] - found[f"accuracy_{other}"]
    return found


def documents(examples: Sequence[Pronoun]) -> list[str]:
    """What each example is part of: its document, or itself; intervals resample these as wholes."""
    return [e.document or f"{i} {e.id}" for i, e in enumerate(examples)]


def biases(what: str, hits: Floats, examples: Sequence[Pronoun], *, seed: int = 0) -> list[str]:
    """Sentences that say what lies between opposed groups; documents are drawn as wholes, so that twins stay together.

    Args:
        what: is measured, for the sentence.
        hits: 1 where an example is right, else 0 [n].
        examples: with their groups [n].
        seed: of the draws.
    """
    said = []
    for one, other in _OPPOSED:
        first, second = _in(examples, one), _in(examples, other)
        if not first.any() or not second.any():
            continue
        low, high = _gap_interval(hits, first, second, documents(examples), seed)
        gap = f"{hits[first].mean() - hits[second].mean():+.3f} ({low:+.3f} to {high:+.3f})"
        shown = ", which is not shown to be other than none" if low <= 0 <= high else ""
        if low == high == 0:
            shown = ", no difference in these examples"
        said.append(
            f"{what} is right for {hits[first].mean():.3f} of {first.sum()} {one} and {hits[second].mean():.3f} of "
            f"{second.sum()} {other} examples: {gap}{shown}."
        )
    return said


def _gap_interval(hits: Floats, first: Group, second: Group, names: Sequence[str], seed: int) -> tuple[float, float]:
    """Ends of the 95 percent interval of one group's mean less the other's, documents resampled as wholes."""
    both = first | second
    of = clusters([name for name, here in zip(names, both, strict=True) if here], int(both.sum()))

    def gap(weights: Floats) -> Floats:
        # How many of a group there are hangs on the documents drawn, so each resample divides by its own number.
        means = []
        for group in (first, second):
            size = weights @ group[both]
            means.append(np.where(size > 0, weights @ (hits * group)[both] / np.maximum(size, 1), np.nan))
        return np.asarray(means[0] - means[1])

    return interval(gap, of, bounds=(-1.0, 1.0), n=_RESAMPLES, level=0.95, seed=seed)


def _in(examples: Sequence[Pronoun], group: str) -> npt.NDArray[np.bool_]:
    return np.array([group in example.groups for example in examples])
