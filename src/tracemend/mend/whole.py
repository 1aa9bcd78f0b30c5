"""The user's whole file again, with the decisions of a run carried out in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from tracemend.data.decision import Decision
from tracemend.data.examples import read_examples
from tracemend.data.export import write
from tracemend.data.ledger import Ledger
from tracemend.data.schema import ROW, riding
from tracemend.mend.repaired import apply, settings_of
from tracemend.runs import read_result


def export_file(run_dir: Path | str, path: Path | str) -> Path:
    """Write every example of a run, with the decisions in force carried out.

    First those out of the user's file, in its order, then those of given validation and test files. Decisions are about
    the training part; the others go along with the labels that they were used with, which are the true ones where the
    run was given these. The column ``split`` names the part, so that what is tested on can be left out.

    Args:
        run_dir: a finished ``detect``, ``repair`` or ``demo``.
        path: a .csv, .tsv, .jsonl or .parquet; what was there is replaced.

    Raises:
        RunError: it is no finished run with examples, or the disk is full or not writable.
        DataError: see :func:`apply` and :func:`tracemend.data.export.write`.

    Example:
        >>> export_file("runs/mine", "cleaned.csv")  # doctest: +SKIP
        PosixPath('cleaned.csv')
    """
    folder = Path(run_dir)
    read_result(folder)  # a run that is not finished has not decided everything
    splits = read_examples(folder)
    state: dict[str, Decision] = {}
    if (folder / "ledger.sqlite").exists():
        with Ledger(folder / "ledger.sqlite") as ledger:
            state = ledger.state()
    parts = {**splits.parts, "train": apply(splits.train, state)}
    frames = [
        part.frame.astype(object).rename(columns=lambda own: riding(own, ("split",))).assign(split=name)
        for name, part in parts.items()
    ]
    frame = pd.concat(frames, ignore_index=True)
    if ROW in frame:
        # A given validation file was divided into two parts.
        file = {name: 0 if name not in splits.given else 2 if name == "test" else 1 for name in parts}
        order = np.lexsort([frame[ROW].to_numpy(dtype=np.int64), frame["split"].map(file).to_numpy()])
        frame = frame.iloc[order].reset_index(drop=True)
    return write(replace(splits.train, frame=frame), path, names=settings_of(folder).get("names"))
