"""The models of a run: what it was tuned on first, what the repair made of it, and what people made of it here.

Each has a folder ``RUN/studio/versions/NAME`` with ``version.json``, once it was tuned here its ``adapter`` and
``classifier.json`` (so that ``tracemend predict`` takes the folder for a run), and what :mod:`tracemend.studio.prepare`
computed of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from tracemend.data import Labelled
from tracemend.data.decision import ACTS, MACHINE, Decision
from tracemend.errors import RunError, did_you_mean
from tracemend.mend.repaired import apply
from tracemend.runs import read_json, read_result, write_json

FOLDER = "studio"
# What marked words weigh before and after, in the folder of a version that was tuned with them.
WORDS = "words.json"
_ROWS = ("decisions", "words")
_FACTS = ("title", "made", "actor", "basis", "parent", *_ROWS, "n_train", "note")


@dataclass(frozen=True, kw_only=True)
class Version:
    """One model.

    Attributes:
        name: ``original``, ``repaired``, or a number.
        title: for a person.
        run: the run directory.
        adapter: folder with its parameters.
        made: when, UTC; empty for those of the run itself.
        actor: who had it tuned.
        basis: whose decisions it was tuned on: ``given`` (none), ``repair``, ``people`` or ``all``.
        parent: the version that it is compared with by default.
        decisions: rows of the ledger that were in force.
        words: rows of the ledger with the marks on words that it was tuned with.
        n_train: examples it was tuned on.
        note: what a person wrote about it.
    """

    name: str
    title: str
    run: Path
    adapter: Path
    made: str = ""
    actor: str = ""
    basis: str = "given"
    parent: str | None = None
    decisions: tuple[int, ...] = ()
    words: tuple[int, ...] = ()
    n_train: int = 0
    note: str = ""

    @property
    def folder(self) -> Path:
        """Where what belongs to it lies."""
        return self.run / FOLDER / "versions" / self.name

    @property
    def prepared(self) -> bool:
        """Whether its evidence is there."""
        return (self.folder / "prepared.json").exists()

    @property
    def predicted(self) -> bool:
        """Whether its predictions are there, which come first."""
        return (self.folder / "predictions.parquet").exists()

    def save(self) -> None:
        """Write ``version.json``: from then on it is one of the run's versions."""
        write_json(self.folder / "version.json", {name: getattr(self, name) for name in _FACTS})


def versions(run: Path | str) -> list[Version]:
    """All models of a run, in the order they were made.

    Raises:
        RunError: the run is not finished, or of a kind without a classifier.
    """
    folder = Path(run)
    result, classifier = read_result(folder), folder / "classifier.json"
    if not classifier.exists():
        raise RunError(
            f"{folder} holds no finished classifier ({classifier.name} is missing); the studio opens the --out "
            "directory of a finished demo, repair, tune or detect."
        )
    chosen = read_json(classifier)["adapter"]
    found: list[Version] = []
    if (folder / "adapter-original").exists():
        found.append(_of_run(folder, "original", "adapter-original"))
        if (folder / "adapter-repaired").exists():
            made = replace(_of_run(folder, "repaired", "adapter-repaired"), basis="repair", parent="original")
            found.append(made)
    else:
        found.append(_of_run(folder, "original", chosen))
    if not found[0].adapter.exists():
        raise RunError(f"{found[0].adapter} is missing; give the command of the run ({result['command']}) again.")
    return found + _made_here(folder)


def version(run: Path | str, name: str) -> Version:
    """The version of that name.

    Raises:
        RunError: there is none; the message names those there are.
    """
    known = {v.name: v for v in versions(run)}
    if name not in known:
        raise RunError(f"the version {name!r} is {did_you_mean(name, known)}")
    return known[name]


def next_name(run: Path | str) -> str:
    """A name for the next one."""
    made = (path.parent.name for path in (Path(run) / FOLDER / "versions").glob("[0-9]*/version.json"))
    numbers = [int(name) for name in made if name.isdigit()]
    return f"{max(numbers, default=0) + 1:04d}"


def rows_of(one: Version, rows: Sequence[Decision]) -> list[Decision]:
    """The decisions that a version was tuned on, out of all rows of the ledger."""
    if one.basis == "repair":
        # The decisions of the run, not what stands of them: what a person undid later was tuned on all the same.
        made = _made_by_the_run(one.run)
        acts = [d for d in rows if d.undoes is None and d.kind in ACTS]
        first = {_key(d): d.version for d in reversed(acts)}
        return [d for d in acts if d.actor == MACHINE or (_key(d) in made and first[_key(d)] == d.version)]
    wanted = set(one.decisions)
    return [d for d in rows if d.version in wanted]


def _made_by_the_run(run: Path) -> set[tuple[object, ...]]:
    """What the repair acted on, and the answers that it was given, which are a person's."""
    table = pd.read_parquet(run / "decisions.parquet", columns=["round", "uid", "kind", "new"])
    return {(*row, None if pd.isna(new) else new) for *row, new in table.itertuples(index=False, name=None)}


def _key(d: Decision) -> tuple[object, ...]:
    return (d.round, d.uid, d.kind, d.new)


def training_set(one: Version, data: Labelled, rows: Sequence[Decision]) -> Labelled:
    """What a version was tuned on.

    Args:
        data: the training examples as given.
        rows: all rows of the ledger.
    """
    return apply(data, {d.uid: d for d in rows_of(one, rows)})


def _of_run(run: Path, name: str, adapter: str) -> Version:
    titles = {"original": "Original", "repaired": "Repaired"}
    return Version(name=name, title=titles[name], run=run, adapter=run / adapter)


def _made_here(run: Path) -> list[Version]:
    made = []
    for path in sorted((run / FOLDER / "versions").glob("*/version.json")):
        facts = read_json(path)
        if path.parent.name.isdigit():
            # A version of before words were tuned on has none.
            facts |= {name: tuple(int(v) for v in facts.get(name, ())) for name in _ROWS}
            kept = {name: facts[name] for name in _FACTS}
            made.append(Version(name=path.parent.name, run=run, adapter=path.parent / "adapter", **kept))
    return made
