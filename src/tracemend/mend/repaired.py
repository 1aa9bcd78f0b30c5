"""The repaired set in the user's format, with a diff to read and one to process.

The user's own files are never touched: everything here is made anew from the data as read and the ledger, so it can
be made again after a decision was taken back.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.data.decision import MACHINE, person
from tracemend.data.export import with_own, write
from tracemend.data.ledger import ACTS, Decision, Ledger
from tracemend.data.schema import Labelled
from tracemend.errors import DataError, RunError, did_you_mean
from tracemend.runs import atomic, read_json, write_csv, write_json

FORMATS = ("csv", "jsonl", "parquet")
_SETTINGS = "export.json"  # formats and column names, so that an undo writes the same files again
_SHOWN, _SAID = 120, 400  # characters of a text and of a reason in changes.md
_FORMULA = ("=", "+", "-", "@")  # how a cell begins that a spreadsheet takes for a formula


def apply(data: Labelled, ledger_state: Mapping[str, Decision]) -> Labelled:
    """The data with the decisions in force carried out: removed and relabelled; words and order stay.

    Args:
        data: the examples as read, before any decision.
        ledger_state: ``Ledger.state()``.

    Raises:
        DataError: a decision is about an example that the data lacks, or gives a label the data does not have.

    Example:
        >>> data = Labelled.make(["you rock", "go away"], ["safe", "safe"], label_names=["safe", "unsafe"])
        >>> state = {data.uid[1]: Decision(uid=data.uid[1], kind="label", old="safe", new="unsafe")}
        >>> list(apply(data, state).frame["label"])
        ['safe', 'unsafe']
    """
    missing = sorted(set(ledger_state) - set(data.uid))
    if missing:
        raise DataError(
            f"{len(missing)} of {len(ledger_state)} decisions are about examples that the data lacks (the first: "
            f"{missing[0]}); give the data that the run was made from, before any repair."
        )
    labels = {uid: d.new for uid, d in ledger_state.items() if d.kind == "label" and d.new is not None}
    return data.relabelled(labels).without(uid for uid, d in ledger_state.items() if d.kind == "remove")


def by_people(state: Mapping[str, Decision]) -> dict[str, Decision]:
    """Of the decisions in force those of people: they hold whether or not a repair is recommended."""
    return {uid: decision for uid, decision in state.items() if decision.actor != MACHINE}


def export(
    data: Labelled,
    ledger: Ledger,
    directory: Path | str,
    *,
    formats: Sequence[str] = FORMATS,
    names: Mapping[str, str] | None = None,
) -> dict[str, Path]:
    """Write the repaired set and what was changed in it.

    ``repaired.FORMAT`` hold the repaired set; ``changes.md`` is the diff to read, ``changes.csv`` the same, with every
    row of the ledger, to process. ``answered.FORMAT`` hold the set with what people decided alone, where they changed
    something and the repair did too. The same data and ledger give the same bytes. Where somebody decides meanwhile,
    the files are written again, so that of several who write at once the last leaves them as the ledger says.

    Texts are written as they are. A spreadsheet takes a CSV cell that begins with = + - or @ for a formula; escaping
    such cells would alter the data for everybody else, so changes.md says how many there are and how to open
    the file without running them.

    Args:
        data: the examples as read, before any decision.
        ledger: the decisions.
        directory: where to write; made if it is not there.
        formats: some of csv, jsonl, parquet.
        names: the user's names for canonical columns, such as ``{"text": "comment"}``.

    Returns:
        File name -> path.

    Raises:
        DataError: unknown format, or see :func:`apply` and :func:`tracemend.data.export.write`.
        RunError: the disk is full or not writable.

    Example:
        >>> sorted(export(data, ledger, out, formats=["csv"]))
        ['changes.csv', 'changes.md', 'repaired.csv']
    """
    for name in formats:
        if name not in FORMATS:
            raise DataError(f"export format {name!r} is {did_you_mean(name, FORMATS)}")
    folder = Path(directory)
    while True:
        version = ledger.version
        paths = _write_all(data, ledger, folder, formats, names)
        if ledger.version == version:
            break
    write_json(folder / _SETTINGS, {"formats": list(formats), "names": dict(names or {})})
    return paths


def _write_all(
    data: Labelled, ledger: Ledger, folder: Path, formats: Sequence[str], names: Mapping[str, str] | None
) -> dict[str, Path]:
    state = ledger.state()
    repaired, people = apply(data, state), by_people(state)
    sets = {"repaired": repaired}
    if len(people) < len(state) and any(decision.kind != "keep" for decision in people.values()):
        sets["answered"] = apply(data, people)
    paths = {f"{of}.{name}": folder / f"{of}.{name}" for of in sets for name in formats}
    for name in formats:
        for of, made in sets.items():
            write(made, paths[f"{of}.{name}"], names=names)
        if "answered" not in sets:  # taken back since
            (folder / f"answered.{name}").unlink(missing_ok=True)
    changes = _changes(data, ledger)
    paths |= {name: folder / name for name in ("changes.csv", "changes.md")}
    write_csv(paths["changes.csv"], changes)
    with atomic(paths["changes.md"]) as file:
        file.write(_readable(data, repaired, changes))
    return paths


def undo(
    run_dir: Path | str,
    uid: str,
    data: Labelled,
    *,
    actor: str = "user",
    directory: Path | str | None = None,
) -> dict[str, Path]:
    """Take back what was decided on one example and write the exports again.

    Doing it twice is doing it once: where the example's decisions are undone already, only the exports are written.

    Args:
        run_dir: a run directory with a ledger.
        uid: the example, as changes.md names it.
        data: the examples as read, before any decision.
        actor: who takes it back.
        directory: where the exports lie (default: the run directory).

    Returns:
        File name -> path, as :func:`export`.

    Raises:
        RunError: there is no ledger, it never decided on ``uid``, or ``actor`` is the repair's name.
        DataError: see :func:`export`; then nothing was undone.
    """
    path = Path(run_dir) / "ledger.sqlite"
    if not path.exists():
        raise RunError(f"{path} does not exist; name the directory of a finished repair.")
    folder = Path(run_dir if directory is None else directory)
    with Ledger(path) as ledger:
        state = ledger.state()
        apply(data, state)  # other data must not cost the user a decision
        if uid in state or not any(d.uid == uid and d.kind in ACTS for d in ledger.decisions()):
            ledger.undo(uid, actor=person(actor))
        return export_again(folder, data, ledger)


def export_again(directory: Path, data: Labelled, ledger: Ledger) -> dict[str, Path]:
    """Write the same files as :func:`export` did there before, from the ledger as it is now.

    Where nothing was exported yet, all formats are written, with canonical column names.

    Raises:
        DataError: see :func:`export`.
    """
    settings = settings_of(directory)
    return export(data, ledger, directory, formats=settings.get("formats", FORMATS), names=settings.get("names"))


def settings_of(directory: Path) -> dict[str, Any]:
    """Formats and column names of the exports in a run directory; empty where there is none yet."""
    return read_json(directory / _SETTINGS) if (directory / _SETTINGS).exists() else {}


def remember_names(directory: Path | str, names: Mapping[str, str]) -> None:
    """Keep the user's column names for the first export of a run that has none yet, such as a ``detect``.

    Args:
        directory: the run directory.
        names: as in :func:`export`.
    """
    path = Path(directory) / _SETTINGS
    if not path.exists():
        write_json(path, {"formats": list(FORMATS), "names": dict(names)})


def _changes(data: Labelled, ledger: Ledger) -> pd.DataFrame:
    """Every row of the ledger with its reason and texts."""
    rows = ledger.rows()
    evidence = [json.loads(text) for text in rows.evidence]
    rows["reason"] = [
        _reason(found, score) if pd.isna(undoes) else ""
        for found, score, undoes in zip(evidence, rows.score, rows.undoes, strict=True)
    ]
    texts = data.frame.set_index("uid")[["text", "reply"]]
    return with_own(rows.join(texts, on="uid"), data.frame)


def _reason(evidence: Mapping[str, Any], score: float) -> str:
    said = str(evidence.get("reason") or "")
    return said if said or math.isnan(score) else f"score {score:.3g}"


def _readable(data: Labelled, repaired: Labelled, changes: pd.DataFrame) -> str:
    acts = changes[changes.in_force & changes.kind.isin(list(ACTS))].sort_values(["round", "version"])
    counts = acts.kind.value_counts()
    undone = changes[changes.undoes.notna() & changes.kind.isin(list(ACTS))].uid.unique()
    back = changes[changes.uid.isin([u for u in undone if u not in set(acts.uid)]) & changes.undoes.isna()]
    parts = [
        "# Changes",
        f"{len(data)} examples before, {len(repaired)} after: {counts.get('label', 0)} relabelled, "
        f"{counts.get('remove', 0)} removed, {counts.get('keep', 0)} looked at and kept. "
        "The file this was made from is as it was.",
        "To take one decision back, undo it by its uid; the repaired set is then written again without it.",
    ]
    risky = sum(text.startswith(_FORMULA) for pair in repaired.pairs for text in pair if text is not None)
    if risky:
        parts.append(
            f"**Spreadsheets:** {risky} texts begin with = + - or @ and are written unaltered. Import the CSV files "
            "with every column set to text; a spreadsheet that opens them directly may take such cells for formulas."
        )
    parts += ["## In force", _table(acts)]
    if len(back):
        parts += ["## Taken back", _table(back[back.kind.isin(list(ACTS))])]
    beside = changes[changes.in_force & ~changes.kind.isin(list(ACTS))]
    # What was decided since is no question any more.
    waiting = beside[(beside.kind == "ask") & ~beside.uid.isin(set(acts.uid))]
    if len(waiting):
        parts += ["## Waiting for a person", _table(waiting)]
    notes = beside[beside.kind != "ask"]
    if len(notes):
        parts += ["## Words and comments", _table(notes)]
    return "\n\n".join(parts) + "\n"


def _table(rows: pd.DataFrame) -> str:
    if not len(rows):
        return "None."
    lines = ["| round | what | label | reason | text | by | uid |", "| ---: | --- | --- | --- | --- | --- | --- |"]
    for row in rows.to_dict("records"):
        text = _cell(row["text"]) if pd.isna(row["reply"]) else f"{_cell(row['text'])} ⟶ {_cell(row['reply'])}"
        change = " → ".join(_cell(row[name]) for name in ("old", "new") if not pd.isna(row[name]))
        cells = (row["round"], row["kind"], change, _cell(row["reason"], _SAID), text, _cell(row["actor"]), row["uid"])
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _cell(value: Any, most: int = _SHOWN) -> str:
    """A text as one Markdown cell: one line, shortened, with nothing in it that Markdown or HTML would act on."""
    if pd.isna(value):
        return ""
    line = " ".join(str(value).split())
    line = line if len(line) <= most else line[: most - 1].rstrip() + "…"
    return re.sub(r"([\\`*_{}\[\]<>|#~$&!])", r"\\\1", line)
