"""Whom to act on and whom to ask about in one round, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tracemend.data import Labelled
from tracemend.data.schema import ROW
from tracemend.data.splits import LEAST
from tracemend.mend.bounds import fdr_prefix, refuse_one_label
from tracemend.mend.decide import Policy, decide
from tracemend.mend.gain import Gains, by_gain
from tracemend.mend.ranking import Ranking
from tracemend.trace import TracIn
from tracemend.trace.confident import checked
from tracemend.tuning import Tuned
from tracemend.tuning.tune import resolve_precision

# The nearest examples labelled otherwise of training rows, for the evidence.
Neighbours = Callable[[Labelled, Sequence[int]], Sequence[Mapping[str, Any]]]
# Errors named in the evidence of one decision.
ERRORS = 5
# Less similar than this, a neighbour's label says nothing of an example's.
_NEAR = 0.5


class ActRules(Protocol):
    """What the acts of a round read of the configuration."""

    @property
    def action(self) -> Policy: ...
    @property
    def tracin(self) -> TracIn: ...
    @property
    def fdr(self) -> float | None: ...
    @property
    def ask(self) -> int: ...


class Kinds(NamedTuple):
    """How many examples a round relabelled and how many it removed, for a control that does the same to others."""

    label: int
    remove: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Chosen:
    """The acts of one round.

    Attributes:
        rows: who is relabelled or removed, the most suspicious first.
        asked: about whom a person is asked, the most valuable question first.
        gains: of every example; None decides by influence.
        kinds: what becomes of each of ``rows``, where that is given; None decides it.
    """

    rows: list[int]
    asked: list[int]
    gains: Gains | None
    kinds: list[Literal["label", "remove"]] | None = None


def choose_by_gain(
    posterior: npt.ArrayLike,
    y: npt.ArrayLike,
    free: npt.ArrayLike,
    *,
    most: int,
    policy: Policy = "auto",
    fdr: float | None = None,
    questions: int = 0,
    cost: float = 1.0,
    earlier: Sequence[float] = (),
) -> Chosen:
    """By expected gain, within the bounds of the false discovery rate and of the number to act on.

    Questions are taken first: where an answer gains more than any act, acting would forestall it. What is left to be
    relabelled or removed is cut to the longest prefix by P(wrong) that keeps to ``fdr``, then to ``most``.

    Args:
        posterior: probability of each true label [n, C].
        y: given label indices [n].
        free: who may be acted on or asked about [n]; the others are out of it.
        most: relabelled or removed at most.
        policy: see :func:`tracemend.mend.gain.by_gain`.
        fdr: share of right labels among those acted on, at most; None does not bound it.
        questions: asked at most.
        cost: of training on a wrong label, where a right one is worth 1.
        earlier: P(wrong) of those who were acted on before, whom the rate bounds as well.

    Raises:
        TraceError: shapes differ, a value is out of range, or the policy is unknown.

    Example:
        >>> p = [[0.01, 0.99], [0.2, 0.8], [0.45, 0.55], [0.9, 0.1]]
        >>> found = choose_by_gain(p, [0, 0, 0, 0], [True] * 4, most=4, fdr=0.1, questions=1)
        >>> found.rows, found.asked
        ([0], [2])
    """
    p, given = checked(posterior, y)
    may = np.flatnonzero(np.asarray(free, dtype=bool))
    everyone = by_gain(p, given, policy=policy, cost=cost)
    if not len(may):
        return Chosen(rows=[], asked=[], gains=everyone)
    found = by_gain(p[may], given[may], policy=policy, cost=cost, questions=questions)
    kind = np.array(found.kind, dtype=object)
    asked = np.flatnonzero(kind == "ask")
    asked = asked[np.lexsort((asked, -found.wrong[asked].round(12), -found.value[asked].round(12)))]
    suspects = np.flatnonzero((kind == "label") | (kind == "remove"))
    acted = suspects[fdr_prefix(found.wrong[suspects], fdr, earlier)][: max(0, most)]
    return Chosen(rows=may[acted].tolist(), asked=may[asked].tolist(), gains=everyone)


def choose(
    rules: ActRules,
    ranking: Ranking,
    train: Labelled,
    acted: Collection[str],
    most: int | Kinds,
    earlier: Sequence[float] = (),
) -> Chosen:
    """Whom to act on: the most suspicious who are eligible, or by expected gain where there is a posterior.

    A control is given how many of each :class:`Kinds` and acts on as many, whomever else its rule would let go.
    """
    uid = train.uid
    free = np.array([one not in acted for one in uid])
    if isinstance(most, Kinds):
        return _as_many(ranking, train, free, most)
    if ranking.posterior is not None:
        found = choose_by_gain(
            ranking.posterior,
            train.y,
            free,
            most=most,
            policy=rules.action,
            fdr=rules.fdr,
            questions=rules.ask,
            earlier=earlier,
        )
        left = _left(train, found)
        refuse_one_label(left, train.labels, f"the {len(found.rows)} most suspicious labels, once acted on,")
        return found
    order = np.argsort(-ranking.suspicion, kind="stable")
    rows = [int(i) for i in order if ranking.eligible[i] and free[i]][: max(0, most)]
    return Chosen(rows=rows, asked=[], gains=None)


def _as_many(ranking: Ranking, train: Labelled, free: npt.NDArray[np.bool_], kinds: Kinds) -> Chosen:
    """The most suspicious, as many as were acted on; those of them whose other label is surest are relabelled.

    Nobody where the ranking suspects nobody at all: then its order is none.
    """
    rows: list[int] = []
    left = np.bincount(train.y, minlength=len(train.labels))
    order = np.argsort(-ranking.suspicion, kind="stable") if ranking.eligible.any() else np.array([], dtype=np.int64)
    for row in order[free[order]].tolist():
        # Whom `spare` would let go is passed over, so that the numbers come out.
        if len(rows) < sum(kinds) and left[train.y[row]] > LEAST:
            left[train.y[row]] -= 1
            rows.append(row)
    surest = np.argsort(-ranking.certainty[rows], kind="stable")[: kinds.label]
    relabelled = set(surest.tolist())
    return Chosen(
        rows=rows,
        asked=[],
        gains=None,
        kinds=["label" if k in relabelled else "remove" for k in range(len(rows))],
    )


def _left(train: Labelled, chosen: Chosen) -> list[int]:
    """Examples of each label after the acts [C]."""
    y = train.y
    if chosen.gains is not None:
        y[chosen.rows] = chosen.gains.label[chosen.rows]
    return [int(count) for count in np.bincount(y[y >= 0], minlength=len(train.labels))]


def act(
    rules: ActRules,
    ranking: Ranking,
    p_train: np.ndarray[Any, Any],
    train: Labelled,
    validation: Labelled,
    chosen: Chosen,
    number: int,
    tuned: Tuned,
    neighbours: Neighbours | None,
) -> list[dict[str, Any]]:
    """The decisions of a round, each with its evidence."""
    rows = chosen.rows
    if not rows:
        return []
    kinds: list[Any]
    if chosen.kinds is not None:
        kinds, labels = list(chosen.kinds), ranking.suggestion[rows]
    elif chosen.gains is not None:
        kinds = [chosen.gains.kind[row] for row in rows]
        labels = chosen.gains.label[rows]
    else:
        kinds, labels = _by_influence(rules, ranking, p_train[rows], train.y[rows], rows)
    predicted = validation.y  # no errors: controls need no evidence
    if neighbours is not None:
        precision = resolve_precision(tuned.tuning.precision, tuned.classifier.device)
        predicted = tuned.classifier.predict(validation.pairs, precision=precision).argmax(axis=1)
    near = None if neighbours is None else neighbours(train, rows)
    made = []
    for k, row in enumerate(rows):
        if kinds[k] == "keep":
            continue
        new = train.labels[labels[k]] if kinds[k] == "label" else None
        pushed = _pushed(ranking, int(row), validation, predicted)
        example = train.frame.iloc[row]
        evidence: dict[str, Any] = {"errors": pushed[:ERRORS], "pushed": len(pushed)}
        if ROW in example.index:
            evidence["row"] = int(example[ROW])
        if near is not None:
            evidence["neighbour"] = dict(near[k])
        if chosen.gains is not None:
            evidence |= {"p_wrong": float(chosen.gains.wrong[row]), "gain": float(chosen.gains.gain[row])}
        made.append(
            {
                "uid": example["uid"],
                "text": example["text"],
                "reply": example["reply"],
                "kind": kinds[k],
                "old": example["label"],
                "new": new,
                "round": number,
                "score": float(ranking.suspicion[row]),
                "reason": _reason(example["label"], _instead(ranking, p_train, train, row), pushed, evidence),
                "truth": example["truth"],
                "actor": "repair",
                "evidence": evidence,
            }
        )
    return made


def _by_influence(
    rules: ActRules,
    ranking: Ranking,
    p: np.ndarray[Any, Any],
    y: np.ndarray[Any, Any],
    rows: list[int],
) -> tuple[list[Any], np.ndarray[Any, Any]]:
    """Kind and new label of each candidate, by the gain of influence to first order."""
    weight = ranking.drivers / max(float(ranking.drivers.sum()), 1e-12)
    # What the ranking holds suspect is taken for an opponent, also where the drivers' mean does not show it.
    influence = np.minimum(ranking.signed[rows] @ weight, -1e-9)
    actions = decide(
        p,
        y,
        influence,
        policy=rules.action,
        similarity="cosine" if rules.tracin.normalise_train else "dot",
        suggested=ranking.suggestion[rows],
        certainty=ranking.certainty[rows],
    )
    return list(actions.kind), actions.label


def ask(ranking: Ranking, train: Labelled, chosen: Chosen, number: int) -> list[dict[str, Any]]:
    """The questions of a round, as questions.csv and the ledger need them."""
    if chosen.gains is None:
        return []
    asked = []
    for row in chosen.asked:
        example = train.frame.iloc[row]
        suggested, wrong = train.labels[ranking.suggestion[row]], float(chosen.gains.wrong[row])
        asked.append(
            {
                **{c: example[c] for c in ("uid", "text", "reply")},
                "old": example["label"],
                "suggested": suggested,
                "p_wrong": wrong,
                "round": number,
                "score": float(ranking.suspicion[row]),
                "reason": f"Labelled {example['label']}, wrong with probability {wrong:.2f}; else {suggested}.",
            }
        )
    return asked


def spare(made: list[dict[str, Any]], train: Labelled) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The decisions that leave every label enough examples to be tuned on; a large budget would take them all.

    Returns:
        The decisions that stand, and those that do not, each as what the ledger says of an example that is kept.
    """
    left = train.frame["label"].value_counts().to_dict()
    kept: list[dict[str, Any]] = []
    spared: list[dict[str, Any]] = []
    for decision in made:
        if left[decision["old"]] > LEAST:
            left[decision["old"]] -= 1
            if decision["kind"] == "label":
                left[decision["new"]] = left.get(decision["new"], 0) + 1
            kept.append(decision)
        else:
            said = f"{decision['reason']} Kept: it is one of the last {LEAST} labelled {decision['old']}."
            spared.append({**{name: decision[name] for name in ("uid", "old", "round", "score")}, "reason": said})
    return kept, spared


def _pushed(ranking: Ranking, row: int, validation: Labelled, predicted: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """The validation errors that the example pushes harder than most do, the hardest first, with its influence."""
    signed = ranking.signed[row]
    usual = np.zeros(len(validation)) if ranking.usual is None else np.minimum(ranking.usual, 0)
    wrong = np.flatnonzero((predicted != validation.y) & (signed < usual))
    worst = wrong[np.argsort(signed[wrong], kind="stable")]
    return [
        {
            **{c: validation.frame[c].iloc[q] for c in ("uid", "text", "reply", "label")},
            "predicted": validation.labels[int(predicted[q])],
            "influence": float(signed[q]) / ranking.weight,
        }
        for q in worst
    ]


class _Instead(NamedTuple):
    """A label that is likelier than the one given, with the probabilities of both."""

    label: str
    probability: float
    given: float


def _instead(ranking: Ranking, p_train: np.ndarray[Any, Any], train: Labelled, row: int) -> _Instead | None:
    """The suggested label where it is likelier than the label as given, else None."""
    own, other = train.y[row], ranking.suggestion[row]
    p = p_train[row] if ranking.posterior is None else ranking.posterior[row]
    return _Instead(train.labels[other], float(p[other]), float(p[own])) if p[other] > p[own] else None


def _reason(label: str, instead: _Instead | None, pushed: list[dict[str, Any]], evidence: Mapping[str, Any]) -> str:
    if instead is not None:
        parts = [
            f"Labelled {label}, which has probability {instead.given:.2f}; {instead.label} is likelier "
            f"({instead.probability:.2f})"
        ]
    elif "p_wrong" in evidence:
        parts = [f"Labelled {label}, wrong with probability {evidence['p_wrong']:.2f}; no other label is likelier"]
    else:
        parts = [f"Labelled {label}, which the classifier has learnt; suspect by its influence"]
    if pushed:
        away = pushed[0]["label"]
        count = sum(error["label"] == away for error in pushed)
        parts.append(f"it pushes {count} validation error{'s' if count > 1 else ''} away from {away}")
    near = evidence.get("neighbour")
    if near and near["similarity"] >= _NEAR:
        parts.append(f"its nearest example labelled otherwise is {near['similarity']:.2f} similar")
    return "; ".join(parts) + "."
