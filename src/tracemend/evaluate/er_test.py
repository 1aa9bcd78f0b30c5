"""ER-TEST: is a classifier better off the data it was tuned on? Unseen sets, contrast sets and functional tests.

The three axes of Joshi et al. 2022 (arXiv 2205.12542), which were made to tell whether explanation regularisation
does any good out of distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.arrays import Doubles, Indices
from tracemend.data.functional import ContrastSet, FunctionalTest
from tracemend.data.schema import Labelled
from tracemend.errors import TracemendError
from tracemend.evaluate.compare import holm, paired_difference
from tracemend.evaluate.intervals import mean_interval
from tracemend.progress import Progress
from tracemend.runs import fingerprint, write_parquet

Pair = tuple[str, str | None]
# Probabilities [n, C] of texts.
Classify = Callable[[Sequence[Pair]], npt.NDArray[np.floating]]

AXES = ("unseen", "contrast", "functional")
_SHUFFLES = 20
_SEEDS_FOR_P = 3


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What a classifier is tested on.

    Attributes:
        unseen: labelled sets that it was not tuned on, by name.
        contrast: contrast sets, by name.
        functional: a suite of functional tests.
    """

    unseen: Mapping[str, Labelled] = field(default_factory=dict)
    contrast: Mapping[str, ContrastSet] = field(default_factory=dict)
    functional: Sequence[FunctionalTest] = ()

    @property
    def fingerprint(self) -> str:
        """Sha256 (16 hex digits) over all texts and labels, and the names they go by."""
        named = [{name: of.fingerprint for name, of in sets.items()} for sets in (self.unseen, self.contrast)]
        return fingerprint(named, [test.fingerprint for test in self.functional])


@dataclass(frozen=True, eq=False)
class ErTest:
    """What one classifier does on the three axes.

    Attributes:
        rows: one row a figure: ``axis``, ``set`` (of a functional test its name), ``figure`` (``accuracy``,
            ``consistency``: both of a pair right, or ``passed``: share of cases), ``value`` with its 95 % interval
            ``low`` and ``high``, ``n``, ``capability``; and the controls on the same texts: ``shuffled`` (the answers
            dealt anew within the set, mean of 20 times) and ``constant`` (always the most frequent answer). A constant
            passes every invariance test: read those beside the accuracy.
        notes: what was left out, in sentences.
    """

    rows: pd.DataFrame
    notes: Sequence[str] = ()

    def axis(self, name: str) -> pd.DataFrame:
        """The rows of one axis."""
        return self.rows[self.rows["axis"] == name].drop(columns="axis").reset_index(drop=True)

    def save(self, path: Path) -> None:
        """Write the rows as Parquet."""
        write_parquet(path, self.rows)


def er_test(
    classify: Classify, labels: Sequence[str], axes: Axes, *, seed: int = 0, progress: Progress = Progress()
) -> ErTest:
    """Test a classifier on the three axes.

    Labels of the sets are matched to the classifier's whatever their case; examples with a label that it does not have
    are left out and counted (a binary classifier is asked nothing about neutral texts).

    Args:
        classify: texts to probabilities [n, C].
        labels: of the C columns.
        axes: what it is tested on.
        seed: of intervals and shuffles.
        progress: shown.

    Raises:
        TracemendError: nothing to test on, a set without any label of the classifier, or probabilities that are not [n,
            C] or not finite.

    Example:
        >>> axes = Axes(unseen={"reviews": reference("uci_sentiment_sentences")}, functional=checklist(folder))
        >>> er_test(predictor.probabilities, predictor.classifier.labels, axes).axis("functional")
    """
    index = {label.casefold(): i for i, label in enumerate(labels)}
    notes: list[str] = []
    rows: list[dict[str, object]] = []
    jobs: list[tuple[str, str, object]] = [
        *(("unseen", name, of) for name, of in axes.unseen.items()),
        *(("contrast", name, of) for name, of in axes.contrast.items()),
        *(("functional", test.name, test) for test in axes.functional),
    ]
    if not jobs:
        raise TracemendError("there is nothing to test on; give unseen sets, contrast sets or functional tests.")
    for axis, name, of in progress.track(jobs, task="ER-TEST"):
        if isinstance(of, Labelled):
            found = _unseen(classify, len(labels), index, of, seed)
        elif isinstance(of, ContrastSet):
            found = _contrast(classify, len(labels), index, of, seed)
        elif isinstance(of, FunctionalTest):
            found = _functional(classify, len(labels), index, of, seed)
        else:
            raise TracemendError(f"{name}: {type(of).__name__} is none of Labelled, ContrastSet and FunctionalTest.")
        left, made = found
        if left:
            notes.append(f"{name}: {left} examples have a label that the classifier does not have; left out.")
        rows += [{"axis": axis, "set": name, **row} for row in made]
    if not rows:
        raise TracemendError(
            f"no example has a label of the classifier ({', '.join(labels)}); name the labels of the sets as it does."
        )
    return ErTest(pd.DataFrame(rows), notes)


def compared(first: Sequence[ErTest], second: Sequence[ErTest]) -> pd.DataFrame:
    """The first arm less the second, seed by seed, by paired t (:func:`tracemend.evaluate.paired_difference`).

    Args:
        first: one test a seed.
        second: as many, of the same seeds in the same order, on the same axes.

    Returns:
        One row a figure: ``axis``, ``set``, ``figure``, ``first`` and ``second`` (means over seeds), ``sd_first`` and
        ``sd_second``, ``difference``, ``low``, ``high``, ``p`` and ``p_holm`` (over all rows; NaN under three seeds),
        and ``verdict``: ``better`` or ``worse`` where ``p_holm`` is below 0.05, else ``no effect shown``. Of 30 figures
        with three seeds nearly nothing can be shown (t must pass 24); five seeds need 7.5, ten 4.4.

    Raises:
        TracemendError: arms of different length, or that were tested on different sets.

    Example:
        >>> compared([er_test(one, labels, axes) for one in with_er], [er_test(one, labels, axes) for one in without])
    """
    if not first or len(first) != len(second):
        raise TracemendError(f"the arms have {len(first)} and {len(second)} tests; give one a seed in each.")
    keys = ["axis", "set", "figure"]
    places = [list(test.rows[keys].itertuples(index=False, name=None)) for test in (*first, *second)]
    if any(place != places[0] for place in places):
        raise TracemendError("the tests are of different sets; test every classifier on the same axes.")
    values = [np.stack([test.rows["value"].to_numpy(dtype=float) for test in arm]) for arm in (first, second)]
    rows = []
    for i, place in enumerate(places[0]):
        one, other = values[0][:, i], values[1][:, i]
        gap = paired_difference(one, other)
        several = len(one) >= _SEEDS_FOR_P
        spread = [float(of.std(ddof=1)) if len(of) > 1 else np.nan for of in (one, other)]
        rows.append(
            {
                **dict(zip(keys, place, strict=True)),
                "first": one.mean(),
                "second": other.mean(),
                "sd_first": spread[0],
                "sd_second": spread[1],
                "difference": gap.difference,
                "low": gap.low,
                "high": gap.high,
                "p": gap.p if several else np.nan,
            }
        )
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"].to_numpy())
    shown = (table["p_holm"] < 0.05).to_numpy()
    way = np.where(table["difference"] > 0, "better", "worse")
    return table.assign(verdict=np.where(shown, way, "no effect shown"))


Found = tuple[int, list[dict[str, object]]]


def _unseen(classify: Classify, classes: int, index: Mapping[str, int], data: Labelled, seed: int) -> Found:
    y = np.array([index.get(label.casefold(), -1) for label in data.frame["label"]], dtype=np.int64)
    kept = np.flatnonzero(y >= 0)
    if not len(kept):
        return len(y), []
    answer = _answers(classify, classes, [data.pairs[i] for i in kept]).argmax(1)
    groups = [g if isinstance(g, str) else f"alone {i}" for i, g in enumerate(data.frame["group"].to_numpy()[kept])]
    truth = y[kept]
    return len(y) - len(kept), [_row("accuracy", lambda a: a == truth, answer, seed, groups)]


def _contrast(classify: Classify, classes: int, index: Mapping[str, int], data: ContrastSet, seed: int) -> Found:
    y = np.array([[index.get(label.casefold(), -1) for label in of] for of in (data.labels, data.changed)])
    kept = np.flatnonzero((y >= 0).all(0))
    if not len(kept):
        return y.shape[1], []
    n, truth = len(kept), y[:, kept]
    texts = [(of[i], None) for of in (data.originals, data.copies) for i in kept]
    answer = _answers(classify, classes, texts).argmax(1)

    def right(answers: Indices) -> npt.NDArray[np.bool_]:
        made: npt.NDArray[np.bool_] = answers.reshape(2, n) == truth
        return made

    figures = {"accuracy, originals": lambda a: right(a)[0], "accuracy, copies": lambda a: right(a)[1],
               "consistency": lambda a: right(a).all(0)}  # fmt: skip
    return y.shape[1] - n, [_row(name, passes, answer, seed) for name, passes in figures.items()]


def _functional(classify: Classify, classes: int, index: Mapping[str, int], test: FunctionalTest, seed: int) -> Found:
    cases, truth = list(test.cases), np.zeros(len(test.cases), dtype=np.int64)
    if test.kind == "MFT":
        truth = np.array([index.get(label.casefold(), -1) for label in test.labels], dtype=np.int64)
        kept = np.flatnonzero(truth >= 0)
        cases, truth = [test.cases[i] for i in kept], truth[kept]
    about = test.direction.label if test.direction is not None else None
    if not cases or (about is not None and about.casefold() not in index):
        return len(test.cases), []
    case = np.repeat(np.arange(len(cases)), [len(texts) for texts in cases])
    first = np.searchsorted(case, np.arange(len(cases)))
    p = _answers(classify, classes, [(text, None) for texts in cases for text in texts])

    def passes(order: Indices) -> npt.NDArray[np.bool_]:
        """Whether each case passes when text i gets the answer of text order[i]."""
        given = p[order]
        answer = given.argmax(1)
        if test.kind == "MFT":
            fails = answer != truth[case]
        elif test.direction is None:
            fails = answer != answer[first][case]
        else:
            label = answer[first][case] if about is None else np.full(len(case), index[about.casefold()])
            moved = given[np.arange(len(case)), label] - given[first[case], label]
            fails = (-moved if test.direction.way == "not-down" else moved) > test.direction.tolerance
        passed: npt.NDArray[np.bool_] = np.bincount(case, fails, minlength=len(cases)) == 0
        return passed

    own = np.arange(len(case))
    most = int(np.flatnonzero(p.argmax(1) == np.bincount(p.argmax(1)).argmax())[0])
    row = _row(f"passed ({test.kind})", passes, own, seed, constant=np.full(len(case), most))
    return len(test.cases) - len(cases), [{**row, "capability": test.capability}]


def _row(
    figure: str,
    passes: Callable[[Indices], npt.NDArray[np.bool_]],
    answers: Indices,
    seed: int,
    groups: Sequence[Hashable] | None = None,
    constant: Indices | None = None,
) -> dict[str, object]:
    """A share with its interval, and the same for answers dealt anew and for one answer to all."""
    hits = passes(answers).astype(np.float64)
    low, high = mean_interval(hits, groups, seed=seed)
    rng = np.random.default_rng((seed, 1))
    shuffled = float(np.mean([passes(rng.permutation(answers)).mean() for _ in range(_SHUFFLES)]))
    same = np.full(len(answers), np.bincount(answers).argmax()) if constant is None else constant
    return {
        "figure": figure,
        "value": float(hits.mean()),
        "low": float(low),
        "high": float(high),
        "n": len(hits),
        "shuffled": shuffled,
        "constant": float(passes(same).mean()),
        "capability": "",
    }


def _answers(classify: Classify, classes: int, texts: Sequence[Pair]) -> Doubles:
    found = np.asarray(classify(texts), dtype=np.float64)
    if found.shape != (len(texts), classes):
        raise TracemendError(
            f"the classifier gave probabilities of shape {found.shape} for {len(texts)} texts; expected "
            f"({len(texts)}, {classes}), a row a text and a column a label."
        )
    if not np.isfinite(found).all():
        raise TracemendError("some probabilities are not finite; the model has diverged: tune with a smaller rate.")
    return found
