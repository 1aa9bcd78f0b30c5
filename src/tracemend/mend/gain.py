r"""Remove, relabel, ask a person, or keep: whichever is expected to gain most under a posterior of the true label.

Utilities. Training on the right label is worth 1, on a wrong label -c, on nothing 0; a person's answer is the right
label, at the price q. With ``p_k`` the probability that label k is the true one:

    U(train on k) = p_k - c (1 - p_k) = (1 + c) p_k - c
    U(remove)     = 0
    U(ask)        = 1 - q

The best label to train on is the likeliest, k*. With y the given label the rule is, therefore:

    keep      where  y = k* and p_y >= c / (1 + c)
    relabel   where  p_y < p_k* and p_k* >= c / (1 + c)
    remove    where  no label reaches c / (1 + c)
    ask       where  1 - q is more than the best of these

The cost c alone says when an example is worth keeping: with c = 1 a label must be likelier than all others together,
with c = 3 it takes three to one. With two labels and c <= 1 nothing is ever removed. The *gain* is measured from
keeping the label as it is:

    G(relabel) = (1 + c) (p_k* - p_y)      G(remove) = c - (1 + c) p_y      G(ask) = (1 + c) (1 - p_y) - q

A number of questions in place of a price. An answer is worth ``V = 1 - max(U(k*), 0)``: what it adds to the best that
can be done without it. The N examples of highest V are those for which the sum of utilities is greatest, and they
are what a price just under the N-th V would buy: the budget is a price that nobody has to name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from tracemend.arrays import Doubles, Indices
from tracemend.errors import TraceError, did_you_mean
from tracemend.mend.decide import Policy
from tracemend.trace.confident import checked

Act = Literal["keep", "label", "remove", "ask"]

# Differences under this are rounding; then the act that changes least is taken.
_TIE = 1e-12


@dataclass(frozen=True, eq=False, kw_only=True)
class Gains:
    """What to do with each example, and what it is expected to gain.

    Attributes:
        kind: ``"keep"``, ``"label"``, ``"remove"`` or ``"ask"``, as the ledger names them [n].
        label: index of the new label, -1 where the kind is not ``"label"`` [n].
        suggested: index of the likeliest label other than the given one [n].
        wrong: probability that the given label is wrong [n].
        gain: expected utility over keeping the label as it is [n]; a question's without its price.
        value: what a person's answer adds to the best act without one [n], at least 0.
    """

    kind: list[Act]
    label: Indices
    suggested: Indices
    wrong: Doubles
    gain: Doubles
    value: Doubles


def by_gain(
    posterior: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    policy: Policy = "auto",
    cost: float = 1.0,
    price: float = math.inf,
    questions: int | None = None,
) -> Gains:
    """The act of highest expected utility for each example; the formulas stand above.

    Ties go to what changes least: keep, then relabel, then remove, then ask. Of equally valuable questions the one on
    the label that is likelier wrong is asked, then the earlier one.

    Args:
        posterior: probability of each true label [n, C].
        y: given label indices [n].
        policy: ``auto``; ``relabel`` never removes and ``remove`` never relabels.
        cost: c, of training on a wrong label, where a right one is worth 1.
        price: q, of one question; infinite never asks.
        questions: at most so many are asked, the most valuable; without a price it alone decides.

    Raises:
        TraceError: shapes differ, a value is out of range, or the policy is unknown.

    Example:
        >>> by_gain([[0.1, 0.8, 0.1], [0.3, 0.4, 0.3], [0.9, 0.1, 0.0]], [0, 0, 0]).kind
        ['label', 'remove', 'keep']
        >>> by_gain([[0.1, 0.8, 0.1], [0.3, 0.4, 0.3], [0.9, 0.1, 0.0]], [0, 0, 0], questions=1).kind
        ['label', 'ask', 'keep']
    """
    if policy not in get_args(Policy):
        raise TraceError(f"policy {policy!r} is {did_you_mean(policy, get_args(Policy))}")
    if not 0 <= cost < math.inf or not price >= 0:
        raise TraceError(f"cost {cost} and price {price}: expected a finite cost and a price, both at least 0.")
    if questions is not None and questions < 0:
        raise TraceError(f"questions is {questions}; it is a number of examples, at least 0.")
    p, given = checked(posterior, y)
    rows = np.arange(len(given))
    own = p[rows, given]
    others = p.copy()
    others[rows, given] = -np.inf
    suggested = others.argmax(axis=1).astype(np.int64)
    # The acts in the order in which ties are broken.
    utility = np.stack([(1 + cost) * own - cost, (1 + cost) * p[rows, suggested] - cost, np.zeros(len(given))])
    if policy == "remove":
        utility[1] = -np.inf
    elif policy == "relabel":
        utility[2] = -np.inf
    best = _first_best(utility)
    without = utility[best, rows]
    value = 1.0 - without
    kind: list[Act] = [("keep", "label", "remove")[act] for act in best]
    gain = without - utility[0]
    # A price of nothing at all still asks only where an answer adds something.
    bar = price if questions is None or math.isfinite(price) else 0.0
    asked = np.flatnonzero(value > bar + _TIE)
    if questions is not None:
        order = np.lexsort((asked, own[asked].round(12), -value[asked].round(12)))
        asked = asked[order[:questions]]
    for row in asked:
        kind[row] = "ask"
    gain[asked] = (1.0 - utility[0])[asked]
    label = np.where(np.array(kind, dtype=object) == "label", suggested, -1).astype(np.int64)
    return Gains(kind=kind, label=label, suggested=suggested, wrong=1.0 - own, gain=gain, value=value)


def _first_best(utility: Doubles) -> Indices:
    """Row of the highest utility in each column; the first of those that differ by rounding only."""
    best: Indices = (utility >= utility.max(axis=0) - _TIE).argmax(axis=0).astype(np.int64)
    return best
