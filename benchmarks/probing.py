"""Probes beside the figures of the literature sheet, with their controls; and what they cost.

    python benchmarks/probing.py --only upos solver --seeds 0 --rows benchmarks/results/probing

Every acceptance line is printed with the prototype's figure, ours (mean and range over seeds), the bounds and whether
it holds. The data are those that TRACEMEND_DATA names (ud_ewt, gum, blimp, gap, pararel, sst2). Representations are
kept in --cache, so that a second run with the same seeds reads them; timings never do. Figures are kept in --rows, one
file a benchmark and seed: what lies there is printed and not measured again, so that the same command prints all.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Run as a file, a benchmark does not find its own package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.probes import lines, measures, of_attention, of_codes, of_prompts, of_spans, page
from tracemend.data import available_folder
from tracemend.runs import read_json, versions, write_json


def main() -> None:
    """Measure what is asked for, and print it beside the prototype."""
    given = _arguments()
    if given.page:
        command = "python benchmarks/probing.py --rows benchmarks/results/probing --page docs/probing-figures.md"
        given.page.write_text(page.page(given.rows, BENCHES, ("minilm", "smollm2"), command), encoding="utf-8")
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    for name in given.only or BENCHES:
        measure, wanted, data = BENCHES[name]
        seeds = given.seeds if name not in ONCE else given.seeds[:1]
        found = [_kept(given, name, seed) for seed in seeds]
        if None in found and data is not None and available_folder(data) is None:
            print(f"\n{name}: skipped, {data} is not here; set TRACEMEND_DATA", flush=True)
            continue
        for at, seed in enumerate(seeds):
            if found[at] is None:
                began = time.perf_counter()
                figures = dict(measure(given, seed))
                seconds = round(time.perf_counter() - began, 1)
                found[at] = {"settings": _settings(given, name), "figures": figures, "seconds": seconds,
                             "versions": versions()}  # fmt: skip
                if (path := _path(given, name, seed)) is not None:
                    write_json(path, found[at])
        rows = [one for one in found if one is not None]
        seconds = sum(one["seconds"] for one in rows)
        print(f"\n{name} ({seconds:.0f} s, seeds {', '.join(map(str, seeds))})")
        print(f"  {'':<38}{'sheet':>12}{'ours':>9}{'least':>9}{'most':>9}  holds")
        for line in wanted:
            # No head may have a pattern.
            values = [one["figures"][line.name] for one in rows if line.name in one["figures"]]
            if values:
                _print(line, values)
        sys.stdout.flush()


def _settings(given: argparse.Namespace, name: str) -> dict[str, Any]:
    """The options that change what a benchmark measures."""
    return {option: getattr(given, option) for option in SIZES.get(name.partition("-")[0], ())}


def _path(given: argparse.Namespace, name: str, seed: int) -> Path | None:
    """Where the figures of a benchmark and seed are kept."""
    of = "" if name not in OF_LAYERS or given.model == "minilm" else f"-{given.model}"
    return given.rows / f"{name}{of}-{seed}.json" if given.rows else None


def _kept(given: argparse.Namespace, name: str, seed: int) -> dict[str, Any] | None:
    """What was measured before, of the same settings."""
    path = _path(given, name, seed)
    if path is None or not path.exists():
        return None
    found: dict[str, Any] = read_json(path)
    if found["settings"] != _settings(given, name):
        raise SystemExit(
            f"{path} was measured with {found['settings']}, not {_settings(given, name)}; take other --rows."
        )
    return found


def _print(line: lines.Line, values: list[float]) -> None:
    mean = statistics.mean(values)
    low = "" if line.low is None else f"{line.low:.3g}"
    high = "" if line.high is None else f"{line.high:.3g}"
    verdict = "" if not (low or high) else "yes" if line.holds(values) else "NO"
    spread = f" ({min(values):.3f}-{max(values):.3f})" if len(values) > 1 else ""
    print(f"  {line.name:<38}{line.sheet:>12}{mean:>9.3f}{low:>9}{high:>9}  {verdict}{spread}")


BENCHES: dict[str, tuple[Callable[[argparse.Namespace, int], measures.Figures], list[lines.Line], str | None]] = {
    "upos": (measures.upos, lines.UPOS, "ud_ewt"),
    "codes": (of_codes.codes, lines.CODES, "ud_ewt"),
    "mlp": (measures.mlp, lines.MLP, "ud_ewt"),
    "neighbour": (measures.neighbour, lines.NEIGHBOUR, "ud_ewt"),
    "sentences": (measures.sentences, lines.SENTENCES, "ud_ewt"),
    "structural": (measures.structural, lines.STRUCTURAL, "ud_ewt"),
    "poincare": (measures.poincare, lines.POINCARE, "ud_ewt"),
    "blimp": (measures.blimp, lines.BLIMP, "blimp"),
    "marvin": (measures.marvin, lines.MARVIN, "marvin_linzen"),
    "dependency": (of_spans.dependency, lines.DEPENDENCY, "ud_ewt"),
    "untrained": (of_spans.untrained, lines.UNTRAINED, "ud_ewt"),
    "entities": (of_spans.entities, lines.ENTITIES, "gum"),
    "tasks": (of_spans.tasks, lines.TASKS, "pararel"),
    "edges": (of_spans.edges, lines.EDGES, "gum"),
    "pronouns": (measures.pronouns, lines.PRONOUNS, "gum"),
    "gap": (measures.gap, lines.GAP, "gap"),
    "facts": (of_prompts.facts, lines.FACTS, "pararel"),
    "heads": (of_attention.heads, lines.HEADS, "ud_ewt"),
    "patterns": (of_attention.patterns, lines.PATTERNS, "ud_ewt"),
    "pruning": (of_attention.pruning, lines.PRUNING, "sst2"),
    "trace": (of_attention.trace, lines.TRACE, "ud_ewt"),
    "prompting": (of_prompts.prompting, lines.PROMPTING, "sst2"),
    "prefix": (of_prompts.prefix, lines.PREFIX, "sst2"),
    "wordings": (of_prompts.wordings, lines.WORDINGS, "pararel"),
    "hypernyms": (of_prompts.hypernyms, lines.HYPERNYMS, "lm_diagnostics"),
    **{
        f"search-{relation}": (partial(of_prompts.search, relation=relation), lines.SEARCH, "pararel")
        for relation in ("P1376", "P176", "P30")
    },
    "extraction": (measures.extraction, lines.EXTRACTION, "ud_ewt"),
    "solver": (measures.solver, lines.SOLVER, "ud_ewt"),
}
# Timings, which no seed changes.
ONCE = ("extraction",)
# Those that read layers, of the model that is named.
OF_LAYERS = ("upos", "mlp", "neighbour", "sentences", "structural", "poincare", "dependency", "entities", "tasks",
             "edges", "gap", "pronouns")  # fmt: skip
# The options that a benchmark's figures hang on.
SIZES = {
    "blimp": ("pairs",), "marvin": ("pairs",), "facts": ("patterns",), "pruning": ("pruned", "sentences"),
    "prompting": ("texts",), "prefix": ("tuned", "rate"), "search": ("facts",),
}  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(BENCHES), help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", default="minilm", help=f"of {', '.join(OF_LAYERS)}")
    parser.add_argument("--pairs", type=int, default=2, help="minimal pairs of each paradigm")
    parser.add_argument("--texts", type=int, default=20, help="texts that prompts are tested on")
    parser.add_argument("--sentences", type=int, default=1000, help="that the pruned classifier is tuned on")
    parser.add_argument("--pruned", type=int, default=150, help="texts that pruned heads are tested on")
    parser.add_argument("--tuned", type=int, default=48, help="texts that a prefix is tuned on")
    parser.add_argument("--rate", type=float, default=1e-2, help="highest learning rate of the prefix")
    parser.add_argument("--facts", type=int, default=18, help="facts of a relation that prompts are searched for")
    parser.add_argument("--patterns", type=int, default=1, help="patterns of each relation")
    parser.add_argument("--cache", type=Path, help="folder of representations")
    parser.add_argument("--page", type=Path, help="measure nothing: write all figures of --rows to this Markdown file")
    parser.add_argument("--rows", type=Path, help="folder of figures, a file a benchmark and seed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
