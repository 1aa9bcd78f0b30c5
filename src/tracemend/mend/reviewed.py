"""People's review of a run's suspects: out to the tool they review in, and back into the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.data import Labelled
from tracemend.data.decision import Decision, Kind, person
from tracemend.data.examples import read_examples
from tracemend.data.exchange import REMOVE, Rule, Settled, Suspects, Target, read_answers, settle, write_suspects
from tracemend.data.exchange.suspects import NEEDED, OPTIONAL
from tracemend.data.export import with_own
from tracemend.data.ledger import Ledger
from tracemend.errors import RunError
from tracemend.mend.repaired import apply, export_again
from tracemend.runs import read_result

COMMANDS = ("detect", "repair", "demo")


@dataclass(frozen=True, kw_only=True)
class Reviewed:
    """What came back from a review.

    Attributes:
        kept: examples whose label stands.
        relabelled: examples with another label.
        removed: examples to be left out.
        undecided: uids on which the reviewers are split.
        reviewers: who decided.
        already: how many of the decisions were in the ledger as they are.
        paths: the files that were written again, by name.
    """

    kept: int
    relabelled: int
    removed: int
    undecided: tuple[str, ...]
    reviewers: tuple[str, ...]
    already: int
    paths: Mapping[str, Path]


def suspects_of(run: Path | str, *, top: int | None = None) -> Suspects:
    """The suspects of a finished run, the most suspicious first.

    Of ``detect`` these are the ranked training labels; of ``repair`` and ``demo`` the examples that were acted on, with
    what was done as the suggestion.

    Args:
        run: its directory.
        top: at most so many.

    Raises:
        RunError: the directory is not of such a run, or the run did not finish.
        DataError: there is no suspect.
    """
    folder = Path(run)
    result = read_result(folder)
    command = result["command"]
    if command not in COMMANDS:
        raise RunError(f"{folder} is a run of {command!r}; suspects come from a run of: {', '.join(COMMANDS)}.")
    name = "suspects" if command == "detect" else "decisions"
    path = folder / f"{name}.parquet"
    if not path.exists():
        raise RunError(f"{path} does not exist; give the command of the run again, so that it finishes.")
    table = pd.read_parquet(path)
    config, splits = result["config"], read_examples(folder)
    agent = str(config.get("method", "detect" if command == "detect" else "mend.repair"))
    if command != "detect":
        # Where no validation label was trusted, neither is a probability that takes them to be right.
        trusted = config.get("validation") != "noisy"
        p_wrong: Any = [json.loads(found).get("p_wrong") if trusted else None for found in table["evidence"]]
        table = table.assign(
            label=table["old"],
            suggested=table["new"].where(table["kind"] == "label", None).where(table["kind"] != "remove", REMOVE),
            # Of one meaning in every file: the chance that the label as given is wrong, where the ranking knows one.
            probability=p_wrong,
            evidence=table["reason"],
        ).sort_values("score", ascending=False, kind="stable")
    known = [name for name in (*NEEDED, *OPTIONAL) if name in table]
    table = with_own((table if top is None else table.head(top))[known], splits.train.frame)
    return Suspects.of(table, splits.labels, agent)


def export_suspects(run: Path | str, path: Path | str, target: Target, *, top: int | None = None) -> dict[str, Path]:
    """Write a run's suspects for people who review elsewhere.

    Args:
        run: a finished ``detect``, ``repair`` or ``demo``.
        path: the file.
        target: ``argilla``, ``label-studio`` or ``csv``.
        top: at most so many, the most suspicious.

    Returns:
        What each file is -> its path.

    Raises:
        RunError: see :func:`suspects_of`, or the file cannot be written.
        DataError: there is no suspect, or the file's ending is not the format's.

    Example:
        >>> export_suspects("runs/suspects", "review.json", "argilla", top=100)  # doctest: +SKIP
        {'records': PosixPath('review.json')}
    """
    return write_suspects(suspects_of(run, top=top), path, target)


def review(run: Path | str, file: Path | str, *, rule: Rule = "agree", actor: str | None = None) -> Reviewed:
    """Put the answers of a reviewed file into the run's ledger, and write the repaired set again.

    An answer that is the label as given is a decision to keep it; another label relabels; ``(remove)`` removes. It
    comes after what the run decided, so it holds; it can be undone by its uid like any decision. The same file twice
    is the same as once. Everything is checked before the first row is written.

    Args:
        run: the run that the file was exported from.
        file: Argilla's records, Label Studio's JSON export, or the table, as they came back.
        rule: what several reviewers of one example come to, see :func:`tracemend.data.exchange.settle`.
        actor: the name the decisions carry; by default the reviewers' names as the tool gives them.

    Raises:
        DataError: the file, an uid or a label is unknown, the reviewers disagree, or nothing was answered.
        RunError: ``run`` is no run with examples, a reviewer has the repair's name, or the ledger cannot be written.

    Example:
        >>> review("runs/suspects", "reviewed.json").relabelled  # doctest: +SKIP
        17
    """
    folder = Path(run)
    command = read_result(folder)["command"]
    if command not in COMMANDS:
        raise RunError(f"{folder} is a run of {command!r}; a review belongs to a run of: {', '.join(COMMANDS)}.")
    data = read_examples(folder).train
    outcome = settle(read_answers(file), data.uid, data.labels, rule=rule)
    if not outcome:
        raise RunError(f"{file} holds no answer; nothing was changed.")
    given = dict(zip(data.uid, data.frame["label"], strict=True))
    decisions = [_decision(one, given[one.uid], Path(file).name, actor) for one in outcome if one.value is not None]
    path = folder / "ledger.sqlite"
    state: dict[str, Decision] = {}
    if path.exists():
        with Ledger(path) as ledger:
            state = ledger.state()
    apply(data, state)  # a ledger of other data must not be added to
    _check_left(data, {**state, **{decision.uid: decision for decision in decisions}}, Path(file).name)
    with Ledger(path) as ledger:
        before = ledger.version
        versions = ledger.add(decisions, resumed=False)  # a person who gives the file again after an undo means it
        paths = export_again(folder, data, ledger)
    kinds = [decision.kind for decision in decisions]
    return Reviewed(
        kept=kinds.count("keep"),
        relabelled=kinds.count("label"),
        removed=kinds.count("remove"),
        undecided=tuple(one.uid for one in outcome if one.value is None),
        reviewers=tuple(sorted({decision.actor for decision in decisions})),
        already=sum(version <= before for version in versions),
        paths=paths,
    )


def _decision(one: Settled, given: str, file: str, actor: str | None) -> Decision:
    kind: Kind = "remove" if one.value == REMOVE else "keep" if one.value == given else "label"
    try:
        who = person(actor or " + ".join(one.reviewers) or "reviewer")
    except RunError as error:
        raise RunError(f"{error} Name who reviewed {file} with --actor; nothing was changed.") from None
    reason = f"reviewed ({file})" + (f": {one.comment}" if one.comment else "")
    return Decision(
        uid=one.uid, kind=kind, old=given, new=one.value if kind == "label" else None, actor=who,
        evidence={"reason": reason, "answers": one.answers},
    )  # fmt: skip


def _check_left(data: Labelled, state: Mapping[str, Decision], file: str) -> None:
    gone = {uid for uid, decision in state.items() if decision.kind == "remove"}
    new = {uid: decision.new for uid, decision in state.items() if decision.kind == "label"}
    left = {new.get(uid, label) for uid, label in zip(data.uid, data.frame["label"], strict=True) if uid not in gone}
    if len(left) < 2:
        raise RunError(
            f"with the answers of {file} {' and '.join(map(repr, left)) or 'no example'} alone would be left, and a "
            "classifier needs two labels; nothing was changed. Look at the answers again, or take earlier decisions "
            "back with tracemend undo."
        )
