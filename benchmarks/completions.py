"""How well wrong completions of an instruction set are found: answers swapped on purpose, a real decoder, paired seeds.

    python benchmarks/completions.py                      # 5 seeds
    python benchmarks/completions.py --seeds 1 --json

Each seed swaps the answers of 20 % of 36 short instructions, tunes LoRA on them for two epochs and ranks them by every
signal; 12 more instructions are trusted. The figure is the average precision of "was swapped", beside what a random
order has.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from tracemend.data import Completions
    from tracemend.models import LanguageModel

os.environ.setdefault("HF_HUB_OFFLINE", "1")

TRAIN = 36
SIGNALS = ("tracin", "self-influence", "loss", "untuned-loss")
_CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Egypt": "Cairo", "Austria": "Vienna",
    "Greece": "Athens", "Norway": "Oslo", "Peru": "Lima", "Cuba": "Havana", "Russia": "Moscow", "Poland": "Warsaw",
}  # fmt: skip
_OPPOSITES = {
    "hot": "cold", "big": "small", "up": "down", "fast": "slow", "light": "dark", "happy": "sad", "old": "young",
    "rich": "poor", "full": "empty", "hard": "soft", "wet": "dry", "loud": "quiet",
}  # fmt: skip
_PLURALS = {
    "dog": "dogs", "child": "children", "mouse": "mice", "foot": "feet", "box": "boxes", "city": "cities",
    "man": "men", "leaf": "leaves", "tooth": "teeth", "house": "houses", "baby": "babies", "bus": "buses",
}  # fmt: skip
_COLOURS = {
    "grass": "green", "snow": "white", "coal": "black", "a banana": "yellow", "blood": "red", "the sky": "blue",
    "an orange": "orange", "chocolate": "brown", "milk": "white", "the sun": "yellow", "a tomato": "red",
    "a frog": "green",
}  # fmt: skip


def instructions() -> Completions:
    """48 short instructions with right answers, four kinds by turns."""
    from tracemend.data import Completions

    kinds = {
        "What is the capital of {}?": _CAPITALS,
        "What is the opposite of {}?": _OPPOSITES,
        "What is the plural of {}?": _PLURALS,
        "What colour is {}?": _COLOURS,
    }
    made = [
        (prompt.format(asked), answer)
        for row in zip(*(answers.items() for answers in kinds.values()), strict=True)
        for prompt, (asked, answer) in zip(kinds, row, strict=True)
    ]
    return Completions.make([prompt for prompt, _ in made], [answer for _, answer in made])


def unit(model: LanguageModel, seed: int, signals: Sequence[str] = SIGNALS, *, train: int = TRAIN) -> dict[str, float]:
    """Average precision of each signal, and of a random order, under one seed; the last 12 instructions are trusted."""
    from tracemend.data import CompletionSplits
    from tracemend.trace import SuspectCompletions
    from tracemend.tuning import Tuning, tune_completions

    data = instructions()
    parts = CompletionSplits(data.take(range(train)).swapped(0.2, seed=seed), data.take(range(TRAIN, len(data))))
    how: dict[str, Any] = {"adapter": "lora", "epochs": 2, "batch_size": 6, "learning_rate": 1e-3, "precision": "fp32"}
    tuning = Tuning(**how, patience=0, max_length=48, seed=seed)
    tuned = tune_completions(model, parts.train, parts.validation, tuning)
    found: dict[str, float] = {}
    for by in signals:
        given: Any = by
        # At the last state: as many backward passes as one checkpoint costs.
        result = SuspectCompletions(by=given).run(tuned.model, parts)
        found |= {by: result.metrics["detection_ap"], "random order": result.controls["detection_ap"]}
    return found


def main() -> None:
    """Print the table, or JSON with the mean of each signal."""
    from tracemend.models import load

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    model = load("smollm2")
    table = pd.DataFrame([unit(model, seed) for seed in range(given.seeds)])
    if given.json:
        print(json.dumps({name: float(np.mean(column)) for name, column in table.items()}))
        return
    print(f"| signal | AP, mean of {given.seeds} seeds | lowest | highest |")
    print("| --- | --- | --- | --- |")
    for name, column in table.items():
        print(f"| {name} | {column.mean():.3f} | {column.min():.3f} | {column.max():.3f} |")


if __name__ == "__main__":
    main()
