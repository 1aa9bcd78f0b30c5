"""Functional tests and contrast sets: small suites that ask for one ability each, and pairs whose label flips."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from tracemend.data.labels import label_name
from tracemend.data.readers import read
from tracemend.errors import DataError, did_you_mean
from tracemend.runs import fingerprint

Kind = Literal["MFT", "INV", "DIR"]
Way = Literal["not-down", "not-up"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Direction:
    """What a change of a text must not do to a probability.

    Attributes:
        label: whose probability; None is the label that the first text gets.
        way: ``not-down`` or ``not-up``.
        tolerance: by how much it may all the same.
    """

    label: str | None
    way: Way
    tolerance: float = 0.1


@dataclass(frozen=True, eq=False)
class FunctionalTest:
    """One test of a suite (Ribeiro et al. 2020, arXiv 2005.04118).

    A minimum functionality test (MFT) asks for the label of each text, an invariance test (INV) that changed texts get
    the answer of the first, a directional test (DIR) that their probability does not go the wrong way.

    Attributes:
        name: of the test.
        kind: ``MFT``, ``INV`` or ``DIR``.
        capability: what it is about (Vocabulary, Negation ...).
        cases: texts of each; of INV and DIR the first is the original.
        labels: of each case's texts, for an MFT.
        direction: for a DIR.

    Raises:
        DataError: cases without texts, or what the kind needs is missing.
    """

    name: str
    kind: Kind
    capability: str
    cases: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...] = ()
    direction: Direction | None = None

    def __post_init__(self) -> None:
        least = 1 if self.kind == "MFT" else 2
        if not self.cases or any(len(texts) < least for texts in self.cases):
            raise DataError(
                f"test {self.name!r}: a case of an {self.kind} needs {least} texts or more, and there must be a case."
            )
        if self.kind == "MFT" and len(self.labels) != len(self.cases):
            raise DataError(
                f"test {self.name!r} has {len(self.labels)} labels for {len(self.cases)} cases; give one each."
            )
        if (self.kind == "DIR") != (self.direction is not None):
            raise DataError(f"test {self.name!r}: a DIR needs a direction, and no other kind has one.")

    @property
    def fingerprint(self) -> str:
        """Sha256 (16 hex digits) over all of it."""
        direction = None if self.direction is None else astuple(self.direction)
        return fingerprint(self.name, self.kind, self.capability, self.cases, self.labels, direction)


def read_functional(path: Path | str, *, labels: Mapping[Any, str] | None = None) -> list[FunctionalTest]:
    """Read a suite: one case a line of JSON.

    Every line has ``test``, ``type`` (MFT, INV or DIR), ``capability`` and ``texts``; those of an MFT ``label``; those
    of a DIR ``direction``: ``{"label": name or null, "way": "not-down" or "not-up", "tolerance": 0.1}``. Lines of an
    MFT without a label are left out. For CheckList's own suite of sentiment see :func:`checklist`.

    Args:
        path: of the file.
        labels: what its labels are called; by default as they stand there.

    Raises:
        DataError: a line that is no case, an unknown kind, a DIR without direction, or cases of one test that differ in
            type or direction.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for number, row in _lines(Path(path)):
        if not isinstance(row, dict) or not {"test", "type", "texts"} <= set(row) or not isinstance(row["texts"], list):
            raise DataError(f"line {number} of {path} is no case; it needs test, type and texts.")
        if row["type"] not in KINDS:
            raise DataError(f"line {number} of {path}: type {row['type']!r} is {did_you_mean(row['type'], KINDS)}")
        rows.setdefault(str(row["test"]), []).append(row)
        told, first = (_asked(one) for one in (row, rows[str(row["test"])][0]))
        if told != first:
            raise DataError(
                f"line {number} of {path}: test {str(row['test'])!r} is {told} here and {first} before; all cases of a "
                "test have one type and one direction: give the others a test of their own."
            )
    found = []
    for name, cases in rows.items():
        kind: Kind = cases[0]["type"]
        if kind == "MFT":
            cases = [case for case in cases if case.get("label") is not None]
            if not cases:
                continue
        found.append(
            FunctionalTest(
                name,
                kind,
                str(cases[0].get("capability", "")),
                tuple(tuple(map(str, case["texts"])) for case in cases),
                tuple(_named(case["label"], labels) for case in cases) if kind == "MFT" else (),
                _direction(cases[0].get("direction"), name) if kind == "DIR" else None,
            )
        )
    if not found:
        raise DataError(f"{path} holds no test; write one case a line.")
    return found


# What CheckList's suite of sentiment says of its directional tests in words.
_DIRECTIONS = {
    "intensifiers": Direction(None, "not-down"),
    "reducers": Direction(None, "not-up"),
    "add positive phrases": Direction("positive", "not-down"),
    "add negative phrases": Direction("positive", "not-up"),
    '"used to" should reduce': Direction(None, "not-up"),
}


def checklist(folder: Path | str) -> list[FunctionalTest]:
    """CheckList's suite of sentiment tests, as the reference set ``checklist_sentiment`` holds it.

    Raises:
        DataError: the file is not there, or is damaged.
    """
    path = Path(folder) / "cases.jsonl"
    kept: dict[str, dict[str, Any]] = {}
    for _, row in _lines(path):
        one = kept.setdefault(str(row["test"]), {"kind": row["type"], "capability": row["capability"], "cases": []})
        if row["type"] != "MFT" or row["label"] is not None:
            one["cases"].append((tuple(row["texts"]), row["label"]))
    names = {0: "negative", 1: "neutral", 2: "positive"}
    return [
        FunctionalTest(
            name,
            one["kind"],
            one["capability"],
            tuple(texts for texts, _ in one["cases"]),
            tuple(names[label] for _, label in one["cases"]) if one["kind"] == "MFT" else (),
            _DIRECTIONS.get(name) if one["kind"] == "DIR" else None,
        )
        for name, one in kept.items()
        if one["cases"]
    ]


def thinned(tests: Sequence[FunctionalTest], most: int, *, seed: int = 0) -> list[FunctionalTest]:
    """The tests with at most so many cases of each, drawn at random, in their order.

    Raises:
        DataError: ``most`` is below one.
    """
    if most < 1:
        raise DataError(f"{most} cases of each test were asked for; at least 1 is needed.")
    found = []
    for k, test in enumerate(tests):
        kept = sorted(np.random.default_rng((seed, k)).permutation(len(test.cases))[:most].tolist())
        labels = tuple(test.labels[i] for i in kept) if test.labels else ()
        found.append(replace(test, cases=tuple(test.cases[i] for i in kept), labels=labels))
    return found


@dataclass(frozen=True, eq=False)
class ContrastSet:
    """Texts and their minimally changed copies with another label (Gardner et al. 2020, arXiv 2004.02709).

    Attributes:
        originals: texts.
        labels: of them.
        copies: the changed text of each.
        changed: its label.

    Raises:
        DataError: the four differ in length, or there is none.
    """

    originals: tuple[str, ...]
    labels: tuple[str, ...]
    copies: tuple[str, ...]
    changed: tuple[str, ...]

    def __post_init__(self) -> None:
        sizes = [len(self.originals), len(self.labels), len(self.copies), len(self.changed)]
        if len(set(sizes)) > 1 or not sizes[0]:
            raise DataError(f"a contrast set pairs rows one by one; the parts have {sizes} rows.")

    @property
    def fingerprint(self) -> str:
        """Sha256 (16 hex digits) over all of it."""
        return fingerprint(self.originals, self.labels, self.copies, self.changed)


def read_contrasts(originals: Any, copies: Any, *, text: str = "Text", label: str = "Sentiment") -> ContrastSet:
    """Read a contrast set from two tables whose rows stand for one another.

    Args:
        originals: a table as :func:`read` takes it.
        copies: the changed texts, row by row.
        text: the column of the text in both.
        label: the column of the label in both.

    Raises:
        DataError: a table cannot be read, or the two differ in length.
    """
    one, other = (read(source, text=text, label=label) for source in (originals, copies))
    parts = [tuple(frame[column]) for frame in (one.frame, other.frame) for column in ("text", "label")]
    return ContrastSet(*parts)


def _asked(case: Mapping[str, Any]) -> str:
    """What a case asks, in words: its type, and of a DIR its direction."""
    return case["type"] if case["type"] != "DIR" else f"DIR {json.dumps(case.get('direction'), sort_keys=True)}"


def _direction(given: Any, test: str) -> Direction:
    ways = get_args(Way)
    if not isinstance(given, dict) or given.get("way") not in ways:
        raise DataError(
            f"the cases of {test!r} are DIR without a direction; give each a way ({', '.join(ways)}), and a "
            "label or null."
        )
    label = given.get("label")
    return Direction(None if label is None else str(label), given["way"], float(given.get("tolerance", 0.1)))


def _named(label: Any, labels: Mapping[Any, str] | None) -> str:
    if labels is not None and label in labels:
        return labels[label]
    return str(label_name(label))


def _lines(path: Path) -> Sequence[tuple[int, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); give a file with one case a line of JSON.") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                found.append((number, json.loads(line)))
            except json.JSONDecodeError as error:
                raise DataError(f"line {number} of {path} is no JSON ({error}).") from None
    return found
