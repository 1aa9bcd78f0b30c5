"""A planted shortcut, and what explanation regularisation makes of it.

    python -m benchmarks.regularise --seeds 0 1 2 3 4

A word stands in 95 % of the positive and 5 % of the negative training sentences of SST-2 (minilm, LoRA). Accuracy is
told with the word's correlation kept, with it reversed, and on sentences without it; beside these, where it stands in
every sentence, how often it ranks first by integrated gradients, and its share of all weight. Arms: no regularisation,
the word marked as one that should not matter, three common words marked in its place (the control), and the word marked
but penalised by a published loss, of the signed product or of attention. `--judge validation` judges on other sentences
than the published figures do: settings are chosen there.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.saliency import WORD, planted
from tracemend.data import Labelled, Splits, make_splits, reference, sample
from tracemend.evaluate import mean_interval
from tracemend.mend.marks import marks_of_words
from tracemend.mend.penalty import Penalty
from tracemend.mend.regularise import tune_marked
from tracemend.models import LanguageModel, load
from tracemend.saliency import IntegratedGradients, encoded
from tracemend.tuning import TextClassifier, Tuning

COMMON = ("the", "of", "and")
ARMS = {
    "none": ((), "norm"),
    "norm": ((WORD,), "norm"),
    "norm on other words": (COMMON, "norm"),
    "mse": ((WORD,), "mse"),
    "attention": ((WORD,), "attention"),
}


def penalty_of(arm: str, strength: float, published: float) -> Penalty:
    """The penalty of an arm."""
    criterion = ARMS[arm][1]
    if criterion == "attention":
        return Penalty(criterion="mse", extractor="attention", strength=published)
    return Penalty(criterion=criterion, strength=strength if criterion == "norm" else published)  # type: ignore[arg-type]


def judged(classifier: TextClassifier, sets: dict[str, Labelled], texts: int) -> dict[str, float]:
    """Accuracy on each set, and how often the word ranks first where it stands in every sentence."""
    found = {}
    for name, data in sets.items():
        if name != "everywhere":
            p = classifier.probabilities(data.pairs)
            found[name] = round(float((p.argmax(axis=1) == data.y).mean()), 4)
    everywhere = sets["everywhere"]
    pairs = everywhere.pairs[:texts]
    examples, weights = IntegratedGradients().weights(classifier, pairs, [everywhere.positive_index] * len(pairs))
    first, share = [], []
    for example, weight in zip(examples, weights, strict=True):
        own = np.array([example.text_of(word) == WORD for word in example.words])
        first.append(bool(own[int(np.nanargmax(weight))]))
        share.append(float(np.abs(weight[own]).sum() / np.nansum(np.abs(weight))))
    return {**found, "word first": round(float(np.mean(first)), 4), "weight": round(float(np.mean(share)), 4)}


def seed_of(seed: int, model: LanguageModel, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """All arms of one seed."""
    splits = make_splits(sample(reference("sst2"), given.train, seed=seed), seed=seed)
    test = splits.validation if given.judge == "validation" else splits.test
    if test is None:
        raise SystemExit("no test part was made")
    negative, positive = sorted(test.labels, key=lambda label: label == test.positive)
    kept, reversed_ = {positive: 0.95, negative: 0.05}, {positive: 0.05, negative: 0.95}
    sets = {
        "kept": planted(test, kept, seed),
        "reversed": planted(test, reversed_, seed),
        "clean": test,
        "everywhere": planted(test, {positive: 1.0, negative: 1.0}, seed),
    }
    train, validation = planted(splits.train, kept, seed), planted(splits.validation, kept, seed + 1)
    shortcut = Splits(train=train, validation=validation, verdict=splits.verdict)
    tuning = Tuning(epochs=given.epochs, batch_size=32, max_length=64, seed=seed)
    found = {}
    for arm in given.arms:
        classifier = tuning.classifier(model, shortcut.labels)
        examples = encoded(classifier, train.pairs)
        marks = [marks_of_words(example, remove=ARMS[arm][0]) for example in examples]
        penalty = penalty_of(arm, given.strength, given.published)
        began = time.process_time()
        tune_marked(classifier, train, validation, examples, marks, penalty, tuning)
        seconds = round(time.process_time() - began, 1)
        found[arm] = {**judged(classifier, sets, given.texts), "seconds": seconds}
        print(seed, arm, json.dumps(found[arm]), flush=True)
    return found


def summary(found: dict[str, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Means over seeds, and each arm's difference to none with its interval over seeds."""
    arms = list(next(iter(found.values())))
    made: dict[str, Any] = {}
    for arm in arms:
        figures = list(next(iter(found.values()))[arm])
        values = {name: np.array([found[seed][arm][name] for seed in found]) for name in figures}
        made[arm] = {name: round(float(of.mean()), 3) for name, of in values.items()}
        if arm != "none" and "none" in arms and len(found) > 1:
            for name in ("kept", "reversed", "clean"):
                differences = values[name] - np.array([found[seed]["none"][name] for seed in found])
                low, high = mean_interval(differences)
                made[arm][f"{name} - none"] = [round(float(v), 3) for v in (differences.mean(), low, high)]
    return made


def main() -> None:
    """Print the figures as JSON, and write them where ``--out`` says; what is there already is not done again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=2000, help="sentences, of which parts are validation and test")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--strength", type=float, default=10.0, help="of the norm")
    parser.add_argument("--published", type=float, default=1.0, help="of the published losses")
    parser.add_argument("--texts", type=int, default=50)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--judge", choices=["validation", "test"], default="test", help="validation to choose settings")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    model, found = load("minilm"), {}
    if given.out is not None and given.out.exists():
        found = json.loads(given.out.read_text(encoding="utf-8"))["seeds"]
    for seed in given.seeds:
        if str(seed) not in found:
            found[str(seed)] = seed_of(seed, model, given)
        if given.out is not None:
            made = {"settings": {k: v for k, v in vars(given).items() if k != "out"}, "seeds": found}
            given.out.write_text(json.dumps({**made, "summary": summary(found)}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(summary(found), indent=2))


if __name__ == "__main__":
    main()
