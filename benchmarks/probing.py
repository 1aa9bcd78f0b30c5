"""Probes beside the figures of the literature sheet, with their controls; and what they cost.

    python benchmarks/probing.py --only upos solver --seeds 1

Every acceptance line is printed with the prototype's figure, ours (mean and range over seeds), the bounds and whether
it holds. The data are those that TRACEMEND_DATA names (ud_ewt, gum, blimp, gap, pararel, sst2). Representations are
kept in --cache, so that a second run with the same seeds reads them; timings never do.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Run as a file, a benchmark does not find its own package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.probes import lines, measures, of_attention, of_codes
from tracemend.data import available_folder
from tracemend.runs import versions, write_json


def main() -> None:
    """Measure what is asked for, and print it beside the prototype."""
    given = _arguments()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    found: dict[str, Any] = {"versions": versions()}
    for name in given.only or BENCHES:
        measure, wanted, data = BENCHES[name]
        if data is not None and available_folder(data) is None:
            print(f"\n{name}: skipped, {data} is not here; set TRACEMEND_DATA", flush=True)
            continue
        began = time.perf_counter()
        seeds = [measure(given, seed) for seed in range(given.seeds if name not in ONCE else 1)]
        seconds = time.perf_counter() - began
        found[name] = {"figures": seeds, "seconds": round(seconds, 1)}
        print(f"\n{name} ({seconds:.0f} s, {len(seeds)} seeds)")
        print(f"  {'':<34}{'sheet':>12}{'ours':>9}{'least':>9}{'most':>9}  holds")
        for line in wanted:
            _print(line, [one[line.name] for one in seeds])
        sys.stdout.flush()
    if given.out:
        write_json(given.out, found)


def _print(line: lines.Line, values: list[float]) -> None:
    mean = statistics.mean(values)
    low = "" if line.low is None else f"{line.low:.3g}"
    high = "" if line.high is None else f"{line.high:.3g}"
    holds = (line.low is None or min(values) >= line.low) and (line.high is None or max(values) <= line.high)
    verdict = "" if not (low or high) else "yes" if holds else "NO"
    spread = f" ({min(values):.3f}-{max(values):.3f})" if len(values) > 1 else ""
    print(f"  {line.name:<34}{line.sheet:>12}{mean:>9.3f}{low:>9}{high:>9}  {verdict}{spread}")


BENCHES: dict[str, tuple[Callable[[argparse.Namespace, int], measures.Figures], list[lines.Line], str | None]] = {
    "upos": (measures.upos, lines.UPOS, "ud_ewt"),
    "codes": (of_codes.codes, lines.CODES, "ud_ewt"),
    "mlp": (measures.mlp, lines.MLP, "ud_ewt"),
    "neighbour": (measures.neighbour, lines.NEIGHBOUR, "ud_ewt"),
    "sentences": (measures.sentences, lines.SENTENCES, "ud_ewt"),
    "structural": (measures.structural, lines.STRUCTURAL, "ud_ewt"),
    "blimp": (measures.blimp, lines.BLIMP, "blimp"),
    "dependency": (measures.dependency, lines.DEPENDENCY, "ud_ewt"),
    "entities": (measures.entities, lines.ENTITIES, "gum"),
    "tasks": (measures.tasks, lines.TASKS, "pararel"),
    "gap": (measures.gap, lines.GAP, "gap"),
    "facts": (measures.facts, lines.FACTS, "pararel"),
    "heads": (of_attention.heads, lines.HEADS, "ud_ewt"),
    "patterns": (of_attention.patterns, lines.PATTERNS, "ud_ewt"),
    "pruning": (of_attention.pruning, lines.PRUNING, "sst2"),
    "trace": (of_attention.trace, lines.TRACE, "ud_ewt"),
    "prompting": (measures.prompting, lines.PROMPTING, "sst2"),
    "extraction": (measures.extraction, lines.EXTRACTION, "ud_ewt"),
    "solver": (measures.solver, lines.SOLVER, "ud_ewt"),
}
# Timings, which no seed changes.
ONCE = ("extraction",)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(BENCHES), help="default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=2, help="minimal pairs of each paradigm")
    parser.add_argument("--texts", type=int, default=50, help="texts that prompts are tested on")
    parser.add_argument("--pruned", type=int, default=500, help="texts that pruned heads are tested on")
    parser.add_argument("--patterns", type=int, default=1, help="patterns of each relation")
    parser.add_argument("--cache", type=Path, help="folder of representations")
    parser.add_argument("--out", type=Path, help="JSON file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
