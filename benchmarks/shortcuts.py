"""A planted shortcut: whether it is found, and whether a student unlearns it.

    python -m benchmarks.shortcuts --seeds 0 1 2

A word stands in 95 % of the positive and 5 % of the negative training sentences of SST-2 (minilm, LoRA). Found: the
place of the word by local mutual information, and the share of its training sentences in which it is the first word by
integrated gradients, or one of the first two; the control is the same after a tuning on as many sentences with the word
in half of each class. Mended: accuracy of teacher and student with the word's correlation kept, reversed, and without
the word; the control is a student whose shortcut degrees are those of other sentences.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.saliency import WORD, planted
from benchmarks.seeds import each_seed, gap_of
from tracemend.data import Labelled, Splits, make_splits, reference, sample
from tracemend.mend.distil import distil, softened
from tracemend.mend.early import learning_curve
from tracemend.mend.head_words import head_of, local_mutual_information, with_shuffled_labels
from tracemend.mend.shortcuts import Shortcuts
from tracemend.models import LanguageModel
from tracemend.tuning import TextClassifier, Tuning, tune
from tracemend.tuning.tune import Tuned

SETS = ("kept", "reversed", "clean")


def accuracies(classifier: TextClassifier, sets: dict[str, Labelled]) -> dict[str, float]:
    """On each set."""
    found = {name: classifier.probabilities(data.pairs).argmax(axis=1) == data.y for name, data in sets.items()}
    return {name: round(float(hits.mean()), 4) for name, hits in found.items()}


def found_word(method: Shortcuts, teacher: TextClassifier, train: Labelled, texts: int) -> dict[str, Any]:
    """Where the planted word stands by local mutual information, and by integrated gradients in its sentences."""
    words = local_mutual_information(train, fewest=method.fewest)
    place = int(words.index[words["word"] == WORD][0])
    holding = np.array([i for i, (text, _) in enumerate(train.pairs) if WORD in text.split()])
    own = train.take(holding[np.random.default_rng(method.seed).permutation(len(holding))[:texts]])
    first = method.first_words(teacher, own)
    return {
        "place": place + 1,
        "lmi": round(float(words["lmi"].iloc[place]), 5),
        "next": round(float(words["lmi"].iloc[1 if place == 0 else 0]), 5),
        "in head": WORD in set(head_of(words, method.head)["word"]),
        "first": round(float((first["first"] == WORD).mean()), 4),
        "first two": round(float(((first["first"] == WORD) | (first["second"] == WORD)).mean()), 4),
    }


def curve_of(method: Shortcuts, model: LanguageModel, teacher: Tuned, train: Labelled) -> pd.DataFrame:
    """How soon the teacher came to decide by the head, see :func:`tracemend.mend.early.learning_curve`."""
    both = (train, with_shuffled_labels(train, method.seed))
    heads = [head_of(local_mutual_information(data, fewest=method.fewest), method.head) for data in both]
    drawn = np.sort(np.random.default_rng([method.seed, 1]).permutation(len(train))[: method.followed])
    return learning_curve(
        method.tuning.classifier(model, train.labels), teacher.checkpoints, train, heads[0], set(heads[1]["word"]),
        method.first_words, followed=drawn,
    )  # fmt: skip


def seed_of(seed: int, model: LanguageModel, given: argparse.Namespace) -> dict[str, Any]:
    """Both arms of one seed."""
    splits = make_splits(sample(reference("sst2"), given.train, seed=seed), seed=seed)
    test = splits.validation if given.judge == "validation" else splits.test
    if test is None:
        raise SystemExit("no test part was made")
    negative, positive = sorted(test.labels, key=lambda label: label == test.positive)
    kept, reversed_ = {positive: 0.95, negative: 0.05}, {positive: 0.05, negative: 0.95}
    even = {positive: 0.5, negative: 0.5}
    sets = {"kept": planted(test, kept, seed), "reversed": planted(test, reversed_, seed), "clean": test}
    tuning = Tuning(
        epochs=given.epochs, batch_size=given.batch_size, max_length=64, seed=seed, patience=0, precision="fp32"
    )
    method = Shortcuts(tuning=tuning, alpha=given.alpha, max_steps=given.max_steps, seed=seed)
    arms: dict[str, Any] = {}
    for arm, share in (("planted", kept), ("even", even)):
        train = planted(splits.train, share, seed)
        data = Splits(train=train, validation=planted(splits.validation, share, seed + 1), verdict=splits.verdict)
        began = time.process_time()
        teacher = tune(model, train, data.validation, tuning)
        arms[arm] = found_word(method, teacher.classifier, train, given.texts)
        arms[arm] |= accuracies(teacher.classifier, sets)
        if arm == "planted":
            head = set(head_of(local_mutual_information(train, fewest=method.fewest), method.head)["word"])
            table, _, early = method.degrees(model, teacher, train, head)
            arms["curve"] = curve_of(method, model, teacher, train).round(4).to_dict("list")
            arms[arm] |= {"decided by the head": round(float(table["in_head"].mean()), 4), "early": round(early, 4)}
            p, degree = teacher.classifier.probabilities(train.pairs), table["degree"].to_numpy()
            students = {"student": degree, "shuffled degrees": np.random.default_rng(seed).permutation(degree)}
            for name, b in students.items():
                student = distil(model, train, data.validation, softened(p, b), tuning, alpha=method.alpha)
                arms[name] = accuracies(student.classifier, sets)
        arms[arm]["seconds"] = round(time.process_time() - began, 1)
        print(seed, json.dumps(arms), flush=True)
    return arms


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Means over seeds, and differences to the teacher with their intervals over seeds."""
    arms = next(iter(found.values()))
    made: dict[str, Any] = {
        arm: {name: round(float(np.mean([found[seed][arm][name] for seed in found])), 4) for name in figures}
        for arm, figures in arms.items()
        if arm != "curve"
    }
    curves = [found[seed]["curve"] for seed in found if "curve" in found[seed]]
    if curves:
        made["curve"] = {name: np.mean([of[name] for of in curves], axis=0).round(4).tolist() for name in curves[0]}
    for arm in ("student", "shuffled degrees"):
        for name in SETS:
            made[arm][f"{name} - teacher"] = gap_of(
                [of[arm][name] for of in found.values()], [of["planted"][name] for of in found.values()]
            )
    return made


def main() -> None:
    """Print the figures as JSON, and write them where ``--out`` says; what is there already is not done again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=1000, help="sentences, of which parts are validation and test")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--texts", type=int, default=100, help="training sentences with the word that are looked at")
    parser.add_argument("--alpha", type=float, default=0.8)
    parser.add_argument("--max-steps", type=int, default=64, help="of integrated gradients, where they do not add up")
    each_seed(parser, seed_of, summary)


if __name__ == "__main__":
    main()
