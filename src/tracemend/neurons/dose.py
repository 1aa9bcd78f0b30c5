"""How much worse a model gets as more of an order's units are taken, beside random and last ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from tracemend.arrays import Floats, Indices
from tracemend.errors import NeuronError
from tracemend.evaluate import mean_interval
from tracemend.neurons.interventions import Intervention
from tracemend.neurons.result import NeuronsResult
from tracemend.neurons.units import check_units
from tracemend.progress import Progress

ARMS = ("first", "random", "same norm", "last")
# Below this share of the first units' move, others were not moved as far.
_AS_FAR = 0.95
_STYLES = {
    "first": ("#2f6f8f", "-"),
    "random": ("#8a8a8a", "--"),
    "same norm": ("#b07d2b", "-."),
    "last": ("#8a8a8a", ":"),
    "shuffled labels": ("#7d4f9e", ":"),
}


@dataclass(frozen=True, eq=False)
class Measured:
    """What a model does on examples.

    Attributes:
        loss: of the right label of each, in nats [n].
        predicted: index of the most probable label [n].
        words: loss of the language model a token, of each text, where there is one [m].
        moved: mean length of the change as a share of the activation's.
    """

    loss: Floats
    predicted: Indices
    words: Floats
    moved: float = 0.0


class Subject(Protocol):
    """A model with examples on which it is measured."""

    y: Indices
    groups: Sequence[Any]

    def measure(
        self, intervention: Intervention | None = None, units: Indices | None = None, like: Indices | None = None
    ) -> Measured:
        """With an intervention on units, or without."""


@dataclass(frozen=True, kw_only=True)
class AblationResult(NeuronsResult):
    """A row an arm and number of units.

    Columns: ``arm`` (``first`` of the order, ``random``, ``same norm``: random units moved as far as the first would
    be, ``last``), ``k``, ``moved`` (length of the change as a share of the activation's), ``accuracy``, ``loss``,
    ``low`` and ``high`` (interval of the rise of the loss), ``changed`` (share of examples that get another label),
    ``language_loss`` (nats a token; NaN without a head). ``facts["order"]`` holds the units, the first first.
    """

    def figure(self) -> Any:
        """Loss by number of units: the first, the last and random ones; beside it the language model's loss."""
        from matplotlib.figure import Figure

        shown = ["loss", "language_loss"] if self.rows["language_loss"].notna().any() else ["loss"]
        figure = Figure(figsize=(5 * len(shown) + 1, 4), layout="constrained")
        for axes, column in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            for arm, of in self.rows.groupby("arm", sort=False):
                colour, line = _STYLES[str(arm)]
                axes.plot(of["k"], of[column], line, color=colour, marker="o", ms=3, label=str(arm))
            whole = self.facts["whole"][column]
            if whole is not None:
                axes.axhline(whole, color="#c9c9c9", lw=0.8)
            axes.set(xlabel="units taken", ylabel=column.replace("_", " ") + ", nats", xscale="log")
        figure.axes[0].legend(fontsize="small")
        return figure


@dataclass(frozen=True, eq=False)
class Dose:
    """A dose-response curve: its rows, and the figures of each arm at one dose.

    Attributes:
        rows: see :class:`AblationResult`.
        whole: accuracy, loss and language loss with nothing taken.
        arms: rises and falls at that dose, by arm.
        findings: what the intervals show.
    """

    rows: pd.DataFrame
    whole: dict[str, float]
    arms: dict[str, dict[str, float]]
    findings: list[str]


def check_doses(sizes: Sequence[int], at: int, draws: int, beta: float) -> None:
    """Refuse numbers that make no curve.

    Raises:
        NeuronError: see there.
    """
    if not sizes or min(sizes) < 1 or at not in sizes or draws < 1 or beta <= 0:
        raise NeuronError(
            f"at is {at}, sizes are {tuple(sizes)}, draws {draws}, beta {beta}; at must be one of sizes, and all of "
            "them above zero."
        )


def given_first(units: Sequence[int], order: Indices, width: int) -> Indices:
    """The order with these units in front.

    Raises:
        NeuronError: a unit that the site lacks, or the same one twice.
    """
    check_units(units, width)
    rest = order[~np.isin(order, list(units))]
    return np.concatenate([np.array(units, dtype=np.int64), rest])


def dose_response(
    subject: Subject,
    intervention: Intervention,
    order: Indices,
    *,
    sizes: Sequence[int],
    at: int,
    draws: int,
    seed: int,
    others: Mapping[str, Indices] | None = None,
    progress: Progress = Progress(),
) -> Dose:
    """Take the first k units of an order, the last k, and k random ones, by number and at the same norm.

    Args:
        subject: what is measured.
        intervention: how units are taken.
        order: units that vary, the first first.
        sizes: numbers of units.
        at: the one of which the arms and findings speak.
        draws: random sets.
        seed: of these.
        others: further arms, each the first units of an order of its own.
        progress: shown.

    Raises:
        NeuronError: more units asked for than vary.
    """
    if max(sizes) > len(order):
        raise NeuronError(f"{max(sizes)} units are asked for and {len(order)} vary; lower sizes.")
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(order) for _ in range(draws)]
    whole = subject.measure()
    further = dict(others or {})
    plans = [(arm, k) for arm in (*ARMS, *further) for k in sizes]
    found: dict[tuple[str, int], list[Measured]] = {}
    for arm, k in progress.track(plans, task="take units"):
        first = order[:k]
        sets = {"first": [first], "last": [order[-k:]], **{name: [of[:k]] for name, of in further.items()}}.get(
            arm, [one[:k] for one in drawn]
        )
        like = first if arm == "same norm" else None
        found[arm, k] = [subject.measure(intervention, units, like) for units in sets]
    rows, arms = [], {}
    for arm, k in plans:
        figures, rise = _figures(subject, intervention, whole, found[arm, k])
        low, high = mean_interval(rise, list(subject.groups), seed=seed)
        row = {"arm": arm, "k": k, "moved": np.mean([one.moved for one in found[arm, k]])}
        row |= {"accuracy": _accuracy(subject, found[arm, k]), "loss": np.mean([one.loss for one in found[arm, k]])}
        row |= {"low": low, "high": high, "changed": figures["changed"], "language_loss": _words(found[arm, k])}
        rows.append(row)
        if k == at:
            arms[arm] = figures
    summary = {
        "accuracy": _accuracy(subject, [whole]),
        "loss": float(whole.loss.mean()),
        "language_loss": _words([whole]),
    }
    said = _findings(subject, whole, {arm: found[arm, at] for arm in (*ARMS, *further)}, at, seed)
    return Dose(pd.DataFrame(rows), summary, arms, said)


def _figures(
    subject: Subject, intervention: Intervention, whole: Measured, runs: Sequence[Measured]
) -> tuple[dict[str, float], Floats]:
    rise: Floats = np.mean([one.loss for one in runs], axis=0) - whole.loss
    figures = {
        "loss_rise": float(rise.mean()),
        "accuracy_fall": _accuracy(subject, [whole]) - _accuracy(subject, runs),
        "changed": float(np.mean([one.predicted != whole.predicted for one in runs])),
    }
    if intervention.how == "translate":
        target = intervention.target(subject.y)
        figures["to_target"] = float(np.mean([one.predicted == target for one in runs]))
    if len(whole.words):
        figures["language_rise"] = _words(runs) - _words([whole])
    return figures, rise


def _accuracy(subject: Subject, runs: Sequence[Measured]) -> float:
    return float(np.mean([one.predicted == subject.y for one in runs]))


def _words(runs: Sequence[Measured]) -> float:
    return float(np.mean([one.words for one in runs])) if len(runs[0].words) else float("nan")


def _findings(subject: Subject, whole: Measured, runs: dict[str, list[Measured]], at: int, seed: int) -> list[str]:
    rise = {arm: np.mean([one.loss for one in of], axis=0) - whole.loss for arm, of in runs.items()}
    low, high = mean_interval(rise["first"], list(subject.groups), seed=seed)
    said = [
        f"Without the first {at} units the loss rises by {rise['first'].mean():+.3f} ({low:+.3f} to {high:+.3f}), "
        f"without the last {at} by {rise['last'].mean():+.3f}."
    ]
    others: tuple[tuple[str, str], ...] = (
        ("random", "as many random units"), ("same norm", f"random units moved {_reach(runs)}")
    )  # fmt: skip
    if "shuffled labels" in runs:
        others = (*others, ("shuffled labels", "units weighed by shuffled labels"))
    for arm, other in others:
        gap = rise["first"] - rise[arm]
        low, high = mean_interval(gap, list(subject.groups), seed=seed)
        verb = "costs more than" if low > 0 else "costs less than" if high < 0 else "is not shown to cost more than"
        said.append(f"Taking the first units {verb} taking {other}: {gap.mean():+.3f} ({low:+.3f} to {high:+.3f}).")
    if len(whole.words):
        language = {arm: _words(of) - _words([whole]) for arm, of in runs.items()}
        said.append(
            f"The language model's loss rises by {language['first']:+.3f} nats a token; without random units by "
            f"{language['random']:+.3f}, moved {_reach(runs)} {language['same norm']:+.3f}."
        )
    else:
        said.append("The model gives no probabilities of next words, so the cost to its language is not measured.")
    return said


def _reach(runs: dict[str, list[Measured]]) -> str:
    """How far the random units went that were to go as far as the first: one that stays has no way to be stretched."""
    first, other = (float(np.mean([one.moved for one in runs[arm]])) for arm in ("first", "same norm"))
    return "as far" if other >= _AS_FAR * first else f"only {other / first:.0%} as far"
