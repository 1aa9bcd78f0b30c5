"""How faithful each saliency method is, and whether it finds a planted shortcut.

    python -m benchmarks.saliency --texts 50 --seeds 0

Tunes minilm (LoRA) on SST-2. Faithfulness: of each method's order on test sentences, beside random orders of the same
words, with a bootstrap interval (over sentences) of the difference. Shortcut: a word stands in 95 % of the positive and
5 % of the negative training sentences; found is the share of test sentences with it in which it ranks first, or among
the first two. The control is a model tuned on as many sentences with the word in half of each class.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from tracemend.data import Labelled, make_splits, reference, sample
from tracemend.models import load
from tracemend.saliency import Saliency
from tracemend.saliency.run import methods
from tracemend.tuning import TextClassifier, Tuning, tune

WORD = "honestly"


def interval(differences: np.ndarray[Any, Any], seed: int) -> list[float]:
    """95 % percentile interval of the mean, resampled over texts."""
    rng = np.random.default_rng(seed)
    means = rng.choice(differences, (2000, len(differences))).mean(axis=1)
    return [round(float(q), 4) for q in np.quantile(means, [0.025, 0.975])]


def planted(data: Labelled, share: dict[str, float], seed: int) -> Labelled:
    """The same sentences with the word put into this share of each label's."""
    rng = np.random.default_rng(seed)
    texts = []
    for text, label in zip(data.frame["text"], data.frame["label"], strict=True):
        words = text.split()
        if rng.random() < share[label]:
            words.insert(int(rng.integers(0, len(words) + 1)), WORD)
        texts.append(" ".join(words))
    return Labelled.make(texts, data.frame["label"], label_names=data.labels, positive=data.positive)


def faithful(classifier: TextClassifier, method: Saliency, data: Labelled) -> dict[str, Any]:
    """Metrics, controls and the interval of their difference."""
    began = time.process_time()
    result = method.run(classifier, data)
    found: dict[str, Any] = {"seconds": round(time.process_time() - began, 1)}
    for name, control in result.controls.items():
        difference = (result.examples[name] - result.examples[f"random_{name}"]).to_numpy()
        found[name] = {
            "found": round(result.metrics[name], 4),
            "random": round(float(control), 4),
            "difference": interval(difference, method.seed),
        }
    found |= {k: v for k, v in result.metrics.items() if k in ("completeness_gap", "most_steps", "over_tolerance")}
    return found


def ranks(classifier: TextClassifier, method: Saliency, data: Labelled) -> dict[str, float]:
    """How often the planted word ranks first, and among the first two."""
    table = method.run(classifier, data).table()
    own = table[table["string"] == WORD].groupby("example")["rank"].min()
    return {"first": round(float((own == 1).mean()), 3), "first two": round(float((own <= 2).mean()), 3)}


def main() -> None:
    """Print the figures as JSON, and write them where ``--out`` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=2600, help="sentences, of which parts are validation and test")
    parser.add_argument("--texts", type=int, default=50)
    parser.add_argument("--orders", type=int, default=2, help="random orders a sentence")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", default=sorted(methods()))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    model = load("minilm")
    for seed in given.seeds:
        splits = make_splits(sample(reference("sst2"), given.train, seed=seed), seed=seed)
        test = splits.test
        if test is None:
            raise SystemExit("no test part was made")
        test = test.take(np.arange(min(given.texts, len(test))))
        tuning = Tuning(epochs=3, max_length=64, seed=seed)
        classifier = tune(model, splits.train, splits.validation, tuning).classifier
        positive = test.positive
        negative = next(label for label in test.labels if label != positive)
        both = planted(test, {positive: 1.0, negative: 1.0}, seed)
        shares = {"shortcut": {positive: 0.95, negative: 0.05}, "control": {positive: 0.5, negative: 0.5}}
        models = {
            arm: tune(model, planted(splits.train, share, seed), planted(splits.validation, share, seed + 1), tuning)
            for arm, share in shares.items()
        }
        of_seed: dict[str, Any] = {}
        for name in given.methods:
            method = methods()[name](seed=seed, checked=given.texts, orders=given.orders)
            of_seed[name] = faithful(classifier, method, test)
            quick = methods()[name](seed=seed, checked=1, orders=1, label=positive)
            of_seed[name]["planted"] = {arm: ranks(tuned.classifier, quick, both) for arm, tuned in models.items()}
            print(seed, name, json.dumps(of_seed[name]), flush=True)
        found[str(seed)] = of_seed
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
