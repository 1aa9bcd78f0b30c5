"""A method of this room as a command runs it: one run directory with its result, table and figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracemend.circuits.circuit import Circuit
from tracemend.circuits.markov import MarkovSource
from tracemend.circuits.repeats import Repeats
from tracemend.circuits.stages import Stages
from tracemend.data.choices import letter_choices
from tracemend.data.prompts import Contrasts, Facts, PromptPairs, Prompts, Texts, indirect_objects
from tracemend.data.rewrites import Rewrites
from tracemend.data.tables import table_from_file
from tracemend.errors import CircuitError
from tracemend.method_runs import methods_of, run_kept
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.runs import read_result

KINDS: dict[str, type[Prompts]] = {kind.__name__: kind for kind in (Contrasts, Facts, PromptPairs, Rewrites, Texts)}
# Data that come with the library, by name.
BUILT_IN = ("ioi", "letters", "markov")
_PAIRS, _MARKOV = 8, 2000


def circuits() -> dict[str, type[Circuit[Any]]]:
    """The methods of this room by their names without the family: ``logits``, ``patch`` ..."""
    return methods_of(Circuit)


def prompts_for(
    kind: str,
    source: str | None,
    columns: Mapping[str, str | None],
    *,
    count: int | None = None,
    corpus: str | None = None,
) -> Prompts:
    """Prompts from a file, a built-in set or the words of one row.

    Args:
        kind: what the method takes: ``Contrasts``, ``Facts``, ``PromptPairs``, ``Rewrites`` or ``Texts``.
        source: a file with the kind's columns, ``ioi`` or ``letters`` (pairs), or ``markov`` (texts of
            :class:`MarkovSource`). Of pairs, built in or in a file, methods of texts read the clean prompts.
        columns: one row, given in words; empty where ``source`` is given.
        count: rows that are used, the first ones.
        corpus: for ``Rewrites``, a file with the column ``text``.

    Raises:
        CircuitError: neither or both are given, what is built in is not of this kind, or ``count`` is below 1.
        DataError: as :meth:`tracemend.data.prompts.Prompts.read`.
    """
    wanted = KINDS[kind]
    named = {name: text for name, text in columns.items() if text is not None}
    flags = ", ".join(f"--{name}" for name in wanted.columns)
    if count is not None and count < 1:
        raise CircuitError(f"count is {count}; expected at least 1 row.")
    if (source is None) == (not named):
        raise CircuitError(f"give the prompts once: --data with a file of these columns, or {flags} for one row.")
    if source is None:
        missing = [name for name in wanted.columns if name not in named]
        if missing:
            raise CircuitError(f"--{missing[0]} is missing; one row needs {flags}.")
        return _within(wanted.make([named]), corpus)
    if source == "markov" and wanted is Texts:
        return MarkovSource.draw().texts(count or _MARKOV)
    if source == "markov":
        raise CircuitError(f"{source} is made of texts; this method takes {kind} ({', '.join(wanted.columns)}).")
    if source in BUILT_IN:
        pairs = (letter_choices if source == "letters" else indirect_objects)(count or _PAIRS)
        if wanted is PromptPairs:
            return pairs
        if wanted is Contrasts:
            return pairs.contrasts
        if wanted is Texts:
            return pairs.texts
        raise CircuitError(
            f"{source} is made of pairs of prompts; this method takes {kind} ({', '.join(wanted.columns)})."
        )
    found = _read(wanted, source)
    return _within(found if count is None else found.head(count), corpus)


def _read(wanted: type[Prompts], source: str) -> Prompts:
    frame = table_from_file(Path(source)).frame
    if wanted is Texts and "text" not in frame and set(PromptPairs.columns) <= set(frame):
        return PromptPairs.make(frame).texts
    return wanted.make(frame)


def _within(found: Prompts, corpus: str | None) -> Prompts:
    if corpus is None or not isinstance(found, Rewrites):
        return found
    return found.within(Texts.read(corpus).frame["text"])


def circuit_run(
    method: Circuit[Any],
    model: LanguageModel | Stages,
    data: Prompts | Repeats,
    *,
    out: Path,
    command_line: str = "",
    progress: Progress = Progress(),
) -> dict[str, Any]:
    """Run a method and keep result, rows.parquet, rows.csv and figure.svg in a run directory.

    Args:
        out: run directory; where the same run is finished it is read back.

    Returns:
        What result.json holds.

    Raises:
        RunError: ``out`` is of another run.
        TracemendError: what the method raises.
    """

    def noted(shown: Progress) -> Any:
        result = method.run(model, data, progress=shown)
        note = data.note if isinstance(data, Texts) else ""
        return replace(result, findings=(*result.findings, note)) if note else result

    run_kept(
        method,
        noted,
        out=out,
        command=method.name,
        fingerprints={"model": model.fingerprint, "data": data.fingerprint},
        facts=lambda _: {
            "command_line": command_line,
            "model": {"name": model.name, "family": model.family},
            "data": {"kind": type(data).__name__, "rows": len(data.ids) if isinstance(data, Repeats) else len(data)},
        },
        progress=progress,
    )
    return read_result(out)
