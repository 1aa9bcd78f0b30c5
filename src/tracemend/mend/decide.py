"""What to do with the candidates of a round: remove, relabel or keep, and how many to take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from tracemend.arrays import Doubles, Indices
from tracemend.errors import TraceError, did_you_mean
from tracemend.trace.confident import checked

Policy = Literal["remove", "relabel", "auto"]
Similarity = Literal["dot", "cosine"]

# A residual below this is a probability of 1 in float32: the gradient, and the influence with it, is zero there.
_SMALLEST_RESIDUAL = 1e-6


@dataclass(frozen=True, eq=False, kw_only=True)
class Actions:
    """What to do with each candidate, and why.

    Attributes:
        kind: ``"remove"``, ``"label"`` or ``"keep"``, as the ledger names them [n].
        label: index of the new label, -1 where the kind is not ``"label"`` [n].
        suggested: index of the label that would be given [n].
        gain_remove: first-order fall of the validation loss on removal, in units of the influence [n].
        gain_relabel: the same for giving the suggested label [n].
    """

    kind: list[Literal["remove", "label", "keep"]]
    label: Indices
    suggested: Indices
    gain_remove: Doubles
    gain_relabel: Doubles


def suggest(probabilities: npt.ArrayLike, y: npt.ArrayLike) -> Indices:
    """The most probable label other than the given one [n].

    Args:
        probabilities: of each label under a model [n, C]; out of fold where there is such a model, for one that was
            tuned on the wrong label has learnt a part of it.
        y: given label indices [n].

    Example:
        >>> suggest([[0.7, 0.1, 0.2], [0.3, 0.6, 0.1]], [0, 0]).tolist()
        [2, 1]
    """
    p, given = checked(probabilities, y)
    others = p.copy()
    others[np.arange(len(given)), given] = -np.inf
    found: Indices = others.argmax(axis=1).astype(np.int64)
    return found


def gains(
    probabilities: npt.ArrayLike,
    y: npt.ArrayLike,
    influence: npt.ArrayLike,
    *,
    similarity: Similarity = "cosine",
    suggested: npt.ArrayLike | None = None,
    certainty: npt.ArrayLike | None = None,
) -> tuple[Doubles, Doubles]:
    r"""First-order gain of removing and of relabelling each candidate.

    Signs. The influence of training example i on the validation examples is ``I = <g_v, g_i>``, both gradients of the
    example's own loss. A step on i lowers the validation loss by ``I`` (times the learning rate), so ``I > 0`` is a
    proponent and ``I < 0`` an opponent. Taking the step away gains ``-I``; taking it with another label instead gains
    that label's influence ``I'`` on top:

        gain_remove = -I          gain_relabel = -I + I'

    Two labels. The gradient is ``(p - e_y) J``, with ``J`` the Jacobian of the logits. With the residual
    ``r = 1 - p[y]``, flipping the label replaces ``r`` by ``-(1 - r)`` along the same direction, hence
    ``g' = -(1 - r)/r g``. For dot products ``I' = -(1 - r)/r I``, and ``gain_relabel = -I / r``. The cosine loses the
    length of g: ``I' = -I``, and ``gain_relabel = -2 I``. So with two labels every opponent gains more from the flip
    than from removal: to first order, and only as far as the suspicion is right.

    More labels. With all labels but the given one taken alike, the same ratio holds for each of them; which of them is
    right has the probability s (``certainty``). A wrong suggestion leaves an opponent as strong as before, so
    ``I' = s (-ratio I) + (1 - s) I``. For cosines relabelling then gains more exactly where ``s > 1/2``; for
    dot products where ``s > r``.

    Args:
        probabilities: of each label under the tuned model whose gradients gave the influence [n, C].
        y: given label indices [n].
        influence: mean influence on the validation examples that drive the repair [n]; positive is a proponent.
        similarity: how the influence was taken.
        suggested: label indices that override :func:`suggest` [n].
        certainty: probability that the suggested label is right, given that the label is wrong [n]
            (default: the suggested label's share among the other labels' probabilities).

    Returns:
        gain_remove [n] and gain_relabel [n].

    Raises:
        TraceError: shapes differ, a value is out of range, or the similarity is unknown.

    Example:
        >>> gains([[0.25, 0.75]], [0], [-0.3], similarity="dot")
        (array([0.3]), array([0.4]))
    """
    if similarity not in get_args(Similarity):
        raise TraceError(f"similarity {similarity!r} is {did_you_mean(similarity, get_args(Similarity))}")
    p, given = checked(probabilities, y)
    rows = np.arange(len(given))
    score = _vector("influence", influence, len(given))
    residual = np.clip(1.0 - p[rows, given], _SMALLEST_RESIDUAL, 1.0)
    new = _labels("suggested", suggested, given, p) if suggested is not None else suggest(p, given)
    if certainty is None:
        # Never over 1, and exactly 1 with two labels, whatever the rounding of the probabilities.
        sure = np.ones(len(given)) if p.shape[1] == 2 else np.minimum(1.0, p[rows, new] / residual)
    else:
        sure = _vector("certainty", certainty, len(given))
        if ((sure < 0) | (sure > 1)).any():
            raise TraceError(f"certainty runs from {sure.min():g} to {sure.max():g}; expected probabilities, 0 to 1.")
    ratio = (1.0 - residual) / residual if similarity == "dot" else np.ones(len(given))
    flipped = -sure * ratio * score + (1.0 - sure) * score
    return -score, -score + flipped


def decide(
    probabilities: npt.ArrayLike,
    y: npt.ArrayLike,
    influence: npt.ArrayLike,
    *,
    policy: Policy = "remove",
    similarity: Similarity = "cosine",
    suggested: npt.ArrayLike | None = None,
    certainty: npt.ArrayLike | None = None,
) -> Actions:
    """What becomes of each candidate.

    ``remove`` and ``relabel`` act on every candidate, as G-BAIR does. ``auto`` takes whichever gains more and keeps a
    candidate where neither gains anything. For the other arguments and the gains see :func:`gains`.

    Raises:
        TraceError: as :func:`gains`, or the policy is unknown.

    Example:
        >>> decide([[0.2, 0.5, 0.3], [0.1, 0.5, 0.4], [0.6, 0.2, 0.2]], [0, 0, 0], [-1, -1, 1], policy="auto").kind
        ['label', 'label', 'keep']
    """
    if policy not in get_args(Policy):
        raise TraceError(f"policy {policy!r} is {did_you_mean(policy, get_args(Policy))}")
    p, given = checked(probabilities, y)
    new = _labels("suggested", suggested, given, p) if suggested is not None else suggest(p, given)
    remove, relabel = gains(p, given, influence, similarity=similarity, suggested=new, certainty=certainty)
    kind: list[Literal["remove", "label", "keep"]]
    if policy == "auto":
        kind = [
            "keep" if max(r, flip) <= 0 else "label" if flip > r else "remove"
            for r, flip in zip(remove, relabel, strict=True)
        ]
    else:
        kind = ["remove" if policy == "remove" else "label"] * len(given)
    label = np.where(np.array(kind, dtype=object) == "label", new, -1).astype(np.int64)
    return Actions(kind=kind, label=label, suggested=new, gain_remove=remove, gain_relabel=relabel)


def candidates_per_round(noise: float, n: int, rounds: int) -> int:
    """How many of ``n`` examples to act on in each of ``rounds``, so that all rounds act on ``noise`` of them.

    Raises:
        TraceError: the noise is not in 0..1, or there is no example or round.

    Example:
        >>> candidates_per_round(0.3, 500, 5)
        30
    """
    if not 0 <= noise <= 1 or n < 1 or rounds < 1:
        raise TraceError(f"noise {noise}, n {n}, rounds {rounds}: expected noise in 0..1, n and rounds at least 1.")
    return max(1, round(noise * n / rounds))


def _vector(name: str, values: npt.ArrayLike, n: int) -> Doubles:
    found = np.asarray(values, dtype=np.float64)
    if found.shape != (n,) or not np.isfinite(found).all():
        raise TraceError(f"{name} has shape {found.shape}; expected {n} finite numbers, one a candidate.")
    return found


def _labels(name: str, labels: npt.ArrayLike, given: Indices, p: Doubles) -> Indices:
    found = checked(p, labels)[1]
    if (found == given).any():
        raise TraceError(f"{name} holds the label that candidate {int((found == given).argmax())} already has.")
    return found
