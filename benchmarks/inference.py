"""Units of a classifier of sentence pairs as formulas with sides: is it right where they fire, and can copies fool it?

A part of ``benchmarks/neurons_concepts.py`` (``inference``). The classifier is our own, minilm tuned on
3,900 of SNLI's development pairs (snli_dev of TRACEMEND_DATA); the paper's network, embeddings of both sentences
under an MLP, is another one. Formulas are sought in what it was tuned on and measured on pairs with other premises.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.side_by_side import Line
from tracemend.data import Labelled, Splits, make_splits
from tracemend.data.reference import reference_folder
from tracemend.models import load
from tracemend.neurons import ClassifierComposition, ClassifierCompositionResult
from tracemend.tuning import TextClassifier, Tuning, tune

# Pairs of all parts, of which 65 of a hundred are tuned on; texts in which formulas are sought, and measured; units,
# and texts that each one's words are copied into. Sizes for a laptop, chosen before anything was measured.
_PAIRS, _TEXTS, _UNITS, _EDITED = 6_000, 1_500, 100, 10
# Checkpoints: what was tuned is not tuned again.
_KEPT = Path("benchmarks/out")


def pairs_of_inference(seed: int) -> Splits:
    """Premises with their hypotheses; no premise is in two parts."""
    frame = pd.read_csv(reference_folder("snli_dev") / "snli_dev.tsv", sep="\t", quoting=3, keep_default_na=False)
    frame = frame[frame["gold"].isin(["entailment", "neutral", "contradiction"])]
    frame = frame.sample(_PAIRS, random_state=seed)
    premises = frame["premise"].tolist()
    data = Labelled.make(premises, frame["gold"], replies=frame["hypothesis"].tolist(), groups=premises)
    return make_splits(data, seed=seed, validation_share=0.1, test_share=0.25)


def explained(splits: Splits, seed: int) -> tuple[TextClassifier, ClassifierCompositionResult]:
    """A tuned classifier, and its last neurons explained and measured on the test part."""
    tuning = Tuning(adapter="lora", epochs=4, max_length=64, seed=seed)
    out = _KEPT / f"inference-{seed}"
    classifier = tune(load("minilm"), splits.train, splits.validation, tuning, out=out).classifier
    method = ClassifierComposition(
        site="blocks.5.mlp.hook_post", sides=True, neurons=_UNITS, texts=_TEXTS, edited=_EDITED, seed=seed
    )
    return classifier, method.run(classifier, replace(splits, validation=_test(splits)))


def _test(splits: Splits) -> Labelled:
    """What tuning never looked at."""
    return splits.verdict if splits.test is None else splits.test


def inference(seed: int) -> list[Line]:
    """The lines of the table."""
    splits = pairs_of_inference(seed)
    _, found = explained(splits, seed)
    rows, arms, own = found.table(), found.controls, found.metrics
    found.save(_KEPT / f"inference-{seed}" / "formulas")
    test = _test(splits).y
    majority = float(np.mean(test == np.bincount(splits.train.y).argmax()))
    within = rows[["iou", "right"]] - rows.groupby("label")[["iou", "right"]].transform("mean")
    lines = [
        Line(name="pairs, accuracy", expected="", found=found.facts["accuracy"], controls={"majority": majority}),
        Line(name="pairs, IoU in training", expected="", found=own["train_iou"],
             controls={"shuffled": float(arms["shuffled"]["train_iou"])}),
        Line(name="pairs, formulas that name a side's word", expected="",
             found=float(rows["formula"].str.contains(":word=").mean())),
        Line(name="pairs, formulas that name an overlap", expected="",
             found=float(rows["formula"].str.contains("overlap").mean())),
        Line(name="pairs, formulas shown to be better than chance", expected="",
             found=float((rows["p"] < 0.05).mean())),
        _link("link of IoU and right", rows["iou"], rows["right"],
              {"p": found.facts["link_p"], "shuffled": float(arms["shuffled"]["link"])}),
        # A unit of an easy label is right more often whatever its formula; here units of one label are compared. No p:
        # units share texts, and the table does not hold which.
        _link("the same within the units' labels", within["iou"], within["right"], {}),
    ]  # fmt: skip
    for figure, arm in (("iou", "shuffled"), ("explained", "shuffled"), ("fired", "random_word"),
                        ("edit", "random_word"), ("flipped", "random_word")):  # fmt: skip
        value, beside = own[figure], float(arms[arm][figure])
        lines.append(Line(name=f"pairs, {figure}", expected="above the control", found=value,
                          controls={arm: beside}, holds=value > beside))  # fmt: skip
    return lines


def _link(name: str, level: pd.Series[float], right: pd.Series[float], controls: dict[str, float]) -> Line:
    both = pd.DataFrame({"iou": level, "right": right}).dropna()
    found = float(stats.spearmanr(both["iou"], both["right"]).statistic)
    return Line(name=f"pairs, {name}", expected="negative in the paper", found=found, controls=controls)
