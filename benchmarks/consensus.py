"""What each part of trace.consensus adds: detection AP without it, on the sets that settings are chosen on.

    python benchmarks/consensus.py            # what is missing, then the table; resumes
    python benchmarks/consensus.py --more     # what neighbours' votes and the gradient kernel would add
    python benchmarks/consensus.py --table    # from the stored figures alone

500 training and 300 clean validation examples, minilm; the same draws as in ``benchmarks/repair_grid.py``. Figures of
finished units lie in ``benchmarks/results/consensus``. The control is the share of wrong labels: AP of a random order.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

KEPT = Path(__file__).parent / "results" / "consensus"
SETS = ("uci_sentiment_sentences", "hatecheck")
# Noise, rate, and the sets that carry it.
NOISES = (
    ("none", 0.0, SETS), ("symmetric", 0.1, SETS), ("symmetric", 0.3, SETS), ("confusable", 0.3, SETS),
    ("trolls", 0.3, SETS),
)  # fmt: skip
# Rates of false discoveries that a person might ask for.
FDR = (0.05, 0.1, 0.2)
PARTS = {
    "frozen, last layer": "EM on states of the last layer (trace.em)",
    "frozen, four layers": "EM on states of four layers",
    "tuned": "models tuned on the other folds alone",
    "ranks": "both, as the mean of their two rankings",
    "both, text alone": "both pooled; the noise among the labels left out",
    "both": "both pooled, with the noise among the labels",
    "both, groups": "and with what groups tell, whatever the models' own errors do",
    "consensus": "and with what groups tell, unless the models err by group (trace.consensus)",
}
# What was tried besides, and is no part of it: on fewer draws, for it needs the classifier's own tuning.
TRIED = (("symmetric", 0.3, SETS), ("confusable", 0.3, SETS))
MORE = {
    "both": "both pooled, with the noise among the labels",
    "neighbours": "and the votes of ten neighbours on frozen states",
    "gradients": "and the gradient kernel of the tuned prompt, over three checkpoints",
    "gradients alone": "the gradient kernel alone",
    "all four": "all four pooled",
}
_NEIGHBOURS = 10


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--more", action="store_true")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    noises, work, before = (TRIED, tried, "more-") if given.more else (NOISES, measured, "")
    units = [(s, noise, rate, seed) for seed in range(given.seeds) for noise, rate, sets in noises for s in sets]
    if not given.table:
        for unit in units:
            path = KEPT / (before + "-".join(map(str, unit)) + ".json")
            if not path.exists():
                from tracemend.runs import write_json

                began = time.monotonic()
                write_json(path, work(*unit))
                print(f"{path.stem} {time.monotonic() - began:.0f} s", flush=True)
    print(more() if given.more else table(given.seeds))


def measured(name: str, noise: str, rate: float, seed: int) -> dict[str, Any]:
    """Detection AP and what the posterior would touch, for each part and all together."""
    import numpy as np

    from tracemend.evaluate.grid import Unit
    from tracemend.mend.proof.sets import draw
    from tracemend.models import load
    from tracemend.trace import embed, true_labels
    from tracemend.trace.apart import judged_apart
    from tracemend.trace.consensus import errs_by_group
    from tracemend.trace.em import settled
    from tracemend.trace.fold_tuned import fold_tuned
    from tracemend.trace.groups import by_group, groups_of
    from tracemend.trace.pool import Judged, pooled
    from tracemend.tuning import Tuning

    model, splits = load("minilm"), draw(Unit(dataset=name, noise=noise, rate=rate, seed=seed))
    train, held = splits.train, splits.validation
    rows, y, labels = np.arange(len(train)), train.y, len(train.labels)

    def frozen(layers: int) -> Any:
        ours, theirs = (embed(model, part.pairs, max_length=64, layers=layers) for part in (train, held))
        given = (ours, y, theirs, held.y, labels)
        return true_labels(*given, seed=seed), judged_apart(*given, seed=seed, groups=groups_of(held))

    (last, _), (four, apart) = frozen(1), frozen(4)
    tuning = Tuning(adapter="lora", epochs=3, max_length=64, seed=seed)
    tuned = fold_tuned(model, train, held, apart, tuning, seed=seed)
    states = Judged(four.predicted, apart.trusted)
    (alone, _), (both, weights) = pooled([tuned], held.y), pooled([states, tuned], held.y)
    denied = {
        "frozen, last layer": last.wrong(y),
        "frozen, four layers": four.wrong(y),
        "tuned": 1 - settled(alone.train, y)[0][rows, y],
        "both, text alone": 1 - both.train[rows, y],
        "both": 1 - settled(both.train, y)[0][rows, y],
    }
    ranks = [np.argsort(np.argsort(denied[part])) for part in ("frozen, four layers", "tuned")]
    denied["ranks"] = np.mean(ranks, axis=0) / len(train)
    groups = groups_of(train)
    denied["both, groups"] = denied["both"] if groups is None else by_group(denied["both"], groups)[0]
    known = groups_of(held)
    err = known is not None and errs_by_group(both.trusted, held, known)
    denied["consensus"] = denied["both"] if err else denied["both, groups"]
    return {"weights": weights.tolist(), "parts": {part: figures(p, train.wrong) for part, p in denied.items()}}


def tried(name: str, noise: str, rate: float, seed: int) -> dict[str, Any]:
    """The same with two more sources in the pool: neighbours' votes, and the gradient kernel of the tuned prompt."""
    import numpy as np

    from tracemend.evaluate.grid import Unit
    from tracemend.mend.proof.sets import draw
    from tracemend.models import load
    from tracemend.trace import embed, per_example_gradients, true_labels
    from tracemend.trace.apart import judged_apart
    from tracemend.trace.em import settled
    from tracemend.trace.fold_tuned import fold_tuned
    from tracemend.trace.groups import groups_of
    from tracemend.trace.pool import Judged, pooled
    from tracemend.trace.tracin import at
    from tracemend.tuning import Tuning, tune

    model, splits = load("minilm"), draw(Unit(dataset=name, noise=noise, rate=rate, seed=seed))
    train, held = splits.train, splits.validation
    rows, y, labels = np.arange(len(train)), train.y, len(train.labels)
    ours, theirs = (embed(model, part.pairs, max_length=64, layers=4) for part in (train, held))
    known = groups_of(held)
    given = (ours, y, theirs, held.y, labels)
    four, apart = true_labels(*given, seed=seed), judged_apart(*given, seed=seed, groups=known)
    lora = Tuning(adapter="lora", epochs=3, max_length=64, seed=seed)
    tuned = fold_tuned(model, train, held, apart, lora, seed=seed)

    # Each neighbour votes with what is believed of its label; nobody votes for itself.
    believed = np.concatenate([four.posterior, np.eye(labels)[held.y]])
    states = np.concatenate([ours, theirs])
    near = states @ states.T
    np.fill_diagonal(near, -np.inf)
    votes = believed[np.argsort(-near, axis=1)[:, :_NEIGHBOURS]].mean(axis=1)
    neighbours = Judged(votes[: len(train)], votes[len(train) :])

    prompt = tune(
        model, train, held, Tuning(adapter="prompt", epochs=8, patience=0, max_length=64, seed=seed)
    )  # the classifier whose labels are in question
    sides: list[Any] = [0.0, 0.0]
    for checkpoint in prompt.checkpoints[-5::2]:
        with at(prompt.classifier, checkpoint):
            for side, part in enumerate((train, held)):
                found = per_example_gradients(prompt.classifier, part, parts=("prompt",), precision="bf16")
                grads = found.grads.numpy()
                # With two labels the loss gradient is that of the margin times a residual: its sign is the label's.
                unit = grads / np.linalg.norm(grads, axis=1, keepdims=True) * np.where(part.y == 1, -1.0, 1.0)[:, None]
                sides[side] = sides[side] + unit / 3
    given = (sides[0], y, sides[1], held.y, labels)
    kernel = judged_apart(*given, seed=seed, groups=known)
    gradients = Judged(true_labels(*given, seed=seed).predicted, kernel.trusted)

    base = [Judged(four.predicted, apart.trusted), tuned]
    sources = {
        "both": base, "neighbours": [*base, neighbours], "gradients": [*base, gradients],
        "gradients alone": [gradients], "all four": [*base, neighbours, gradients],
    }  # fmt: skip
    parts, weights = {}, {}
    for mix, pool in sources.items():
        pooled_, found_ = pooled(pool, held.y)
        parts[mix] = figures(1 - settled(pooled_.train, y)[0][rows, y], train.wrong)
        weights[mix] = found_.tolist()
    return {"weights": weights, "parts": parts}


def more() -> str:
    """AP and Brier score with each further source, means over the draws that are there."""
    import numpy as np

    from tracemend.runs import read_json

    lines = ["| part | draws | AP, symmetric | AP, confusable | Brier |", "| --- | ---: | ---: | ---: | ---: |"]
    found = {noise: [read_json(p)["parts"] for p in sorted(KEPT.glob(f"more-*-{noise}-*.json"))] for noise, *_ in TRIED}
    for part, said in MORE.items():
        aps = [f"{np.mean([one[part]['ap'] for one in rows]):.3f}" if rows else "" for rows in found.values()]
        both = [one[part]["brier"] for rows in found.values() for one in rows]
        lines.append(f"| {said} | {len(both)} | " + " | ".join(aps) + f" | {np.mean(both):.3f} |")
    return "\n".join(lines)


def figures(p: Any, wrong: Any) -> Mapping[str, float | None]:
    """AP, the share that P(wrong) > 0.5 would touch, its precision, the share of wrong labels left, Brier score.

    And for each rate of false discoveries that is asked for: how many are acted on, and how many of them were right.
    """
    import numpy as np

    from tracemend.evaluate import detection
    from tracemend.mend.bounds import fdr_prefix

    touched = p > 0.5
    suspects = np.flatnonzero(touched)
    bounded = {rate: suspects[fdr_prefix(p[suspects], rate)] for rate in FDR}
    return {
        "ap": detection(p, wrong).ap if wrong.any() else None,
        "chance": float(wrong.mean()),
        "touched": float(touched.mean()),
        "right": float(wrong[touched].mean()) if touched.any() else None,
        "left": float((wrong != touched).mean()),
        "expected": float(p.mean()),
        "brier": float(np.mean((p - wrong) ** 2)),
        **{f"acted at {rate}": float(len(rows)) for rate, rows in bounded.items()},
        **{f"right at {rate}": float((~wrong[rows]).sum()) for rate, rows in bounded.items()},
    }


def table(seeds: int) -> str:
    """Means over seeds, one block a noise."""
    import numpy as np

    from tracemend.runs import read_json

    def mean(found: list[float | None]) -> str:
        known = [value for value in found if value is not None]
        return f"{np.mean(known):.3f}" if known else ""

    lines = []
    for noise, rate, sets in NOISES:
        for name in sets:
            paths = [KEPT / f"{name}-{noise}-{rate}-{seed}.json" for seed in range(seeds)]
            found = [read_json(path)["parts"] for path in paths if path.exists()]
            if not found:
                continue
            lines += [
                f"\n**{name}, {noise} {rate:.0%}** ({len(found)} seeds; "
                f"wrong {mean([one['both']['chance'] for one in found])})\n",
                "| part | AP | touched | of these wrong | wrong labels left | believed wrong | Brier |",
                "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
            ]
            for part in PARTS:
                each = [mean([one[part][k] for one in found]) for k in ("ap", "touched", "right", "left")]
                # A mean of ranks is no probability: what it would touch says nothing.
                tail = [mean([one[part][k] for one in found]) for k in ("expected", "brier")]
                cells = [each[0], "", "", "", "", ""] if part == "ranks" else [*each, *tail]
                lines.append(f"| {part} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n" + bounds(seeds)


def bounds(seeds: int) -> str:
    """Whether the rate of false discoveries that was asked for is kept, over all draws of a row together."""
    from tracemend.runs import read_json

    lines = [
        "| set | noise | " + " | ".join(f"asked {rate:.0%}: acted, of these right labels" for rate in FDR) + " |",
        "| --- | --- |" + " ---: |" * len(FDR),
    ]
    for noise, rate, sets in NOISES:
        for name in sets:
            paths = [KEPT / f"{name}-{noise}-{rate}-{seed}.json" for seed in range(seeds)]
            found = [read_json(path)["parts"]["consensus"] for path in paths if path.exists()]
            if not found:
                continue
            cells = []
            for asked in FDR:
                acted, right = (sum(one[f"{what} at {asked}"] for one in found) for what in ("acted", "right"))
                cells.append(f"{acted:.0f}, {right / acted:.1%}" if acted else "none")
            lines.append(f"| {name} | {noise} {rate:.0%} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
