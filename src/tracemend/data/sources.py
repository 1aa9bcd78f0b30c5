"""Where a table comes from: a file, a folder of a data set, the hub, or what Python holds already."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.data.labels import is_missing
from tracemend.data.tables import Table, frame_from_arrow, refuse_missing, table_from_file, table_from_frame
from tracemend.errors import DataError

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:\w+)?")
_FILE_ENDING = re.compile(r"\.(csv|tsv|jsonl?|parquet|gz|txt|xlsx?|pkl|pickle|pt)$", re.IGNORECASE)


def open_table(source: Any) -> Table:
    """The rows of a path, a hub name, a data frame or a data set; a table that was opened before is itself.

    Raises:
        DataError: it is none of these, or cannot be had.
    """
    if isinstance(source, Table):
        return source
    if isinstance(source, pd.DataFrame):
        return table_from_frame(source, "the data frame")
    if isinstance(source, str | Path):
        return _open_named(str(source))
    if isinstance(source, dict):
        raise DataError(f"a dictionary of data sets was given; choose one: {', '.join(map(str, source))}.")
    if hasattr(source, "features") and hasattr(source, "to_pandas"):
        return _from_dataset(source, "the data set")
    raise DataError(
        f"cannot read a {type(source).__name__}; give a path, a hub name, a pandas DataFrame or a datasets.Dataset."
    )


def refuse_absent(name: str) -> None:
    """Raise a DataError where ``name`` is no file, no folder and no name that a hub data set may have.

    So that a command can say so before it imports what it works with, which takes seconds.
    """
    if not _of_the_hub(name):
        refuse_missing(Path(name))


def _of_the_hub(name: str) -> bool:
    if name.startswith("hub:"):
        return True
    try:
        there = Path(name).exists()
    except OSError as error:  # a name too long, or a folder that may not be looked into
        raise DataError(f"{name[:80]!r} cannot be looked up ({error.strerror}); give the path of a file.") from error
    return not there and bool(_HUB_NAME.fullmatch(name)) and not _FILE_ENDING.search(name)


def _open_named(name: str) -> Table:
    if _of_the_hub(name):
        return _from_hub(name.removeprefix("hub:"))
    path = Path(name)
    return _from_folder(path) if path.is_dir() else table_from_file(path)


def _from_folder(path: Path) -> Table:
    from datasets import DatasetDict, load_from_disk

    try:
        dataset = load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is a folder but not one that datasets.save_to_disk wrote ({error}); name a file in it."
        ) from None
    if isinstance(dataset, DatasetDict):
        raise DataError(f"{path} holds several parts; name one: {', '.join(str(path / part) for part in dataset)}.")
    return _from_dataset(dataset, str(path))


def _from_hub(name: str) -> Table:
    from datasets import load_dataset

    owner_and_name, _, split = name.partition(":")
    try:
        dataset = load_dataset(owner_and_name, split=split or "train")
    except Exception as error:  # the hub client raises many kinds; each means that the data cannot be had
        raise DataError(
            f"there is no file {name}, and the hub data set {owner_and_name!r} (split {split or 'train'!r}) cannot be "
            f"had: {str(error).splitlines()[0] if str(error) else type(error).__name__}. Check the name and the "
            "network, or give a file."
        ) from error
    return _from_dataset(dataset, f"hub:{name}")


def _from_dataset(dataset: Any, name: str) -> Table:
    frame = frame_from_arrow(dataset.with_format("arrow")[:])
    for column, feature in dataset.features.items():
        names = getattr(feature, "names", None)  # ClassLabel: numbers that stand for names, -1 for a missing label
        if names is not None:
            frame[column] = pd.Series(
                [names[int(v)] if not is_missing(v) and v >= 0 else None for v in frame[column]], dtype=object
            )
    return table_from_frame(frame, name)
