"""Which units know what, on minilm or smollm2 and UD EWT: rankings, ablation, formulas, words, with their controls.

    python benchmarks/neurons.py gaussian --seeds 1
    python benchmarks/neurons.py compose explain --site blocks.2.mlp.hook_post
    python benchmarks/neurons.py puzzles

The data are those that TRACEMEND_DATA names (ud_ewt). Settings are the methods' defaults; nothing is chosen here.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Run as a file, a benchmark does not find its own package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from tracemend.data import read_conllu
from tracemend.data.reference import reference_folder
from tracemend.models import load
from tracemend.neurons.excerpts import correlation
from tracemend.neurons.run import methods, named
from tracemend.neurons.similarity import SimilaritySimulator
from tracemend.runs import versions, write_json


def main() -> None:
    """Measure what is asked for, and print figures beside controls."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known = {name: method for name, method in methods().items() if method.inputs == "Treebank"}
    parser.add_argument("only", nargs="*", choices=[*known, "puzzles", []], help="default: all on words")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--task", default="upos")
    parser.add_argument("--among", default="")
    parser.add_argument("--site", default="blocks.1.hook_resid_post")
    parser.add_argument("--train-items", type=int, default=8_000)
    parser.add_argument("--test-items", type=int, default=4_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    if given.only == ["puzzles"]:
        show_puzzles()
        return
    model, bank = load(given.model), read_conllu(reference_folder("ud_ewt"))
    shared = {name: getattr(given, name) for name in ("task", "among", "site", "train_items", "test_items")}
    kept: dict[str, Any] = {"versions": versions()}
    for name in given.only or list(known):
        if name == "puzzles":
            show_puzzles()
            continue
        own = {field.name for field in dataclasses.fields(known[name])}
        for seed in range(given.seeds):
            began = time.perf_counter()
            options = {field: value for field, value in shared.items() if field in own}
            found = named(name, {**options, "seed": seed}).run(model, bank)
            seconds = time.perf_counter() - began
            print(
                f"\n{name}, seed {seed} ({seconds:.0f} s)\n{found.table().to_string(index=False, float_format='%.3f')}"
            )
            for arm, figures in {"found": found.metrics, **found.controls}.items():
                print(f"  {arm:<18}" + "".join(f"{figure} {value:.3f}  " for figure, value in figures.items()))
            print("\n".join(found.findings), flush=True)
            kept[f"{name}-{seed}"] = {
                "metrics": found.metrics, "controls": found.controls, "config": found.config, "facts": found.facts,
                "rows": found.table().to_dict("list"), "seconds": round(seconds, 1),
            }  # fmt: skip
    if given.out:
        write_json(given.out, kept)


def puzzles() -> dict[str, float]:
    """Hand-made units: where the true explanation stands among all nineteen, and against three false ones."""
    found = json.loads((reference_folder("neuron_puzzles") / "puzzles.json").read_text("utf-8"))
    simulator, rng = SimilaritySimulator(), np.random.default_rng(0)
    places, won, scores, itself, shuffled, constant = [], [], [], [], [], []
    for puzzle in found.values():
        cells = [cell if isinstance(cell, list) else [cell, 0] for text in puzzle["sentences"] for cell in text]
        words, true = [cell[0] for cell in cells], np.array([float(cell[1]) for cell in cells])
        own, *others = (
            correlation(true, simulator.simulate(text, words))
            for text in (puzzle["explanation"], *(other["explanation"] for other in found.values() if other != puzzle))
        )
        false = [correlation(true, simulator.simulate(text, words)) for text in puzzle["false_explanations"]]
        places.append(1 + sum(other > own for other in others))
        won.append(own > max(false))
        scores.append(own)
        itself.append(correlation(true, true))
        shuffled.append(correlation(rng.permutation(true), simulator.simulate(puzzle["explanation"], words)))
        constant.append(correlation(true, np.ones(len(true))))
    place = np.array(places)
    return {
        "first": float((place == 1).mean()), "third": float((place <= 3).mean()), "above_false": float(np.mean(won)),
        "score": float(np.mean(scores)), "true": float(np.mean(itself)), "shuffled": float(np.mean(shuffled)),
        # NaN, undefined, for all of them.
        "constant": float(np.mean(constant)),
    }  # fmt: skip


def show_puzzles() -> None:
    """Print them beside chance."""
    found = puzzles()
    print(
        f"\npuzzles: first of 19 in {found['first']:.3f} (chance {1 / 19:.3f}), among three in {found['third']:.3f}; "
        f"above its false ones in {found['above_false']:.3f} (chance 0.25 to 0.33); mean score {found['score']:.3f}, "
        f"shuffled {found['shuffled']:.3f}"
    )


if __name__ == "__main__":
    main()
