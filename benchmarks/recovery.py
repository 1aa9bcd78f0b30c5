"""What label noise costs and what each way of repair brings back, on real data sets with paired seeds.

    python benchmarks/recovery.py                         # the whole table; resumes what is there
    python benchmarks/recovery.py --sets surge-toxicity --seeds 1
    python benchmarks/recovery.py --table                 # only print what is finished

Each (set, seed) draws 500 training, 190 validation and 300 test examples, flips 30 % of the training labels, tunes
once on clean and once on corrupted labels, and runs every arm from the same corrupted tuning with the same budget:
5 rounds of (noise estimate x 500 / 5) candidates, warm start. Runs lie in ``benchmarks/out/recovery``, the figures of
finished ones in ``benchmarks/results/recovery``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracemend.data import Splits
    from tracemend.mend.bench import Bench
    from tracemend.mend.ranking import Arm
    from tracemend.models import LanguageModel

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

OUT = Path(__file__).parent / "out" / "recovery"
# Figures of finished units, under version control: what the table is made of, and what is not run again.
KEPT = Path(__file__).parent / "results"
SETS = ("surge-toxicity", "hate_stormfront", "openai-moderation", "sst2")
TRAIN = 500
# Arm -> changes to the preset. "gbair" is the paper's loop as reconstructed; the others change one thing at a time.
ARMS: dict[str, tuple[Arm, dict[str, Any]]] = {
    "gbair-remove": ("repair", {"preset": "gbair", "action": "remove"}),
    "gbair-relabel": ("repair", {"preset": "gbair", "action": "relabel"}),
    "random-remove": ("random", {"preset": "gbair", "action": "remove"}),
    "similarity-remove": ("similarity", {"preset": "gbair", "action": "remove"}),
    "kernel": ("repair", {"preset": "default", "rank": "trusted"}),
    "kernel-similarity": ("similarity", {"preset": "default", "rank": "trusted"}),
    "unchanged": ("unchanged", {"preset": "default", "rank": "trusted"}),
}
# Not a repair: the noisy training set thrown away, a logistic regression on the validation set's frozen embeddings.
VALIDATION_ONLY = "validation-only"


def parts(train: int, name: str, seed: int) -> Splits:
    """Training, validation and, in the verdict's place, test examples; 30 % of the training labels flipped.

    The test examples rank, fit and stop nothing, and are measured every round.
    """
    from tracemend.data import corrupt, make_splits, reference
    from tracemend.data.splits import sample

    whole = reference(name)
    drawn = sample(whole, min(2 * train, len(whole)), seed=seed)
    made = make_splits(drawn, seed=seed, validation_share=0.2, test_share=0.3, verdict_share=0.05)
    clean = replace(made, verdict=made.test or made.verdict, test=None)
    return clean.with_train(corrupt(clean.train, kind="symmetric", rate=0.3, seed=seed))


def validation_only(
    model: LanguageModel, splits: Splits, baseline: dict[str, Any], first: dict[str, Any]
) -> dict[str, Any]:
    """What the clean validation set gives without any of the training set."""
    from sklearn.linear_model import LogisticRegression

    from tracemend.evaluate import scores
    from tracemend.trace import embed

    known, asked = (embed(model, part.pairs, max_length=64) for part in (splits.validation, splits.verdict))
    fit = LogisticRegression(C=10, max_iter=2000).fit(known, splits.validation.y)
    found = scores(splits.verdict.y, fit.predict_proba(asked), splits.verdict.positive_index)
    return {
        "ap_clean": baseline["verdict"]["ap"],
        "ap_corrupted": first["verdict"]["ap"],
        "ap_repaired": found["ap"],
        "accuracy_repaired": found["accuracy"],
        "acted_precision": None,
        "detection_ap": None,
    }


def unit(given: argparse.Namespace, name: str, seed: int, out: Path) -> dict[str, Any]:
    """One (set, seed): tunings, arms, figures; finished parts are read from ``out``."""
    import torch

    from tracemend.mend import Repair
    from tracemend.mend.bench import Bench
    from tracemend.mend.decide import candidates_per_round
    from tracemend.mend.result import figures
    from tracemend.mend.rounds import measure
    from tracemend.models import load
    from tracemend.progress import EventLog
    from tracemend.runs import RunDirectory, write_json
    from tracemend.trace import TracIn
    from tracemend.tuning import Tuning, tune

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    began = time.monotonic()
    splits = parts(given.train, name, seed)
    tuning = Tuning(adapter=given.adapter, epochs=given.epochs, patience=0, max_length=64, seed=seed)
    config = {"tuning": tuning.config, "rounds": given.rounds, "model": given.model, "set": name}
    config |= {"train": given.train, "candidates": given.candidates, "cold": given.cold}
    run = RunDirectory(out, command="recovery", config=config, fingerprints=splits.fingerprints)
    progress = EventLog(out / "events.jsonl")
    model = load(given.model)
    start = tune(model, splits.train, splits.validation, tuning, out=out / "tuning", progress=progress)
    first = run.step("start", lambda: measure(start, splits))
    found: dict[str, Any] = {}
    noise, budget = 0.0, 0
    for arm in given.arms:
        kind, changes = ARMS[arm]
        changes = {
            "tuning": tuning,
            "seed": seed,
            "rounds": given.rounds,
            "warm_start": not given.cold,
            "stop": "fixed",
            **changes,
        }
        preset = changes.pop("preset")
        rules = Repair.preset(preset, **changes, warm_epochs=1)
        parts_of = ("prompt",) if preset == "gbair" and given.adapter == "prompt" else ()
        rules = replace(rules, tracin=TracIn(parts=parts_of, precision="bf16"))
        bench = Bench(rules, model, splits, start, first, progress)
        noise = run.step("noise", partial(share_wrong, bench))
        budget = given.candidates or candidates_per_round(noise, len(splits.train), given.rounds)
        result = bench.arm(kind, budget, out / "arms" / arm)
        baseline = run.step("clean", partial(bench.clean, out / "tuning-clean"))
        found[VALIDATION_ONLY] = found.get(VALIDATION_ONLY) or validation_only(model, splits, baseline, first)
        found[arm] = figures(splits, result, first, baseline)
    seconds = time.monotonic() - began
    summary = run.finish(metrics=found, controls={}, seconds=seconds, noise=noise, budget=budget, set=name, seed=seed)
    write_json(kept(out.parent, name, seed), summary)
    return found


def share_wrong(bench: Bench) -> float:
    """By the confident joint for every arm, whatever ranks, so that all have one budget."""
    return bench.noise_rate().by_joint


def kept(out: Path, name: str, seed: int | str) -> Path:
    """Where the figures of a finished unit stay."""
    return KEPT / out.name / f"{name}-{seed}.json"


def finished(out: Path) -> Iterator[dict[str, Any]]:
    """Results of the finished units."""
    for path in sorted((KEPT / out.name).glob("*.json")):
        yield json.loads(path.read_text())


def table(out: Path, sets: Sequence[str]) -> str:
    """The tables of docs/results.md, one a set: means over seeds, share of the gap with its interval."""
    import numpy as np

    from tracemend.evaluate import recovered_share

    lines: list[str] = []
    results = list(finished(out))
    for name in sets:
        mine = [r for r in results if r["set"] == name]
        if not mine:
            continue
        every = {
            key: np.mean([next(iter(r["metrics"].values()))[f"ap_{key}"] for r in mine])
            for key in ("clean", "corrupted")
        }
        lines += [
            f"**{name}**, {len(mine)} seed{'s' if len(mine) > 1 else ''}: AP clean {every['clean']:.3f}, corrupted "
            f"{every['corrupted']:.3f}",
            "",
            "| arm | AP repaired | share recovered (95 % interval) | detection AP | precision of acted |",
            "|---|---|---|---|---|",
        ]
        for arm in (*ARMS, VALIDATION_ONLY):
            rows = [r["metrics"][arm] for r in mine if arm in r["metrics"]]
            if not rows:
                continue
            ap = {k: np.array([row[f"ap_{k}"] for row in rows]) for k in ("clean", "corrupted", "repaired")}
            share = recovered_share(ap["clean"], ap["corrupted"], ap["repaired"])
            told = "gap within seed noise"
            if share.share == share.share:
                interval = f"{share.low:.2f} to {share.high:.2f}" if len(rows) > 1 else "one seed"
                told = f"{share.share:.2f} ({interval})"
            precision = [row["acted_precision"] for row in rows if row["acted_precision"] is not None]
            detected = [row["detection_ap"] for row in rows if row["detection_ap"] is not None]
            means = [f"{np.mean(values):.2f}" if values else "" for values in (detected, precision)]
            lines.append(f"| {arm} | {ap['repaired'].mean():.3f} | {told} | {means[0]} | {means[1]} |")
        lines.append("")
    return "\n".join(lines)


# What a unit's figures depend on beside its set and seed.
SETTINGS = ("model", "adapter", "train", "arms", "candidates", "cold", "epochs", "rounds")


def refuse_to_mix(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """End with a usage error where other settings than the defaults would land among the default figures."""
    if given.out.resolve() != OUT.resolve():
        return
    changed = [f"--{name}" for name in SETTINGS if getattr(given, name) != parser.get_default(name)]
    if changed:
        parser.error(f"{OUT} holds figures of the default settings; with {', '.join(changed)} name another --out.")


def main() -> None:
    """Run what is missing, two units at a time on a core each, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--adapter", default="prompt")
    parser.add_argument("--train", type=int, default=TRAIN, help="training examples; as many again for the other parts")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument(
        "--candidates", type=int, help="a round; default noise estimate x N / rounds, the paper's is 20"
    )
    parser.add_argument("--cold", action="store_true", help="tune afresh each round, as the paper does")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table", action="store_true", help="only print the table of what is finished")
    parser.add_argument("--unit", nargs=2, metavar=("SET", "SEED"), help="run one unit in this process")
    given = parser.parse_args()
    refuse_to_mix(parser, given)
    if given.unit:
        name, seed = given.unit[0], int(given.unit[1])
        folder = given.out / f"{name}-{seed}"
        unit(given, name, seed, folder)
        return
    if not given.table:
        units = [(name, str(seed)) for seed in range(given.seeds) for name in given.sets]
        waiting = [(name, seed) for name, seed in units if not kept(given.out, name, seed).exists()]
        running: list[tuple[tuple[str, str], subprocess.Popen[bytes]]] = []
        options = ["--model", given.model, "--adapter", given.adapter, "--epochs", str(given.epochs)]
        options += ["--rounds", str(given.rounds), "--train", str(given.train), "--out", str(given.out)]
        options += ["--arms", *given.arms, *(["--cold"] if given.cold else [])]
        options += ["--candidates", str(given.candidates)] if given.candidates else []
        environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 2) // given.workers))}
        while waiting or running:
            while waiting and len(running) < given.workers:
                work = waiting.pop(0)
                command = [sys.executable, __file__, "--unit", *work, *options]
                running.append((work, subprocess.Popen(command, env=environment)))
            for item in list(running):
                code = item[1].poll()
                if code is not None:
                    running.remove(item)
                    print(
                        f"{' '.join(item[0])}: {'done' if code == 0 else f'failed ({code})'}, {len(waiting)} waiting",
                        flush=True,
                    )
            time.sleep(1)
    print(table(given.out, given.sets))


if __name__ == "__main__":
    main()
