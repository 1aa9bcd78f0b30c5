"""The few figures a reader wants first, each with its control beside it."""

from __future__ import annotations

from dataclasses import dataclass

from tracemend.report.numbers import count, decimal, is_known, percent
from tracemend.report.run import RepairRun

# The arms that did the same job another way with the same budget, by the name the page gives them.
CONTROLS = {"similarity": "by similarity", "random": "at random", "unchanged": "no label changed"}


@dataclass(frozen=True, kw_only=True)
class KeyFigure:
    """One figure as shown.

    Attributes:
        name: what it is.
        value: the figure in words and digits.
        beside: (name, value) of what it is to be read against, controls first to last.
        meaning: one sentence that says how it is measured.
    """

    name: str
    value: str
    beside: tuple[tuple[str, str], ...] = ()
    meaning: str = ""


def key_figures(run: RepairRun) -> list[KeyFigure]:
    """Key figures of a repair; those that need the truth appear only where it is known."""
    metrics = run.part("metrics")
    found = [_average_precision(run)]
    if is_known(metrics.get("ap_clean")):
        found.append(_recovered(run))
    if is_known(metrics.get("acted_precision")):
        found.append(_acted_precision(run))
    if is_known(metrics.get("detection_ap")):
        found.append(_detection(run))
    found.append(_training_set(run))
    return found


def _beside(run: RepairRun, metric: str, *, share: bool) -> tuple[tuple[str, str], ...]:
    if run.part("metrics").get("rounds") == 0:
        return ()  # nobody was acted on, and each control is the start
    values = ((name, run.control(arm, metric)) for arm, name in CONTROLS.items())
    return tuple((name, percent(v) if share else decimal(v)) for name, v in values if is_known(v))


def _average_precision(run: RepairRun) -> KeyFigure:
    metrics = run.part("metrics")
    references = [("before repair", metrics.get("ap_corrupted")), ("clean labels", metrics.get("ap_clean"))]
    known = tuple((name, decimal(value)) for name, value in references if is_known(value))
    data = run.part("data")
    # The verdict may be read on another part: figures that look alike must say whose they are.
    part = " (test part)" if data.get("sizes", {}).get("test") else " (verdict part)"
    several = len(data.get("labels", ())) > 2
    label = [("positive label", str(data["positive"]))] if "positive" in data and not several else []
    what = (
        "each label is ranked above the rest, mean over the labels"
        if several
        else "the positive label is ranked above the rest"
    )
    return KeyFigure(
        name=f"Average precision after repair{part}",
        value=decimal(metrics.get("ap_repaired")),
        beside=(*known[:1], *_beside(run, "ap_repaired", share=False), *known[1:], *label),
        meaning=f"How well {what}; 1 is perfect.",
    )


def _recovered(run: RepairRun) -> KeyFigure:
    share = run.part("metrics").get("recovered_share")
    meaning = "Of the average precision that wrong labels cost, the share that came back."
    if not is_known(share):
        meaning = "Not claimed: the wrong labels cost too little here for a share of it to mean anything."
    return KeyFigure(
        name="Loss recovered",
        value=percent(share) if is_known(share) else "not claimed",
        beside=_beside(run, "recovered_share", share=True),
        meaning=meaning,
    )


def _acted_precision(run: RepairRun) -> KeyFigure:
    return KeyFigure(
        name="Precision of what was acted on",
        value=percent(run.part("metrics").get("acted_precision")),
        beside=_beside(run, "acted_precision", share=True),
        meaning="Share of the examples acted on whose label was in truth wrong.",
    )


def _detection(run: RepairRun) -> KeyFigure:
    chance = run.control("random", "detection_ap")
    return KeyFigure(
        name="Detection of wrong labels",
        value=decimal(run.part("metrics").get("detection_ap")),
        beside=(("chance", decimal(chance)),) if is_known(chance) else (),
        meaning="Average precision of the whole ranking by suspicion, before anything was changed.",
    )


def _training_set(run: RepairRun) -> KeyFigure:
    metrics = run.part("metrics")
    changes = [("removed", metrics.get("removed")), ("relabelled", metrics.get("relabelled"))]
    answers = [(kind, metrics.get(f"{kind}_by_answers")) for kind in ("relabelled", "removed")]
    changes += [(f"{kind} by your answers", number) for kind, number in answers if number]
    beside = [(name, count(value)) for name, value in changes if is_known(value)]
    noise = metrics.get("estimated_noise")
    if is_known(noise):
        beside.append(("thought wrong", percent(noise)))
    if is_known(metrics.get("given_noise")):
        beside.append(("wrong as you gave it", percent(metrics["given_noise"])))
    rounds = metrics.get("rounds")
    meaning = f"In {count(rounds)} {'round' if rounds == 1 else 'rounds'}"
    if run.part("controls") and rounds:
        meaning += "; the controls acted on as many"
        meaning += ", without your answers" if any(number for _, number in answers) else ""
    return KeyFigure(
        name="Training examples",
        value=count(metrics.get("n_train")),
        beside=tuple(beside),
        meaning=f"{meaning}.",
    )
