"""Per-example gradients beside one plain PEFT training step of the same batch, and beside other libraries.

    python benchmarks/speed.py                     # all models, adapters, lengths and precisions (about an hour)
    python benchmarks/speed.py --quick --json      # minilm, and smollm2 at the shortest length
    python benchmarks/speed.py --peers             # with the other libraries (first: make bench-peers)

The step is forward and backward through the frozen base with the adapter's summed gradients, without an optimizer, in
eval mode: same batch, precision, attention and threads, and the loss at the answer's position alone. All that is
compared takes turns in one run; a ratio is that of the same turn, and the table gives the median and the quartiles.
Gradients are materialised [B, P], a pooled head's as its two factors. Errors are norms of differences from the
gradients of one example at a time in fp32, as a share of the reference's norm: of the adapter or the head, the larger.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.peers.case import Case, Prepared

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

LENGTHS = (32, 64, 128)
ADAPTERS = ("prompt", "lora", "prefix", "ia3", "head")
# The ones that the published bounds are about.
BOUNDED = {"prompt": 1.05, "lora": 1.15}


def main() -> None:
    """Measure and print."""
    given = _arguments()
    found: dict[str, Any] = {"machine": _machine(given.threads), "rows": [], "peers": []}
    for case in () if given.peers_only else cases(given):
        _say(given, case)
        found["rows"].append(row(case, given.repeats))
        _keep(given, found)
    if given.peers or given.peers_only:
        for case in peer_cases(given):
            _say(given, case)
            found["peers"] += peer_rows(case, given.repeats, given.only)
            _keep(given, found)
    found |= summary(found["rows"])
    if not given.no_scoring:
        found["scoring_share_of_matmul"] = _other("scoring.py", "share_of_matmul", "--share")
        if not given.quick:
            found["live_overhead"] = _other("live.py", "live_overhead")
    _keep(given, found)
    print(json.dumps(found, indent=2) if given.json else "\n".join(tables(found)))


def cases(given: argparse.Namespace) -> Iterator[Case]:
    """What is compared with the plain step."""
    from benchmarks.peers.case import Case

    common: dict[str, Any] = {"batch": given.batch, "attention": given.attention, "threads": given.threads}
    for model in given.models:
        for adapter in given.adapters:
            if adapter == "head" and model in ("smollm2", "tiny-llama"):
                continue  # it answers by words and has no head
            for length in given.lengths:
                # Under five minutes: not the longest, and of the larger model only the shortest.
                if given.quick and length > sorted(given.lengths)[:2][0 if model == "smollm2" else -1]:
                    continue
                for precision in given.precisions:
                    yield Case(model=model, adapter=adapter, length=length, precision=precision, **common)


def peer_cases(given: argparse.Namespace) -> Iterator[Case]:
    """What the other libraries are asked for: fp32, classification, and next tokens where bergson has its turn."""
    from benchmarks.peers.case import Case

    common: dict[str, Any] = {"batch": given.batch, "attention": given.attention, "threads": given.threads}
    for model in given.models:
        for length in given.lengths:
            for adapter in BOUNDED:
                if adapter in given.adapters:
                    yield Case(model=model, adapter=adapter, length=length, **common)
            if "lora" in given.adapters and model in ("smollm2", "tiny-llama"):
                yield Case(model=model, adapter="lora", task="language", length=length, **common)


def row(case: Case, repeats: int) -> dict[str, Any]:
    """One line of the table of ratios."""
    from benchmarks.peers.case import prepare

    prepared = prepare(case)
    work = {"step": step(prepared), "ours": ours(prepared)}
    far = errors(prepared)
    seconds = take_turns(work, repeats, warm=("step",))
    return {**case.spec, **_ratio(seconds["ours"], seconds["step"]), **far, "seconds": seconds}


def peer_rows(case: Case, repeats: int, only: Sequence[str]) -> list[dict[str, Any]]:
    """The plain step, Tracemend and the peers on one case, all in turn."""
    from benchmarks.peers.case import prepare
    from benchmarks.peers.client import PEERS, Driver

    prepared = prepare(case)
    rows: list[dict[str, Any]] = []
    with ExitStack() as running:
        wanted = [p for p in PEERS if not only or p.driver in only or p.name in only]
        drivers = [running.enter_context(Driver(p, case)) for p in wanted]
        work = {"step": step(prepared), "ours": ours(prepared)}
        work |= {driver.peer.name: driver.seconds for driver in drivers if driver.able}
        # A driver times itself: what passes between the processes is not the peer's.
        seconds = take_turns(work, repeats, timed=set(work) - {"step", "ours"})
        rows += [
            {**case.spec, "peer": name, "status": "ok", **_ratio(seconds[name], seconds["ours"])}
            for name in ("step", "ours")
        ]
        for driver in drivers:
            one = {**case.spec, **driver.answer, "peer": driver.peer.name}
            if driver.able:
                one |= {**_ratio(seconds[driver.peer.name], seconds["ours"]), "seconds": seconds[driver.peer.name]}
            rows.append(one)
    return rows


def step(prepared: Prepared) -> Callable[[], object]:
    """Forward and backward of one training step, the parameters' gradients summed over the batch."""
    classifier, precision = prepared.classifier, prepared.case.precision
    parameters = list(classifier.trainable().values())

    def once() -> None:
        for parameter in parameters:
            parameter.grad = None
        with classifier.precision(precision):
            losses, _ = classifier.measure(classifier.batch(prepared.rows), prepared.y)
        losses.sum().backward()

    return once


def ours(prepared: Prepared) -> Callable[[], object]:
    """One call of the engine that Tracemend chooses for this adapter, without its check."""
    from tracemend.trace.gradients.engine import Batched, evaluation

    engine, classifier = Batched(prepared.classifier), prepared.classifier

    def once() -> object:
        with evaluation(classifier.network), classifier.precision(prepared.case.precision):
            return engine(prepared.rows, prepared.y)

    return once


def take_turns(
    work: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    timed: set[str] | None = None,
    warm: Sequence[str] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each, ``repeats`` rounds in which each has one turn, beginning elsewhere each time.

    Args:
        timed: those that return their own seconds.
        warm: those that run once before, so that what is compiled or allocated once is not measured; default all.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for name in work if warm is None else warm:
        work[name]()
    names = list(work)
    for turn in range(repeats):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.perf_counter()
            returned = work[name]()
            passed = time.perf_counter() - began
            seconds[name].append(float(returned) if timed and name in timed else passed)  # type: ignore[arg-type]
    return seconds


def errors(prepared: Prepared) -> dict[str, float]:
    """The largest relative error against one example at a time; in bf16 also against that way in bf16."""
    import torch

    from tracemend.trace.gradients.engine import Batched, Loop, evaluation

    classifier, engine = prepared.classifier, Batched(prepared.classifier)
    loop = Loop(classifier)
    # Four examples tell as much as all, at an eighth of the loop's price; the batch is the whole one.
    few = list(prepared.rows[:4]), prepared.y[:4]
    with evaluation(classifier.network):
        references = {"fp32": loop(*few).gradients}
        with classifier.precision(prepared.case.precision):
            found = engine(prepared.rows, prepared.y).gradients[: len(few[0])]
            if prepared.case.precision == "bf16":
                references["bf16"] = loop(*few).gradients
    parts: dict[str, list[str]] = {}
    for block in loop.layout:
        parts.setdefault("head" if block.group == "head" else "adapter", []).append(block.name)
    largest = dict.fromkeys(references, 0.0)
    for i, one in enumerate(found):
        by_name = engine.chain(one)
        for name, reference in references.items():
            expected = {block.name: reference[i, block.columns] for block in loop.layout}
            for part in parts.values():
                mine = torch.cat([by_name[n].flatten().double() for n in part])
                theirs = torch.cat([expected[n].double() for n in part])
                largest[name] = max(largest[name], float((mine - theirs).norm() / theirs.norm()))
    return {"error": largest["fp32"]} | ({"error_same_precision": largest["bf16"]} if "bf16" in largest else {})


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures that have bounds; the worst of models and lengths, None where nothing was measured."""

    def worst(key: str, **wanted: str) -> float | None:
        values = [row[key] for row in rows if all(row[k] == v for k, v in wanted.items())]
        return max(values) if values else None

    return {
        "prompt_ratio": worst("ratio", adapter="prompt", precision="fp32"),
        "lora_ratio": worst("ratio", adapter="lora", precision="fp32"),
        "prompt_ratio_bf16": worst("ratio", adapter="prompt", precision="bf16"),
        "lora_ratio_bf16": worst("ratio", adapter="lora", precision="bf16"),
        "max_rel_error": worst("error", precision="fp32"),
        "max_rel_error_bf16": worst("error", precision="bf16"),
        "max_rel_error_bf16_same_precision": worst("error_same_precision", precision="bf16"),
    }


def tables(found: Mapping[str, Any]) -> Iterator[str]:
    """What was found as Markdown."""
    yield " · ".join(str(value) for value in found["machine"].values()) + "\n"
    yield "| model | adapter | length | precision | step, ms | ratio | quartiles | bound | max rel. error |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for one in found["rows"]:
        bound = BOUNDED.get(one["adapter"], "")
        yield (
            f"| {one['model']} | {one['adapter']} | {one['length']} | {one['precision']} | {one['base_ms']:.0f} | "
            f"{one['ratio']:.3f} | {one['low']:.3f} to {one['high']:.3f} | {bound} | {one['error']:.1e} |"
        )
    if found["peers"]:
        yield "\n| model | adapter | length | loss | library | version | ms | times ours | quartiles | why it cannot |"
        yield "|---|---|---|---|---|---|---|---|---|---|"
    for one in found["peers"]:
        figures = " | | | " + one.get("reason", "").replace("|", "\\|")
        if one["status"] == "ok":
            figures = f" {one['ms']:.0f} | {one['ratio']:.2f} | {one['low']:.2f} to {one['high']:.2f} | "
        yield (
            f"| {one['model']} | {one['adapter']} | {one['length']} | {one['task']} | {one['peer']} | "
            f"{one.get('version') or ''} |{figures} |"
        )
    yield ""
    for name, value in found.items():
        if name not in ("machine", "rows", "peers"):
            yield f"- {name}: {value if value is None else format(value, '.3g')}"


def _ratio(seconds: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of the ratio of each turn, and both medians in milliseconds."""
    import numpy as np

    low, middle, high = np.quantile(np.array(seconds) / np.array(base), [0.25, 0.5, 0.75])
    return {
        "ms": 1000 * float(np.median(seconds)),
        "base_ms": 1000 * float(np.median(base)),
        "ratio": float(middle),
        "low": float(low),
        "high": float(high),
    }


def _other(file: str, key: str, *options: str) -> float | None:
    """A figure of another benchmark, run in a process of its own; None where that is not there or fails."""
    if not (HERE / file).exists():
        print(f"{file} is not there, so that {key} is not measured", file=sys.stderr)
        return None
    command = [sys.executable, str(HERE / file), "--json", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        print(f"{file} ended with code {done.returncode}, so that {key} is not known", file=sys.stderr)
        return None
    return float(json.loads(done.stdout)[key])


def _keep(given: argparse.Namespace, found: Mapping[str, Any]) -> None:
    """What was measured so far, in case the rest is not."""
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=2) + "\n")


def _machine(threads: int) -> dict[str, str]:
    import peft
    import torch
    import transformers

    return {
        "processor": _processor(),
        "threads": f"{threads} threads",
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}",
    }


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _say(given: argparse.Namespace, case: Case) -> None:
    if not given.quiet:
        print(f"{case.model} {case.adapter} {case.task} {case.length} {case.precision}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="prompt and LoRA in fp32; minilm at two lengths, smollm2 at one"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--out", type=Path, help="write the JSON there besides")
    parser.add_argument("--peers", action="store_true", help="with the other libraries")
    parser.add_argument("--peers-only", action="store_true", help="the other libraries alone")
    parser.add_argument("--only", nargs="+", default=(), metavar="PEER", help="of the peers, only these")
    parser.add_argument("--models", nargs="+", default=("minilm", "smollm2"))
    parser.add_argument("--adapters", nargs="*", default=None, metavar="ADAPTER", help=", ".join(ADAPTERS))
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    parser.add_argument("--precisions", nargs="+", default=None, choices=("fp32", "bf16"))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--attention", default="eager", choices=("eager", "sdpa"))
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    parser.add_argument("--no-scoring", action="store_true", help="leave the other benchmarks out")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args()
    if given.adapters is None:
        given.adapters = tuple(BOUNDED) if given.quick else ADAPTERS
    if given.precisions is None:
        given.precisions = ("fp32",) if given.quick else ("fp32", "bf16")
    return given


if __name__ == "__main__":
    main()
