"""Concept activation vectors: normals of linear classifiers, in many draws of examples and counterexamples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LogisticRegression

from tracemend.arrays import Doubles, Indices
from tracemend.threads import one_thread

# Draws the rows of examples and those of counterexamples.
Draw = Callable[[np.random.Generator], tuple[Indices, Indices]]

_HELD_OUT = 0.33


def vector(examples: Doubles, counter: Doubles, rng: np.random.Generator) -> tuple[Doubles, float]:
    """The unit normal of a logistic regression, which points to the examples, and its accuracy on those held out.

    A third of either side is held out. Only the scale of the whole is taken away before, so that the normal is the
    normal of the space itself.

    Args:
        examples: states [n, d].
        counter: as many or so of the other side [m, d].
        rng: divides them.
    """
    parts = []
    for side in (examples, counter):
        order = rng.permutation(len(side))
        held = max(1, round(_HELD_OUT * len(side)))
        parts.append((side[order[held:]], side[order[:held]]))
    (inside, of_inside), (outside, of_outside) = parts
    x, y = np.concatenate([inside, outside]), np.repeat([1, 0], [len(inside), len(outside)])
    centre = x.mean(0)
    scale = float(np.sqrt(np.square(x - centre).mean())) or 1.0
    with one_thread():
        fitted = LogisticRegression(max_iter=1000).fit((x - centre) / scale, y)
    test = np.concatenate([of_inside, of_outside])
    truth = np.repeat([1, 0], [len(of_inside), len(of_outside)])
    accuracy = float((fitted.predict((test - centre) / scale) == truth).mean())
    normal = fitted.coef_[0].astype(np.float64)
    length = float(np.linalg.norm(normal))
    return normal / length if length > 0 else normal, accuracy


def vectors(states: Doubles, draw: Draw, n: int, seed: tuple[int, ...]) -> tuple[Doubles, Doubles]:
    """Unit normals [n, d] and accuracies [n] of n draws from states [texts, d]."""
    found = []
    for i in range(n):
        rng = np.random.default_rng((*seed, i))
        examples, counter = draw(rng)
        found.append(vector(states[examples], states[counter], rng))
    return np.stack([normal for normal, _ in found]), np.array([accuracy for _, accuracy in found])


def against(examples: Indices, counter: Indices, size: int) -> Draw:
    """Draws ``size`` of the examples and as many counterexamples that are not among them."""
    others = np.setdiff1d(counter, examples)

    def draw(rng: np.random.Generator) -> tuple[Indices, Indices]:
        return rng.choice(examples, size, replace=False), rng.choice(others, size, replace=False)

    return draw


def at_random(pool: Indices, size: int) -> Draw:
    """Draws two sets of ``size`` that share no text."""

    def draw(rng: np.random.Generator) -> tuple[Indices, Indices]:
        both = rng.choice(pool, 2 * size, replace=False)
        return both[:size], both[size:]

    return draw


def permutation_p(found: Doubles, control: Doubles, *, n: int = 9999, seed: int = 0) -> float:
    """Two-sided p of the difference of two means when the values are dealt anew to both sides."""
    whole = np.concatenate([found, control])
    k = len(found)
    gap = abs(found.mean() - control.mean())
    dealt = np.random.default_rng(seed).permuted(np.tile(whole, (n, 1)), axis=1)
    gaps = np.abs(dealt[:, :k].mean(1) - dealt[:, k:].mean(1))
    return float((1 + (gaps >= gap - 1e-12).sum()) / (n + 1))


def moved(
    states: Doubles, rows: Indices, pool: Indices, by: Doubles, rng: np.random.Generator
) -> tuple[Doubles, Indices]:
    """The states, and behind them copies of some rows moved as far as ``by`` in a random direction of the pool.

    A classifier can hardly tell a set that is not moved from the pool: its vectors differ from draw to draw, and their
    mean score stays with that of random vectors, where a concept's would not.
    """
    way = rng.normal(size=len(pool)) @ (states[pool] - states[pool].mean(0))
    step = way * np.linalg.norm(by) / max(float(np.linalg.norm(way)), 1e-12)
    found = np.vstack([states, states[rows] + step])
    return found, np.arange(len(states), len(found))
