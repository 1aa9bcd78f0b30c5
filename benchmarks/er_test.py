"""ER-TEST of minilm heads on SST-2: right training labels against some that are flipped at random.

    python benchmarks/er_test.py --seeds 3

The data are those that TRACEMEND_DATA names (sst2, uci_sentiment_sentences, imdb_contrast, checklist_sentiment).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Run as a file, a benchmark does not find its own package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from tracemend.data import checklist, corrupt, read_contrasts, reference, sample, thinned
from tracemend.data.reference import reference_folder
from tracemend.evaluate import Axes, ErTest, compared, er_test
from tracemend.models import load
from tracemend.tuning import Tuning, tune


def axes(most: int) -> Axes:
    """Unseen reviews, pairs of reviews, and so many cases of each functional test."""
    pairs = reference_folder("imdb_contrast")
    return Axes(
        unseen={"uci_sentiment_sentences": sample(reference("uci_sentiment_sentences"), 20 * most)},
        contrast={"imdb_contrast": read_contrasts(pairs / "dev_original.tsv", pairs / "dev_contrast.tsv")},
        functional=thinned(checklist(reference_folder("checklist_sentiment")), most),
    )


def tested(seed: int, rate: float, on: Axes, train: int) -> ErTest:
    """A head tuned on SST-2 with this share of labels flipped."""
    whole = reference("sst2")
    parts = {name: whole.take(np.flatnonzero(whole.frame["part"] == name)) for name in ("train", "validation")}
    data = sample(parts["train"], train, seed=seed)
    if rate > 0:
        data = corrupt(data, rate=rate, seed=seed)
    tuning = Tuning(adapter="head", epochs=5, seed=seed, precision="fp32")
    tuned = tune(load("minilm"), data, sample(parts["validation"], 300, seed=seed), tuning)
    return er_test(tuned.classifier.probabilities, tuned.classifier.labels, on, seed=seed)


def main() -> None:
    """Measure, and print figures beside controls."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=0.4, help="of flipped labels in the second arm; 0 leaves it out")
    parser.add_argument("--most", type=int, default=20, help="cases of each functional test")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    on = axes(given.most)
    clean = [tested(seed, 0.0, on, given.train) for seed in range(given.seeds)]
    print(clean[0].rows.to_string(index=False, float_format="%.3f"))
    print("\n".join(clean[0].notes), flush=True)
    if given.rate > 0:
        flipped = [tested(seed, given.rate, on, given.train) for seed in range(given.seeds)]
        print(compared(clean, flipped).to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
