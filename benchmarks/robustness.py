"""Explanations of copies with near words: what tuning on tied copies changes, beside two ways without.

    python -m benchmarks.robustness --seeds 0 1 2

SST-2 (minilm, LoRA). For each seed three classifiers, and their figures on test sentences as
:class:`tracemend.mend.Robustness` gives them. ``--judge validation`` takes validation sentences, to choose settings by.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from benchmarks.seeds import each_seed, gap_of
from tracemend.data import Splits, make_splits, reference, sample
from tracemend.mend import Robustness
from tracemend.models import LanguageModel
from tracemend.tuning import Tuning

FIGURES = ("accuracy", "after_attack", "kept", "tau", "top", "attacks", "tau_attacked", "top_attacked")


def seed_of(seed: int, model: LanguageModel, given: argparse.Namespace) -> dict[str, Any]:
    """The figures of every arm, and the notes."""
    splits = make_splits(sample(reference("sst2"), given.train, seed=seed), seed=seed)
    judged = splits.validation if given.judge == "validation" else splits.test
    if judged is None:
        raise SystemExit("no test part was made")
    tuning = Tuning(epochs=given.epochs, batch_size=32, max_length=64, seed=seed)
    method = Robustness(
        strength=given.strength, tied=given.tied, share=given.share, checked=given.texts, tuning=tuning, seed=seed
    )
    began = time.process_time()
    result = method.run(model, Splits(train=splits.train, validation=splits.validation, verdict=judged))
    arms = {"tied": dict(result.metrics), **{arm: dict(of) for arm, of in result.controls.items()}}
    found = {arm: {name: round(float(value), 4) for name, value in of.items()} for arm, of in arms.items()}
    print(seed, json.dumps(found), *result.findings, sep="\n", flush=True)
    return {"arms": found, "notes": list(result.findings), "seconds": round(time.process_time() - began, 1)}


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Means over seeds, and differences of the tied arm to the others, from three seeds on with their intervals."""
    arms = next(iter(found.values()))["arms"]
    made: dict[str, Any] = {
        arm: {name: round(float(np.mean([found[seed]["arms"][arm][name] for seed in found])), 4) for name in figures}
        for arm, figures in arms.items()
    }
    for arm in ("none", "adversarial"):
        for name in FIGURES:
            arms_of = [of["arms"] for of in found.values()]
            made["tied"][f"{name} - {arm}"] = gap_of(
                [of["tied"][name] for of in arms_of], [of[arm][name] for of in arms_of]
            )
    return made


def main() -> None:
    """Print the figures as JSON, and write them where ``--out`` says; what is there already is not done again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=1000, help="sentences, of which parts are validation and test")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--texts", type=int, default=100, help="sentences that are attacked and explained")
    parser.add_argument("--strength", type=float, default=10.0)
    parser.add_argument("--tied", choices=["replaced", "all"], default="replaced")
    parser.add_argument("--share", type=float, default=0.3)
    each_seed(parser, seed_of, summary)


if __name__ == "__main__":
    main()
