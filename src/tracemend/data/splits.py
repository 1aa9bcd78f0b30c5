"""Train, validation, verdict and test: made or checked so that nothing leaks from one into another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.data.duplicates import NEAR, cluster, contents
from tracemend.data.schema import ROW, Labelled, Splits
from tracemend.errors import DataError, did_you_mean

# Fewer examples of a label than this in a part, and its average precision means nothing at all.
LEAST = 2

Trusted = Literal["truth", "label"]


def make_splits(
    train: Labelled,
    *,
    validation: Labelled | None = None,
    test: Labelled | None = None,
    seed: int = 0,
    validation_share: float = 0.3,
    test_share: float = 0.15,
    verdict_share: float = 0.5,
    trusted: Trusted = "truth",
    fix: bool = False,
) -> Splits:
    """Divide one set, or check and complete the parts that are given.

    With one file, validation, verdict and test are taken out of ``train``; where ``validation`` is given, nothing is
    taken out of ``train`` and a test is not made. The validation is divided into validation and verdict. Every
    division is stratified by label, and no group, no equal texts and no near-duplicates (Jaccard index of character
    five-grams above 0.8) are torn apart.

    Args:
        train: what is tuned on; or everything.
        validation: given validation; it is divided into validation and verdict.
        test: given test.
        seed: of the division.
        validation_share: share of ``train`` that becomes validation and verdict together.
        test_share: share of ``train`` that becomes test; 0 for none.
        verdict_share: share of the validation that is kept for the verdict and never ranks, fits or stops anything.
        trusted: where ``train`` carries true labels (it was corrupted on purpose), the parts made from it stand for
            checked data: with ``"truth"`` they carry the true label, with ``"label"`` the label as given.
        fix: repair given parts that overlap by dropping the overlap, from train first and never from test; without
            it, overlap is an error.

    Raises:
        DataError: a share is out of range; a label turns up only outside ``train``; given parts share groups or texts
            (and not ``fix``); a part has fewer than two examples of a label.

    Example:
        >>> data = Labelled.make([f"text number {i:03d}, {hash(i)} words" for i in range(100)], ["a", "b"] * 50)
        >>> parts = make_splits(data, seed=1)
        >>> len(parts.train) + len(parts.validation) + len(parts.verdict) + len(parts.test)
        100
    """
    _check_shares(validation_share, test_share, verdict_share)
    if trusted not in ("truth", "label"):
        raise DataError(f"trusted {trusted!r} is {did_you_mean(trusted, ('truth', 'label'))}")
    notes = [note for part in (train, validation, test) if part is not None for note in part.notes]
    given = {"validation": validation, "test": test}
    outside = {name: _aligned(part, train, name) for name, part in given.items() if part is not None}
    if outside:
        parts = _without_overlap({"train": train, **outside}, fix, notes)
    else:
        parts = {"train": train}
    whole = parts["train"]
    smallest: float | None = None
    if validation is None:
        shares = {"train": 1.0 - validation_share, "validation": validation_share * (1 - verdict_share)}
        shares["verdict"] = validation_share * verdict_share
        if test is None and test_share > 0:
            shares |= {"train": 1.0 - validation_share - test_share, "test": test_share}
        smallest = min(shares.values())
        made = _divide(whole, shares, seed, notes, "the data")
        if whole.has_truth and trusted == "truth":
            made = {name: part if name == "train" else part.with_truth_as_label() for name, part in made.items()}
            notes.append(
                f"The {', '.join(name for name in made if name != 'train')} parts carry the true labels, as checked "
                "data would."
            )
    else:
        halves = {"validation": 1 - verdict_share, "verdict": verdict_share}
        made = {"train": whole, **_divide(parts["validation"], halves, seed, notes, "the given validation")}
        if _is_more_even(parts["validation"], whole):
            share, there = ((part.y == whole.positive_index).mean() for part in (parts["validation"], whole))
            notes.append(
                f"{share:.0%} of the given validation and {there:.0%} of the training rows are labelled "
                f"{whole.positive!r}: more evenly spread than wrong labels at random explain. If the checked rows were "
                "not drawn at random, the difference is taken for wrong labels; draw them so."
            )
    if test is not None:
        made["test"] = parts["test"]
    _check_enough(made, smallest)
    elsewhere = (() if validation is None else ("validation", "verdict")) + (() if test is None else ("test",))
    return Splits(made["train"], made["validation"], made["verdict"], made.get("test"), tuple(notes), elsewhere)


def _is_more_even(checked: Labelled, other: Labelled) -> bool:
    """Whether labels are spread more evenly, by more than chance: labels that are wrong at random do the opposite."""
    from scipy.stats import chi2_contingency, entropy

    counts = np.array([np.bincount(part.y, minlength=len(other.labels)) for part in (checked, other)])
    counts = counts[:, counts.any(axis=0)]
    if counts.shape[1] < 2 or entropy(counts[0]) <= entropy(counts[1]):
        return False
    return float(chi2_contingency(counts).pvalue) < _CHANCE


def sample(data: Labelled, size: int, *, seed: int = 0) -> Labelled:
    """A random sample stratified by label, in random order.

    Raises:
        DataError: there are fewer than ``size`` examples.

    Example:
        >>> sample(Labelled.make(list("abcdefgh"), ["x", "y"] * 4), 4).frame["label"].value_counts().to_dict()
        {'x': 2, 'y': 2}
    """
    if not 0 < size <= len(data):
        raise DataError(f"cannot sample {size} of {len(data)} examples; choose a size from 1 to {len(data)}.")
    order = np.random.default_rng(seed).permutation(len(data))
    y = data.y[order]
    # Within each label the k-th of m examples stands at (k + 1/2) / m: the first `size` of them are stratified.
    rank = pd.Series(y).groupby(y).cumcount().to_numpy()
    place = (rank + 0.5) / np.bincount(y, minlength=len(data.labels))[y]
    chosen = np.sort(np.argsort(place, kind="stable")[:size])
    return data.take(order[chosen])


def halves(data: Labelled, *, most: int, seed: int = 0) -> tuple[Labelled, Labelled]:
    """Two random parts of about a half each that share no group: to find something in one and measure it on the other.

    Args:
        data: an example without a group stands alone.
        most: examples of each part, at most.
        seed: of the draw.

    Raises:
        DataError: fewer than four examples, or groups that leave no two parts of at least two.

    Example:
        >>> data = Labelled.make(list("abcdef"), ["x", "y"] * 3, groups=["p", "p", "q", "q", "r", "r"])
        >>> one, other = halves(data, most=100)
        >>> len(one), len(other), set(one.frame["group"]) & set(other.frame["group"])
        (2, 3, set())
    """
    if len(data) < 4:
        raise DataError(f"there are {len(data)} texts, which are divided into two halves: give at least 4.")
    member = data.group_ids
    sizes = np.bincount(member)
    drawn = np.random.default_rng(seed).permutation(len(sizes))
    order = np.argsort(np.argsort(drawn)[member], kind="stable")
    half = min(most, len(data) // 2)
    # Where one group ends and the next begins.
    ends = np.cumsum(sizes[drawn])[:-1]
    ends = ends[(ends > 1) & (ends < len(data) - 1)]
    if not len(ends):
        groups = "one group" if len(sizes) == 1 else f"{len(sizes)} groups"
        raise DataError(
            f"the {len(data)} texts are of {groups}, which cannot be divided into two parts of at least two texts; "
            "give texts of more groups."
        )
    cut = int(ends[np.abs(ends - half).argmin()])
    return data.take(order[:cut][:half]), data.take(order[cut:][:half])


def _check_shares(validation: float, test: float, verdict: float) -> None:
    if not 0 < validation < 1 or not 0 <= test < 1 or validation + test >= 1:
        raise DataError(
            f"validation_share {validation} and test_share {test} must be at least 0 and leave something for train "
            "(together under 1, validation above 0)."
        )
    if not 0 < verdict < 1:
        raise DataError(f"verdict_share is {verdict}; it must lie between 0 and 1, such as 0.5.")


def _aligned(part: Labelled, train: Labelled, name: str) -> Labelled:
    """The part with the label names of train, so that indices mean the same everywhere."""
    for label in sorted(set(part.frame["label"])):
        if label not in train.labels:
            rows = int((part.frame["label"] == label).sum())
            raise DataError(
                f"label {label!r} ({rows} rows of the {name}) does not occur in the training data. Correct the {name} "
                f"labels or add training examples; it is {did_you_mean(label, train.labels)}"
            )
    return replace(part, labels=train.labels, positive=train.positive)


def _divide(data: Labelled, shares: Mapping[str, float], seed: int, notes: list[str], what: str) -> dict[str, Labelled]:
    """Cut into parts by shares, whole clusters at a time, stratified by label; rows keep their order."""
    clusters = cluster(data)
    chosen = _apportion(clusters.ids, data.y, np.array(list(shares.values())), seed)
    made = {name: data.take(np.flatnonzero(chosen == i)) for i, name in enumerate(shares)}
    sizes = ", ".join(f"{name} {len(part)}" for name, part in made.items())
    whole = ", no group across parts" if data.frame["group"].notna().any() else ""
    notes.append(f"Divided {what} with seed {seed}, stratified by label{whole}: {sizes} rows.")
    if clusters.exact or clusters.near:
        notes.append(
            f"In {what} {clusters.exact} rows repeat another and {clusters.near} pairs are near-duplicates (Jaccard "
            f"index of character five-grams above {NEAR}); these stay together in one part."
        )
    if clusters.conflicting:
        notes.append(f"In {what} {clusters.conflicting} texts occur with different labels: {_conflicts(data)}.")
    largest = int(clusters.sizes.max())
    if largest > 0.2 * len(data):
        notes.append(
            f"In {what} {largest} of {len(data)} rows hang together by group or near-duplication and had to go into "
            "one part, so the shares are not those asked for."
        )
    return made


def _conflicts(data: Labelled, most: int = 5) -> str:
    """The first texts with different labels, by the rows of the source where these are known."""
    known = ROW in data.frame
    names = [f"row {row}" for row in data.frame[ROW]] if known else data.uid
    rows = pd.DataFrame({"content": contents(data), "label": data.frame["label"], "name": names})
    sets = [found for _, found in rows.groupby("content", sort=False) if found["label"].nunique() > 1]
    shown = [", ".join(f"{name} {label!r}" for name, label in zip(of["name"], of["label"], strict=True)) for of in sets]
    more = f"; and {len(sets) - most} more" if len(sets) > most else ""
    return "; ".join(shown[:most]) + more + (" (rows counted from 0)" if known else "")


def _apportion(
    ids: npt.NDArray[np.int64], y: npt.NDArray[np.int64], shares: npt.NDArray[np.float64], seed: int
) -> npt.NDArray[np.int64]:
    """Part of each row [n]: each cluster goes where it least worsens the squared relative error of the quotas.

    For single rows this is the rule of Sainte-Lague: the part with the least (2 filled + 1) / quota. Large clusters
    come first, while every part still has room.
    """
    counts = np.zeros((ids.max() + 1, y.max() + 1))
    np.add.at(counts, (ids, y), 1)
    quotas = shares[:, None] * counts.sum(axis=0)
    filled = np.zeros_like(quotas)
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    part = np.empty(len(counts), dtype=np.int64)
    for one in order:
        cost = (counts[one] * (counts[one] + 2 * (filled - quotas)) / np.maximum(quotas, 1e-9)).sum(axis=1)
        part[one] = int(cost.argmin())
        filled[part[one]] += counts[one]
    return part[ids]


# What the parts are called on the command line.
_CHANCE = 0.01  # of a note that the checked rows were not drawn at random, where they were
_OPTIONS = {"train": "FILE", "validation": "--valid", "test": "--test"}


def _without_overlap(parts: Mapping[str, Labelled], fix: bool, notes: list[str]) -> dict[str, Labelled]:
    """The given parts, disjoint in groups and texts; the first of two parts is the one that gives way."""
    frames = [part.frame.assign(part=name, content=contents(part)) for name, part in parts.items()]
    rows = pd.concat(frames, ignore_index=True)[["part", "content", "group", "label"]]
    rank = np.repeat(np.arange(len(parts)), [len(part) for part in parts.values()]).astype(np.int64)
    both = Labelled.make(rows["content"], rows["label"])
    near = cluster(both).ids
    reasons = {
        "groups": _shared(rows["group"].to_numpy(dtype=object), rank),
        "texts": _shared(rows["content"].to_numpy(dtype=object), rank),
        "near-duplicates": _shared(near.astype(object), rank),
    }
    crossing = {reason: int(hit.sum()) for reason, hit in reasons.items()}
    if (crossing["groups"] or crossing["texts"]) and not fix:
        reason = "groups" if crossing["groups"] else "texts"
        column = "group" if reason == "groups" else "content"
        hit = rows[reasons[reason]]
        examples = ", ".join(repr(str(value)[:40]) for value in list(dict.fromkeys(hit[column]))[:3])
        raise DataError(
            f"the given parts share {reason}: {len(hit)} rows ({_by_part(hit)}) have {reason} that also occur in "
            f"a later part, such as {examples}. What is tuned on would be judged on itself. Drop these rows with "
            "--fix-splits (fix=True; the files are not changed), or correct the files."
        )
    drop = np.logical_or.reduce(list(reasons.values())) if fix else np.zeros(len(rows), dtype=bool)
    if fix and drop.any():
        notes.append(
            f"Dropped {int(drop.sum())} rows ({_by_part(rows[drop])}) whose group or text, or nearly the text, occurs "
            "in a later part."
        )
    elif crossing["near-duplicates"]:
        notes.append(
            f"{crossing['near-duplicates']} rows ({_by_part(rows[reasons['near-duplicates']])}) are near-duplicates "
            "of rows in a later part; --fix-splits drops them."
        )
    kept = {name: part.take(np.flatnonzero(~drop[rank == i])) for i, (name, part) in enumerate(parts.items())}
    for name, part in kept.items():
        if len(part) == 0:
            later = list(parts)[list(parts).index(name) + 1 :]
            holders = " and ".join(_OPTIONS[part] for part in later)
            raise DataError(
                f"all rows of the {name} part occur in a later part too; nothing is left of it. {holders} "
                f"{'holds' if len(later) == 1 else 'hold'} every row of {_OPTIONS[name]}; "
                + (
                    "leave some out of it. If all rows were checked, there is nothing to repair: tune on them."
                    if later == ["validation"]
                    else "give there only rows that are not to be trained on."
                )
            )
    return kept


def _shared(keys: npt.NDArray[np.object_], rank: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Rows whose key occurs in a later part too [n]; a key of None is nobody's."""
    last: dict[object, int] = {}
    for key, place in zip(keys, rank, strict=True):
        last[key] = max(last.get(key, -1), int(place))
    return np.array([key is not None and last[key] > place for key, place in zip(keys, rank, strict=True)], dtype=bool)


def _by_part(rows: pd.DataFrame) -> str:
    return ", ".join(f"{count} of {name}" for name, count in rows["part"].value_counts().items())


def _check_enough(parts: Mapping[str, Labelled], smallest: float | None) -> None:
    """Refuse parts that lack a label; ``smallest`` is the least share of a part that was made, None where given."""
    counted = {name: part.frame["label"].value_counts() for name, part in parts.items()}
    in_all = {label: sum(int(counts.get(label, 0)) for counts in counted.values()) for label in parts["train"].labels}
    rare = [label for label in in_all if any(int(counts.get(label, 0)) < LEAST for counts in counted.values())]
    for name, part in parts.items():
        counts = counted[name]
        for label in part.labels:
            found = int(counts.get(label, 0))
            if found < LEAST:
                remedy = (
                    "Add examples of it, or leave out this label."
                    if smallest is None
                    else f"Add examples of it (at least {math.ceil(LEAST / smallest)} that are not of one group or "
                    "near-duplicates), leave out this label, or give the parts yourself with --valid and --test."
                )
                others = [f"{other!r} ({in_all[other]})" for other in rare if other != label]
                also = f" So it is with {', '.join(others[:5])}{' and more' * (len(others) > 5)}." if others else ""
                raise DataError(
                    f"the {name} part has {found} example{'s' if found != 1 else ''} of label {label!r} "
                    f"({in_all[label]} in all), at least {LEAST} are needed.{also} {remedy}"
                )
