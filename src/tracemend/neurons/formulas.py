"""Formulas that say when a unit fires: beam search over AND, OR and AND NOT of atomic features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tracemend.arrays import Floats, Masks

OPERATORS = ("OR", "AND", "AND NOT")


@dataclass(frozen=True)
class Formula:
    """Features joined from left to right: ``((a op b) op c)``.

    Attributes:
        features: their indices; the first has no operator.
        operators: before each further one, of ``OPERATORS``.
    """

    features: tuple[int, ...]
    operators: tuple[str, ...] = ()

    def mask(self, features: Masks) -> Masks:
        """Where the formula holds [n], of features [features, n]."""
        found: Masks = features[self.features[0]].copy()
        for operator, i in zip(self.operators, self.features[1:], strict=True):
            if operator == "OR":
                found |= features[i]
            elif operator == "AND":
                found &= features[i]
            else:
                found &= ~features[i]
        return found

    def text(self, names: Sequence[str]) -> str:
        """In words, with brackets where operators change."""
        said = names[self.features[0]]
        last = ""
        for operator, i in zip(self.operators, self.features[1:], strict=True):
            said = f"({said}) {operator} {names[i]}" if last and operator != last else f"{said} {operator} {names[i]}"
            last = operator
        return said

    def signs(self) -> list[tuple[int, bool]]:
        """Each feature, and whether it speaks for the formula."""
        return [(self.features[0], True)] + [
            (i, operator != "AND NOT") for operator, i in zip(self.operators, self.features[1:], strict=True)
        ]


def iou(one: Masks, other: Masks) -> Floats:
    """Intersection over union of masks [..., n] with masks [..., n]; 0 where both are empty."""
    union = (one | other).sum(-1)
    found: Floats = (one & other).sum(-1) / np.maximum(union, 1)
    return found


def search(fires: Masks, features: Masks, *, length: int, beam: int, penalty: float = 1.0) -> list[Formula]:
    """The best formula of each length from 1 on, by intersection over union with a unit's mask.

    Every formula of the beam is joined with every feature by every operator. Three matrix products give the counts of
    all of them, since each count is one of places where two or three masks hold.

    Args:
        fires: where the unit does [n].
        features: where features hold [features, n].
        length: most features of a formula.
        beam: formulas that go on to the next length.
        penalty: by which a formula's score is multiplied for each feature after the first (1: none).

    Returns:
        One formula a length, each the best found of at most that length by score.

    Example:
        >>> found = search(fires, features, length=3, beam=10)
        >>> found[-1].text(names)
        'word=they OR word=this OR word=it'
    """
    table = features.astype(np.float32)
    fired = fires.astype(np.float32)
    size, both = table.sum(1), table @ fired
    total = float(fired.sum())
    scores = both / np.maximum(total + size - both, 1)
    ahead = [(float(scores[i]), Formula((int(i),))) for i in np.argsort(-scores, kind="stable")[:beam]]
    best = [ahead[0]]
    for step in range(1, length):
        masks = np.stack([formula.mask(features) for _, formula in ahead]).astype(np.float32)
        shared = table @ np.concatenate([masks, masks * fired]).T  # [features, 2 beam]
        size_both, all_three = shared[:, : len(ahead)], shared[:, len(ahead) :]
        own, own_fired = masks.sum(1), masks @ fired
        hits = {"AND": all_three, "AND NOT": own_fired - all_three, "OR": own_fired + both[:, None] - all_three}
        sizes = {"AND": size_both, "AND NOT": own - size_both, "OR": own + size[:, None] - size_both}
        found: list[tuple[float, Formula]] = []
        for operator in OPERATORS:
            score = hits[operator] / np.maximum(total + sizes[operator] - hits[operator], 1) * penalty**step
            flat = np.argsort(-score, axis=None, kind="stable")[: 2 * beam]
            for i, j in zip(*np.unravel_index(flat, score.shape), strict=True):
                before = ahead[j][1]
                if int(i) not in before.features:
                    made = Formula((*before.features, int(i)), (*before.operators, operator))
                    found.append((float(score[i, j]), made))
        found.sort(key=lambda one: -one[0])
        ahead = _different(found, features, beam) or ahead
        # A longer formula that is no better is no better explanation.
        best.append(max(best[-1], ahead[0], key=lambda one: one[0]))
    return [formula for _, formula in best]


def _different(found: Sequence[tuple[float, Formula]], features: Masks, beam: int) -> list[tuple[float, Formula]]:
    """The first formulas that do not hold of the same places as one before."""
    kept: list[tuple[float, Formula]] = []
    seen: set[bytes] = set()
    for score, formula in found:
        key = np.packbits(formula.mask(features)).tobytes()
        if key not in seen:
            seen.add(key)
            kept.append((score, formula))
        if len(kept) == beam:
            break
    return kept


def by_chance(fires: Masks, holds: Masks, *, draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """Mean IoU of a formula with the unit's mask turned round the text, and the share of turns at least as good.

    A turn keeps what stands side by side in the unit's mask, as a shuffle would not; p = (1 + those) / (1 + draws).

    Args:
        fires: of the unit [n].
        holds: of the formula [n].
        draws: turns.
        rng: draws them.
    """
    turns = rng.integers(1, max(2, len(fires)), size=draws)
    others = np.array([float(iou(np.roll(fires, int(turn)), holds)) for turn in turns])
    return float(others.mean()), float((1 + (others >= float(iou(fires, holds))).sum()) / (1 + draws))
