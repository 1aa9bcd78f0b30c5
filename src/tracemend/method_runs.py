"""A method as a command runs it: one run directory with its result, its table and its figure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import pandas as pd

from tracemend.errors import RunError, TracemendError
from tracemend.methods import Method, MethodResult, registry
from tracemend.progress import EventLog, Progress
from tracemend.runs import RunDirectory, atomic, read_json, write_csv


class TakenError(RunError):
    """The run directory belongs to another run, or holds files that are of none."""


M = TypeVar("M", bound=Method[Any])
R = TypeVar("R", bound=MethodResult)
T = TypeVar("T")

# Directories of one name that are looked at.
_MOST = 1000


def methods_of(base: type[M]) -> dict[str, type[M]]:
    """The methods of one kind by their names without the family.

    Example:
        >>> from tracemend.neurons.neuron_method import NeuronMethod
        >>> sorted(methods_of(NeuronMethod))
        ['ablate', 'correlation', 'gaussian', 'linear', 'probeless']
    """
    return {name.partition(".")[2]: found for name, found in registry().items() if issubclass(found, base)}


def run_kept(
    method: Method[R],
    call: Callable[[Progress], R],
    *,
    out: Path,
    command: str,
    fingerprints: Mapping[str, str],
    config: Mapping[str, Any] | None = None,
    facts: Callable[[R], Mapping[str, Any]] = lambda _: {},
    tables: Callable[[R], Mapping[str, pd.DataFrame]] = lambda _: {},
    progress: Progress = Progress(),
) -> R:
    """Run a method once and keep ``rows.csv``, ``figure.svg`` and ``result.json``; a finished run is read back.

    Args:
        method: whose configuration identifies the run, but for what it names in passing (that is in method.json).
        call: runs it.
        out: the run directory.
        command: what makes such runs.
        fingerprints: of model and data.
        config: what identifies the run beside the method's own configuration.
        facts: what else stands in result.json.
        tables: further tables by name, each kept as ``NAME.csv``.
        progress: shown to the user; ``events.jsonl`` keeps it.

    Raises:
        TakenError: the directory belongs to another run, or to none.
        RunError: it cannot be made, or is damaged.
        TracemendError: what the method raises.
    """
    run = directory_of(out, command=command, config={**method.identity, **(config or {})}, fingerprints=fingerprints)
    if run.result is not None:
        return result_type(method).load(out)
    began = time.monotonic()
    result = call(EventLog(out / "events.jsonl", progress))
    result.save(out)
    for name, table in {"rows": result.table(), **tables(result)}.items():
        write_csv(out / f"{name}.csv", table)
    with atomic(out / "figure.svg", "wb") as file:
        result.figure().savefig(file, format="svg", metadata={"Date": None})
    run.finish(
        metrics=result.metrics,
        controls=result.controls,
        seconds=time.monotonic() - began,
        **{"summary": method.summary(), **facts(result)},
    )
    return result


def directory_of(
    out: Path, *, command: str, config: Mapping[str, Any], fingerprints: Mapping[str, str]
) -> RunDirectory:
    """A run directory that :func:`in_folder` may pass over.

    Args:
        out: where.
        command: that makes such runs.
        config: what identifies the run.
        fingerprints: of model and data.

    Raises:
        TakenError: the directory belongs to another run, or to none.
        RunError: it cannot be made, or is damaged.
    """
    try:
        return RunDirectory(out, command=command, config=config, fingerprints=fingerprints)
    except RunError as error:
        if _is_taken(out):
            raise TakenError(str(error)) from error
        raise


def in_folder(out: Path | None, name: str, call: Callable[[Path], T]) -> tuple[T, Path, str]:
    """Run something in the directory that was named; else in the first of ``runs/NAME``, ``runs/NAME-2`` ... that fits.

    That is one that holds the same run, begun or finished, or nothing. So another model, layer or seed needs no name,
    and the same command goes on with what it made.

    Args:
        out: as the user named it.
        name: for a directory that was not named.
        call: runs a method in a directory that it gets from :func:`directory_of`, as :func:`run_kept` does.

    Returns:
        The result, the directory, and what a person should know of its choice (or nothing).

    Raises:
        TakenError: the directory that was named belongs to another run, or none of a thousand names is free.
        TracemendError: what the call raises.
    """
    if out is not None:
        return call(out), out, ""
    first = Path("runs") / name
    for number in range(1, _MOST + 1):
        folder = first if number == 1 else first.with_name(f"{name}-{number}")
        try:
            found = call(folder)
        except TakenError:
            continue
        said = "" if number == 1 else f"{first} belongs to another run, so this one is in {folder}; --out names it."
        return found, folder, said
    raise TakenError(f"{first} and the {_MOST - 1} names after it belong to other runs; give --out.")


def _is_taken(out: Path) -> bool:
    """Whether a directory in which a run cannot go on is somebody else's, and neither damaged nor out of reach."""
    if not out.exists() or not out.is_dir():
        return out.exists()
    there = out / "config.json"
    if there.exists():
        try:
            found = read_json(there)
        except RunError:
            return False
        return isinstance(found, dict) and "command" in found
    return any(not path.name.startswith(".") for path in out.iterdir())


def result_type(method: Method[R]) -> type[R]:
    """The kind of result that the method's class, or one of its bases, names in its brackets."""
    for kind in type(method).__mro__:
        for base in getattr(kind, "__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, MethodResult):
                    return cast(type[R], argument)
    raise TracemendError(f"{method.name} names no kind of result; this is a fault of the method.")
