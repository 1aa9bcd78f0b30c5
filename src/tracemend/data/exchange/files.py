"""Suspects to a file and answers from one, whichever tool is in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from tracemend.data.exchange.answers import Answer
from tracemend.data.exchange.argilla import from_argilla, to_argilla
from tracemend.data.exchange.label_studio import configuration, from_label_studio, to_label_studio
from tracemend.data.exchange.suspects import Suspects
from tracemend.data.labels import label_name
from tracemend.data.schema import RIDING
from tracemend.data.tables import table_from_file
from tracemend.errors import DataError, did_you_mean
from tracemend.runs import atomic, write_csv, write_json

Target = Literal["argilla", "label-studio", "csv"]
TARGETS: tuple[Target, ...] = get_args(Target)
# What a reviewer fills in of a table.
ANSWER, REVIEWER, COMMENT = "answer", "reviewer", "comment"


def files_of(path: Path | str, target: Target) -> dict[str, Path]:
    """What :func:`write_suspects` writes: what each file is -> its path.

    Raises:
        DataError: an unknown target, or an ending that is not the format's.

    Example:
        >>> {of: str(path) for of, path in files_of("review.json", "label-studio").items()}
        {'tasks': 'review.json', 'configuration': 'review.xml'}
    """
    path = Path(path)
    if target not in TARGETS:
        raise DataError(f"target {target!r} is {did_you_mean(target, TARGETS)}")
    ending = ".csv" if target == "csv" else ".json"
    if path.suffix.lower() != ending:
        raise DataError(f"--out {path}: for {target} name a file that ends in {ending}.")
    if target == "label-studio":
        return {"tasks": path, "configuration": path.with_suffix(".xml")}
    return {"suspects" if target == "csv" else "records": path}


def write_suspects(suspects: Suspects, path: Path | str, target: Target) -> dict[str, Path]:
    """Write the suspects for a tool.

    ``argilla`` and ``label-studio`` write JSON, the latter its labelling configuration beside it (``.xml``); ``csv``
    writes a table with the empty columns ``answer``, ``reviewer`` and ``comment``.

    Returns:
        What each file is -> its path.

    Raises:
        DataError: an unknown target, or an ending that is not the format's.
        RunError: the disk is full or not writable.
    """
    paths = files_of(path, target)
    if target == "csv":
        table = suspects.frame.assign(**{ANSWER: "", REVIEWER: "", COMMENT: ""}).dropna(axis=1, how="all")
        own = suspects.own.rename(columns=lambda name: RIDING + name if name in table else name)
        write_csv(paths["suspects"], pd.concat([table, own], axis=1))
    elif target == "argilla":
        write_json(paths["records"], to_argilla(suspects))
    else:
        write_json(paths["tasks"], to_label_studio(suspects))
        with atomic(paths["configuration"]) as file:
            file.write(configuration(suspects))
    return paths


def read_answers(path: Path | str) -> list[Answer]:
    """The answers in a reviewed file: Argilla records, Label Studio's JSON export, or the table filled in.

    Raises:
        DataError: the file is missing, damaged or none of these.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist; name the file that was reviewed.")
    if path.suffix.lower() == ".csv":
        return _from_table(path)
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8-sig"))  # some editors write a byte order mark
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path} is not JSON ({error}); give what Argilla or Label Studio exported, or a .csv."
        ) from error
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, dict) and "fields" in first:
        return from_argilla(content, where=path.name)
    if isinstance(first, dict) and "data" in first:
        return from_label_studio(content, where=path.name)
    raise DataError(
        f"{path} holds neither Argilla records nor Label Studio tasks. Of Argilla give what dataset.records.to_json "
        "wrote, of Label Studio an export as JSON (not JSON-MIN)."
    )


def _from_table(path: Path) -> list[Answer]:
    table = table_from_file(path)
    names = [str(name) for name in table.frame]
    missing = [name for name in ("uid", ANSWER) if name not in names]
    if missing:
        raise DataError(
            f"{path} lacks the columns {', '.join(missing)}, it has: {', '.join(names)}. Fill in the file that "
            "tracemend exported, and save it with commas or semicolons between the cells."
        )
    found = []
    for at, row in enumerate(table.frame.to_dict("records")):
        said = {name: str(row.get(name) or "").strip() for name in ("uid", ANSWER, REVIEWER, COMMENT)}
        said[ANSWER] = label_name(said[ANSWER]) or ""  # as the labels themselves are read
        if said[ANSWER] and not said["uid"]:
            raise DataError(
                f"{path}: {table.at([at])} answers {said[ANSWER]!r} and has no uid; fill in the file that tracemend "
                "exported, and leave its column uid as it is."
            )
        if said[ANSWER]:
            answer = Answer(uid=said["uid"], value=said[ANSWER], reviewer=said[REVIEWER], comment=said[COMMENT])
            found.append(answer)
    return found
