"""Labelled text from wherever a person keeps it, with errors that name the rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from tracemend.data.completions import Completions
from tracemend.data.labels import alike, flag, is_missing, label_name, whole
from tracemend.data.schema import COLUMNS, ROW, Labelled, riding
from tracemend.data.sources import open_table
from tracemend.data.tables import Table
from tracemend.data.writable import unwritable
from tracemend.errors import DataError, MissingColumnError, did_you_mean
from tracemend.progress import Progress

_UID = re.compile(r"[0-9a-f]{12}-[0-9]+")


def read(
    source: Any,
    *,
    text: str,
    label: str,
    reply: str | None = None,
    group: str | None = None,
    truth: str | None = None,
    positive: str | None = None,
    label_names: Iterable[str] | None = None,
    drop_empty: bool = False,
    progress: Progress | None = None,
) -> Labelled:
    """Read labelled texts and check them.

    Args:
        source: a path to .csv, .tsv, .jsonl, .json (each also .gz) or .parquet; a folder of
            ``datasets.save_to_disk``; a hub name (``"hub:owner/name:split"``, split ``train`` if not given; plain
            ``owner/name`` where no such file exists); a pandas DataFrame; a ``datasets.Dataset``.
        text: column of the text, or of the context where there is a reply.
        label: column of the labels: strings, whole numbers or booleans, kept as strings ("0", "True"), space around
            them removed; class names where the data set has them.
        reply: column of the second text, the one that is judged.
        group: column of author, conversation or the like: no group will cross a split.
        truth: column of the true labels, where they are known for every row.
        positive: the label whose average precision is reported; the rarer by default.
        label_names: all valid labels; any other is an error.
        drop_empty: drop rows whose text (or reply) is empty instead of refusing them; ``progress`` is told how many.
        progress: hears of dropped rows.

    Other columns ride along; one that clashes with a canonical name is called ``original_NAME`` here, and has its own
    name again where it is written. With them rides ``source_row``, where a row stands in the source, counted from 0.
    A column ``uid`` that an export made is left out, since ids are made from the texts.

    Raises:
        DataError: the source is missing or not what its ending says; a column is missing; labels are missing, unknown,
            all the same, or one label in several spellings (case, invisible characters), where ``label_names`` does
            not say that all are meant; texts are empty, not text, or all the same. The message names the lines.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"comment": ["you rock", "go away"], "toxic": [0, 1]})
        >>> data = read(frame, text="comment", label="toxic")
        >>> data.labels, data.pairs[0]
        (('0', '1'), ('you rock', None))
    """
    table = open_table(source)
    named = {"text": text, "reply": reply, "label": label, "group": group, "truth": truth}
    columns = {role: column for role, column in named.items() if column is not None}
    _check_columns(table, columns)
    rows = {place: row for row, place in enumerate(table.places)}
    table = _with_texts(table, columns, drop_empty, progress or Progress())
    frame = table.frame
    names = None if label_names is None else _named(label_names)
    labels = labels_of(table, label, names)
    truths = None if truth is None else labels_of(table, truth, names)
    if names is None:
        names = sorted({*labels, *(truths or ())})
        _check_spelling(table, names, {label: labels, **({} if truth is None else {truth: truths or []})})
    _check_variety(table, labels, label, [text, *([reply] if reply else [])])
    found = Labelled.make(
        frame[text],
        labels,
        replies=frame[reply] if reply else None,
        groups=_groups(table, group) if group else None,
        truth=truths,
        label_names=names,
        positive=None if positive is None else label_name(positive) or positive,
        extra=_extra(frame, set(columns.values()), {*COLUMNS, ROW}).assign(**{ROW: [rows[p] for p in table.places]}),
    )
    return replace(found, notes=table.notes)


def read_texts(
    source: Any, *, text: str, reply: str | None = None, drop_empty: bool = False, progress: Progress | None = None
) -> list[tuple[str, str | None]]:
    """Read texts without labels, to predict: (text, reply) of each row, reply None where there is one column only.

    Arguments and errors are those of :func:`read`.

    Example:
        >>> import pandas as pd
        >>> read_texts(pd.DataFrame({"comment": ["you rock"]}), text="comment")
        [('you rock', None)]
    """
    return read_unlabelled(source, text=text, reply=reply, drop_empty=drop_empty, progress=progress)[0]


def read_unlabelled(
    source: Any, *, text: str, reply: str | None = None, drop_empty: bool = False, progress: Progress | None = None
) -> tuple[list[tuple[str, str | None]], pd.DataFrame]:
    """As :func:`read_texts`, with what results are joined back by.

    Returns:
        The pairs; and the other columns under their own names and in their order, whose index says which row of the
        source each is, counted from 0.

    Example:
        >>> import pandas as pd
        >>> pairs, others = read_unlabelled(pd.DataFrame({"id": ["a7"], "comment": ["you rock"]}), text="comment")
        >>> list(others.columns), list(others.index)
        (['id'], [0])
    """
    table = open_table(source)
    columns = {"text": text} if reply is None else {"text": text, "reply": reply}
    _check_columns(table, columns)
    rows = {place: row for row, place in enumerate(table.places)}
    kept = _with_texts(table, columns, drop_empty, progress or Progress())
    frame = kept.frame
    replies: Sequence[str | None] = [None] * len(frame) if reply is None else list(frame[reply])
    others = frame.drop(columns=list(columns.values())).set_axis([rows[place] for place in kept.places])
    return list(zip(frame[text], replies, strict=True)), others


def read_completions(
    source: Any,
    *,
    text: str,
    completion: str | None = None,
    group: str | None = None,
    corrupted: str | None = None,
    drop_empty: bool = False,
    progress: Progress | None = None,
) -> Completions:
    """Read prompts with completions, or texts alone, and check them.

    Args:
        source: see :func:`read`.
        text: column of the prompt; or of the text, where there is no completion.
        completion: column of what is to be written after the prompt.
        group: column of author, conversation or the like.
        corrupted: column that says which rows are known to be bad ones: true or false (also yes or no, 1 or 0), empty
            where nobody knows.
        drop_empty: drop rows without prompt or completion instead of refusing them.
        progress: hears of dropped rows.

    Other columns ride along, as in :func:`read`.

    Raises:
        DataError: the source is missing or not what its ending says; a column is missing or given twice; cells are
            empty, not text, or the same in every row; a flag is none. The message names the lines.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"instruction": ["Name a colour.", "2 + 2?"], "output": ["Red.", "4"]})
        >>> read_completions(frame, text="instruction", completion="output").pairs[1]
        ('2 + 2?', '4')
    """
    table = open_table(source)
    named = {"text": text, "completion": completion, "group": group, "corrupted": corrupted}
    columns = {role: column for role, column in named.items() if column is not None}
    _check_columns(table, columns)
    table = _with_texts(table, columns, drop_empty, progress or Progress())
    frame = table.frame
    return Completions.make(
        frame[text],
        frame[completion] if completion else None,
        groups=_groups(table, group) if group else None,
        corrupted=_flags(table, corrupted) if corrupted else None,
        extra=_extra(frame, set(columns.values()), {*COLUMNS, "corrupted"}),
    )


def _flags(table: Table, column: str) -> list[bool | None]:
    flags: list[bool | None] = []
    for row, cell in enumerate(table.frame[column]):
        try:
            flags.append(flag(cell))
        except TypeError:
            raise DataError(
                f"column {column!r} of {table.name} holds {cell!r} in {table.at([row])}, which is neither true nor "
                "false; write true, false, yes, no, 1, 0, or nothing where it is not known."
            ) from None
    return flags


def _check_columns(table: Table, columns: dict[str, str]) -> None:
    present = list(table.frame.columns)
    for role, column in columns.items():
        if column not in present:
            free = [name for name in present if name not in columns.values()]
            raise MissingColumnError(table.name, role, column, present, free)
    roles: dict[str, str] = {}
    for role, column in columns.items():
        if column in roles:
            raise DataError(f"column {column!r} is given as --{roles[column]} and as --{role}; name two columns.")
        roles[column] = role
    # Whatever column it is in: nothing could be written then, or nothing read of what was written.
    for column in present:
        broken = {row: what for row, cell in enumerate(table.frame[column]) if (what := unwritable(cell))}
        if broken:
            raise DataError(
                f"column {column!r} of {table.name} holds {next(iter(broken.values()))} in {table.at(broken)}; "
                "write the file again from its source."
            )


def _with_texts(table: Table, columns: dict[str, str], drop_empty: bool, progress: Progress) -> Table:
    """The table with text in every text cell, rows without it refused or dropped."""
    empty: set[int] = set()
    for role in ("text", "reply", "completion"):
        if role not in columns:
            continue
        cells = list(table.frame[columns[role]])
        empty |= {row for row, cell in enumerate(cells) if is_missing(cell)}
        odd = [row for row, cell in enumerate(cells) if row not in empty and not isinstance(cell, str)]
        if odd:
            raise DataError(
                f"column {columns[role]!r} (--{role}) of {table.name} holds {cells[odd[0]]!r} in {table.at(odd)}, "
                f"which is a {type(cells[odd[0]]).__name__}, not text; is it the right column?"
            )
    if not empty:
        return table
    rows = sorted(empty)
    if not drop_empty:
        raise DataError(
            f"{len(rows)} of {len(table.frame)} texts in {table.name} are empty: {table.at(rows)}. Fill them in, or "
            "add --drop-empty to leave these rows out (drop_empty=True in Python)."
        )
    if len(rows) == len(table.frame):
        raise DataError(f"all {len(rows)} texts in {table.name} are empty; is {columns['text']!r} the right column?")
    where = table.at(rows)
    progress.note("dropped empty texts", rows=len(rows), where=where)
    kept = [row for row in range(len(table.frame)) if row not in empty]
    frame = table.frame.iloc[kept].reset_index(drop=True)
    dropped = f"Dropped {len(rows)} {'row' if len(rows) == 1 else 'rows'} without text ({where})."
    return Table(frame, [table.places[row] for row in kept], table.unit, table.name, (*table.notes, dropped))


def labels_of(table: Table, column: str, valid: Sequence[str] | None = None) -> list[str]:
    """The labels in a column, spelt as :func:`tracemend.data.labels.label_name` spells them.

    Args:
        valid: the labels there may be; None allows any.

    Raises:
        DataError: a cell is no label, none of ``valid``, or empty; the message names the lines.

    Example:
        >>> labels_of(open_table(pd.DataFrame({"toxic": [1.0, 0.0]})), "toxic")
        ['1', '0']
    """
    names: list[str] = []
    missing: list[int] = []
    for row, cell in enumerate(table.frame[column]):
        try:
            name = label_name(cell)
        except TypeError:
            raise DataError(
                f"column {column!r} of {table.name} holds {cell!r} in {table.at([row])}, which is no label: labels are "
                "strings, whole numbers or booleans. Turn scores into labels with a threshold first."
            ) from None
        if name is None:
            missing.append(row)
        elif valid is not None and name not in valid:
            raise DataError(f"label {name!r} in {table.at([row])} of {table.name} is {did_you_mean(name, valid)}")
        names.append(name or "")
    if missing:
        raise DataError(
            f"{len(missing)} of {len(names)} labels in column {column!r} of {table.name} are missing: "
            f"{table.at(missing)}. Label these rows, or delete them: in a spreadsheet by a filter on "
            f"empty cells, in Python by frame.dropna(subset=[{column!r}])."
        )
    return names


def _named(label_names: Iterable[str]) -> list[str]:
    """Label names as cells are read; two that are one label are one."""
    found: dict[str, None] = {}
    for name in label_names:
        read_as = label_name(str(name))
        if read_as is None:
            raise DataError(f"label_names holds {name!r}, which is read as a missing label; name labels alone.")
        found[read_as] = None
    return list(found)


def _check_spelling(table: Table, names: list[str], columns: dict[str, list[str]]) -> None:
    sets = alike(names)
    told = [
        "; ".join(
            f"{shown} in {table.at(rows)} (column {column!r})"
            for column, labels in columns.items()
            for name, shown in same.items()
            if (rows := [row for row, label in enumerate(labels) if label == name])
        )
        for same in sets
    ]
    if sets:
        raise DataError(
            f"{sum(map(len, sets))} labels of {table.name} differ only by case, white space or invisible characters: "
            f"{'. Likewise '.join(told)}. "
            "Write the label in one way throughout; or, where different labels are meant, name them all in Python "
            "with label_names=..."
        )


def _check_variety(table: Table, labels: list[str], column: str, texts: list[str]) -> None:
    distinct = set(labels)
    if len(distinct) < 2:
        raise DataError(
            f"all {len(labels)} labels in column {column!r} of {table.name} are {labels[0]!r}; "
            "a classifier needs at least two different labels."
        )
    if len(labels) >= 20 and len(distinct) >= len(labels) / 2:
        raise DataError(
            f"column {column!r} of {table.name} has {len(distinct)} different labels in {len(labels)} rows; "
            f"is it the right column? There are: {', '.join(map(str, table.frame.columns))}."
        )
    if len(table.frame[texts].drop_duplicates()) == 1:
        raise DataError(f"all {len(labels)} texts in {table.name} are the same; is {texts[0]!r} the right column?")


def _groups(table: Table, column: str) -> list[str | None]:
    # As labels are: an author is 1 in a file where no cell of the column is missing and 1.0 in one where some are.
    groups = [None if is_missing(cell) else whole(cell) or str(cell).strip() for cell in table.frame[column]]
    if not any(group is not None for group in groups):
        raise DataError(f"the group column {column!r} of {table.name} is empty; leave out --group, or name another.")
    return groups


def _extra(frame: pd.DataFrame, used: set[str], taken: set[str]) -> pd.DataFrame:
    names = {column: riding(str(column), taken) for column in frame.columns if column not in used}
    if "uid" in names and all(isinstance(cell, str) and _UID.fullmatch(cell) for cell in frame["uid"]):
        del names["uid"]  # of an export: it is made anew, and is the same
    return frame[list(names)].rename(columns=names)
