"""Readers of facts that are asked in wordings of their own: kinds of things, negated and misprimed probes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracemend.data.facts import PLAIN, Fact, Facts, read_facts
from tracemend.data.tables import table_from_file
from tracemend.errors import DataError

_KINDS = "NEG-136-SIMP.tsv"
_PROBES = "probes.jsonl"
_ARTICLE = "(a|an)"
# A pattern for what needs one: each fact has its own wordings.
_OWN = "[X] [Y]."


def read_cloze(source: Path | str) -> Facts:
    """Read what lies there, told by its files: facts with patterns, kinds of things, or negated and misprimed probes.

    Args:
        source: a folder with ``facts.jsonl`` and ``patterns.jsonl`` (see :func:`read_facts`), ``NEG-136-SIMP.tsv`` (see
            :func:`read_kinds`) or ``probes.jsonl`` (see :func:`read_primed`); or one of the last two files.

    Raises:
        DataError: it is none of these, and those of the readers.
    """
    path = Path(source)
    names = {file.name for file in path.iterdir()} if path.is_dir() else {path.name}
    if _KINDS in names and "facts.jsonl" not in names:
        return read_kinds(path)
    if _PROBES in names and "facts.jsonl" not in names:
        return read_primed(path)
    if path.is_dir() and "facts.jsonl" not in names:
        raise DataError(
            f"{source} holds no facts: expected facts.jsonl with patterns.jsonl, {_KINDS} (kinds of things) or "
            f"{_PROBES} (negated and misprimed probes)."
        )
    return read_facts(path)


def read_kinds(source: Path | str) -> Facts:
    """Read kinds of things, affirmed and denied (NEG-136-SIMP of Ettinger 2020; hypernymy, Ravichander et al. 2020).

    Of "A robin is (a|an)" with its kind "bird" comes the fact (kind, A robin, bird) with the wordings "A robin is a
    [Y]." and, ``negated``, "A robin is not a [Y].". The article is that of the kind, which it narrows down a little.

    Args:
        source: the file, or its folder.

    Raises:
        DataError: no such file or column, or contexts without ``is (a|an)``.

    Example:
        >>> ClozeProbe(facts=18).run(load("smollm2"), read_kinds("lm_diagnostics"))
    """
    path = Path(source) / _KINDS if Path(source).is_dir() else Path(source)
    frame = table_from_file(path).frame
    columns = {PLAIN: "context_aff", "negated": "context_neg"}
    lacking = [column for column in (*columns.values(), "target_aff") if column not in frame]
    if lacking:
        raise DataError(f"{path} has no column {lacking[0]!r}; it is not NEG-136-SIMP.")
    wordings: dict[str, dict[Fact, str]] = {arm: {} for arm in columns}
    for number, row in enumerate(frame.to_dict("records"), start=1):
        kind = str(row["target_aff"])
        thing = str(row["context_aff"]).partition(" is ")[0]
        fact = Fact("kind", thing, kind)
        for arm, column in columns.items():
            context = str(row[column])
            if not context.endswith(_ARTICLE) or not context.startswith(f"{thing} is "):
                raise DataError(f"row {number} of {path} is {context!r}; expected 'A thing is {_ARTICLE}', or is not.")
            article = "an" if kind[0].lower() in "aeiou" else "a"
            wordings[arm][fact] = f"{context.removesuffix(_ARTICLE)}{article} [Y]."
    return _worded(wordings, str(source))


def read_primed(source: Path | str) -> Facts:
    """Read probes with a negated and a misprimed version (Kassner and Schütze 2020, arXiv 1911.03343).

    A line is ``{"family", "file", "pred", "masked", "negated", "misprimed", "answer", "subject"}``, with [MASK] where
    the answer goes. The relation is ``pred``, or ``file`` where there is none.

    Args:
        source: a JSONL file, or the folder of ``probes.jsonl``.

    Raises:
        DataError: no such file, or a line that is not of this form.

    Example:
        >>> known = read_primed("lama_negated_misprimed")
        >>> found = ClozeProbe(relations=("place_of_birth",)).run(load("smollm2"), known)
        >>> found.controls["misprimed"]
    """
    path = Path(source) / _PROBES if Path(source).is_dir() else Path(source)
    if not path.is_file():
        raise DataError(f"there is no file {path}; name a JSONL file of probes, or its folder.")
    arms = {PLAIN: "masked", "negated": "negated", "misprimed": "misprimed"}
    wordings: dict[str, dict[Fact, str]] = {arm: {} for arm in arms}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
            fact = Fact(str(row.get("pred") or row["file"]), str(row["subject"]), str(row["answer"]))
            texts = {arm: str(row[column]) for arm, column in arms.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"line {number} of {path} cannot be read ({type(error).__name__}: {error}); expected masked, negated, "
                "misprimed, answer, subject, and pred or file."
            ) from None
        for arm, text in texts.items():
            if text.count("[MASK]") != 1:
                raise DataError(f"line {number} of {path} has {text!r} as {arms[arm]}; expected [MASK] in it once.")
            wordings[arm][fact] = text.replace("[MASK]", "[Y]")
    return _worded(wordings, str(source))


def _worded(wordings: Mapping[str, Mapping[Fact, str]], name: str) -> Facts:
    """Facts with wordings; those whose object stands in the subject's name are left out, as of :func:`read_facts`."""
    kept = tuple(fact for fact in wordings[PLAIN] if fact.object.lower() not in fact.subject.lower())
    return Facts(
        facts=kept, patterns={fact.relation: (_OWN,) for fact in kept}, name=name,
        wordings={arm: {fact: of[fact] for fact in kept} for arm, of in wordings.items()},
    )  # fmt: skip
