"""The parts of a data set out of one file, or several."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tracemend.data.readers import read
from tracemend.data.schema import Labelled, Splits
from tracemend.data.splits import make_splits
from tracemend.progress import Progress


def read_splits(
    source: Any,
    *,
    text: str,
    label: str,
    reply: str | None = None,
    group: str | None = None,
    truth: str | None = None,
    valid: Any = None,
    test: Any = None,
    positive: str | None = None,
    seed: int = 0,
    drop_empty: bool = False,
    fix_splits: bool = False,
    noisy: bool = False,
    progress: Progress = Progress(),
) -> Splits:
    """Read the data and the given parts, and make the parts that are missing.

    Args:
        source: of the training part, or of everything: whatever :func:`tracemend.read` takes.
        text: its column of texts, as of all parts; and the other columns as in :func:`tracemend.read`.
        valid: a given validation part (``truth`` is not read there); what is not given is taken out of ``source``.
        test: a given test part, likewise.
        seed: of the division.
        drop_empty: drop rows without text instead of refusing them.
        fix_splits: drop what given parts have in common instead of refusing it.
        noisy: the validation and verdict parts that are made keep the labels as given, also where the truth is known.
        progress: hears of dropped rows.

    Raises:
        DataError: as :func:`tracemend.read` and :func:`tracemend.data.make_splits`.

    Example:
        >>> read_splits("comments.csv", text="text", label="is_toxic").labels  # doctest: +SKIP
        ('0', '1')
    """

    def labelled(what: Any, true: str | None, positive: str | None) -> Labelled:
        return read(
            what, text=text, label=label, reply=reply, group=group, truth=true, positive=positive,
            drop_empty=drop_empty, progress=progress,
        )  # fmt: skip

    splits = make_splits(
        labelled(source, truth, positive),
        validation=None if valid is None else labelled(valid, None, None),
        test=None if test is None else labelled(test, None, None),
        seed=seed,
        trusted="label" if noisy else "truth",
        fix=fix_splits,
    )
    if noisy and test is None and splits.test is not None and splits.test.has_truth:
        # It takes no part in the repair: it only measures what came of it.
        said = "The test part carries the true labels; all other parts the labels as given."
        splits = replace(splits, test=splits.test.with_truth_as_label(), notes=(*splits.notes, said))
    return splits
