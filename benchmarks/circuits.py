"""Figures of the circuits room on smollm2, beside the reference figures they were designed with.

python -m benchmarks.circuits hooks
python -m benchmarks.circuits logits
python -m benchmarks.circuits induction
python -m benchmarks.circuits patch        (data: TRACEMEND_DATA, ioi_prompts)
python -m benchmarks.circuits trace-facts  (data: TRACEMEND_DATA, known_1000)
python -m benchmarks.circuits layers       (data: TRACEMEND_DATA, sst2)
python -m benchmarks.circuits structure
python -m benchmarks.circuits families     (data: TRACEMEND_DATA, sst2, ud_ewt)
python -m benchmarks.circuits banding
python -m benchmarks.circuits letters
python -m benchmarks.circuits edit         (data: TRACEMEND_DATA, pararel, ud_ewt)
python -m benchmarks.circuits memories     (data: TRACEMEND_DATA, ud_ewt)
python -m benchmarks.circuits subupdates   (data: TRACEMEND_DATA, ud_ewt)
python -m benchmarks.circuits superposition
python -m benchmarks.circuits features     (data: TRACEMEND_DATA, sst2)
python -m benchmarks.circuits graph        (data: TRACEMEND_DATA, ioi_prompts)
python -m benchmarks.circuits prune        (data: TRACEMEND_DATA, ioi_prompts)

``trace-facts-short``, ``layers-short`` and ``features-short`` take fewer facts, tokens and steps. Each of the
others takes less than ten minutes on one core.
``expected`` are figures measured once with other code on the same weights; ``found`` are ours, ``control`` those of the
control arm. ``--json`` prints them as JSON, ``--keep`` writes them to ``benchmarks/results/circuits``, and ``--table``
prints what is kept there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch

from benchmarks.circuits_neurons import Line, edit, features, memories, subupdates, superposition
from benchmarks.circuits_structure import banding, families, letters
from benchmarks.circuits_table import keep, shown, tables
from tracemend.circuits import Graph, Induction, Layers, Logits, Patch, Repeats, Structure, TraceFacts
from tracemend.data import available, reference
from tracemend.data.prompts import Contrasts, PromptPairs, Texts, reference_facts, reference_indirect_objects
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel, capture, load, sites

PROMPT = "Then, Mary and John went to the store. John gave a drink to"


def main() -> None:
    """Measure one method and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=sorted(BENCHMARKS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write the rows to benchmarks/results/circuits")
    parser.add_argument("--table", action="store_true", help="the tables of docs/results.md, from the rows kept")
    given = parser.parse_args()
    if given.table or given.name is None:
        print(tables())
        return
    warnings.filterwarnings("ignore")
    model = load("smollm2")
    began = time.process_time()
    lines = BENCHMARKS[given.name](model)
    lines.append(("processor seconds", None, round(time.process_time() - began), None))
    if given.keep:
        keep(given.name, lines)
    if given.json:
        rows = [dict(zip(("figure", "expected", "found", "control"), line, strict=True)) for line in lines]
        print(json.dumps(rows, indent=2))
        return
    print(f"{'figure':<44} {'expected':>14} {'found':>14} {'control':>14}")
    for name, *values in lines:
        print(f"{name:<44} {' '.join(f'{shown(v):>14}' for v in values)}")


@torch.inference_mode()
def hooks(model: LanguageModel) -> list[Line]:
    """A forward pass with every residual site captured beside a plain one, in turn; processor time. What is held."""
    streams = [s.name for s in sites(model) if "hook_resid" in s.name]
    every = [s.name for s in sites(model) if "pattern" in s.name or "hook_resid" in s.name]
    lines: list[Line] = []
    drawn = torch.randint(1000, 40000, (1, 1000), generator=torch.Generator().manual_seed(0))
    for ids in (drawn[:, :512], drawn):
        length = ids.shape[1]
        seconds: dict[str, list[float]] = {"plain": [], "captured": []}
        for _ in range(6):
            for name, names in (("plain", []), ("captured", streams)):
                began = time.process_time()
                _held(model, ids, names)
                seconds[name].append(time.process_time() - began)
        plain, captured = (np.array(seconds[name][1:]) for name in ("plain", "captured"))  # the first of each warms up
        lines += [
            (f"captured / plain, {length} tokens, median", "<= 1.1", float(np.median(captured / plain)), None),
            (f"captured / plain, {length} tokens, fastest", "<= 1.1", float(captured.min() / plain.min()), None),
            (f"plain forward, {length} tokens, s", None, float(np.median(plain)), None),
        ]
    config, length = model.config, drawn.shape[1]
    # The stream before a block is the one after the block before it, so two streams a block and the first one.
    announced = 4 * length * (2 * config.num_hidden_layers + 1) * config.hidden_size
    announced += 4 * config.num_hidden_layers * config.num_attention_heads * length**2
    return [
        *lines,
        (f"memory, {length} tokens, MiB announced", None, announced / 2**20, None),
        (f"memory, {length} tokens, MiB held", "+- 10 %", _held(model, drawn, every) / 2**20, None),
    ]


def _held(model: LanguageModel, ids: torch.Tensor, names: list[str]) -> int:
    """Bytes that a forward pass leaves captured."""
    if not names:
        model.network(ids, use_cache=False)
        return 0
    with capture(model, names) as seen:
        model.network(ids, use_cache=False)
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in seen.values()}.values())


def logits(model: LanguageModel) -> list[Line]:
    """One prompt of indirect objects, and the reference set."""
    row = {"prompt": PROMPT, "answer": "Mary", "foil": "John"}
    one = Logits().run(model, Contrasts.make([row]))
    heads = one.parts("head").set_index(["layer", "index"])["value"]
    many = Logits().run(model, _known_pairs(model, 24).contrasts)
    return [
        ("logit difference", 5.05, one.metrics["logit_difference"], one.controls["logit_difference"]),
        ("L23H3, direct", 2.64, float(heads[23, 3]), None),
        ("L29H1, direct", 2.12, float(heads[29, 1]), None),
        ("sum of parts, largest deviation", "< 0.001", one.metrics["sum_gap"], None),
        ("24 prompts: logit difference", None, many.metrics["logit_difference"], many.controls["logit_difference"]),
        ("24 prompts: five best heads", None, many.metrics["top_heads"], many.controls["top_heads"]),
        ("24 prompts: answer preferred", None, many.metrics["answer_preferred"], None),
        ("24 prompts: best head", None, _heads(many.parts("head"), "index"), None),
    ]


def induction(model: LanguageModel) -> list[Line]:
    """Eight texts of 50 random tokens said twice."""
    found = Induction().run(model, Repeats.draw(model, length=50, count=8))
    rows, m, c = found.table(), found.metrics, found.controls
    previous = rows.sort_values("previous", ascending=False)
    plain, other, matrices = c["not repeated"], c["random heads"], c["random matrices"]
    losses = {1: 5.0, 3: 7.1, 5: 10.3, 10: 12.0, 20: 12.5}
    chance = {10: "3.1 3.4 4.6"}
    return [
        ("loss, first copy", 14.17, m["loss_first"], None),
        ("loss, second copy", 3.02, m["loss_repeat"], None),
        ("heads above 0.3", 8, m["heads"], plain["heads"]),
        ("best induction score", 0.90, m["best"], plain["best"]),
        ("best induction heads", "L18H6 L17H3", _heads(rows, "head"), None),
        ("median", 0.004, m["median"], plain["median"]),
        ("best previous-token score", 0.88, m["previous_best"], None),
        ("previous-token heads", "L16H0 L11H1", _heads(previous, "head"), None),
        ("copying of the 5 best", None, float(rows["copying"][:5].mean()), float(rows["copying"][5:].mean())),
        *((f"loss without the {n} best", e, m[f"loss_without_{n}"], other[f"loss_without_{n}"])
          for n, e in losses.items()),
        ("  random heads instead, 10, reference", chance[10], None, other["loss_without_10"]),
        ("K-composition, best previous-token head", "0.15-0.17", m["k_composition"], None),
        ("K-composition, random pairs", 0.045, None, other["k_composition"]),
        ("K-composition, random matrices", 0.041, None, matrices["k_composition"]),
        *((f"{kind.upper()}-composition, the same heads", None, m[f"{kind}_composition"],
           f"pairs {other[f'{kind}_composition']:.3f}, matrices {matrices[f'{kind}_composition']:.3f}")
          for kind in "qv"),
    ]  # fmt: skip


def patch(model: LanguageModel) -> list[Line]:
    """Eight pairs of the reference set of indirect objects."""
    found = Patch().run(model, _known_pairs(model, 8))
    m, placebo, other = found.metrics, found.controls["placebo"], found.controls.get("other pair", {})
    heads, direct = found.part("heads"), found.part("direct")
    return [
        ("patching nothing", 0.0, m["nothing"], None),
        ("patching everything", 1.0, m["everything"], None),
        ("clean, logits", None, m["clean"], m["corrupted"]),
        ("handover to the last position, layer", None, m["handover"], None),
        *((f"best effect, {part}", None, m[f"best_{part}"], placebo[f"best_{part}"])
          for part in ("attention", "mlp", "heads", "direct")),
        *((f"  another pair's, {part}", None, None, other.get(f"best_{part}"))
          for part in ("attention", "mlp", "heads", "direct")),
        ("best heads", None, _heads(heads, "head"), None),
        ("best direct", "L23H3 L29H1", _heads(direct[direct["head"] >= 0], "head"), None),
        ("sites with p < 0.05", None, f"{int(m['shown'])} of {len(found.rows)}", None),
        ("smallest p", None, float(found.rows["p"].min()), None),
    ]  # fmt: skip


def trace_facts(model: LanguageModel, *, short: bool = False) -> list[Line]:
    """Ten known facts, every third layer, the state alone (as the reference was taken); short: three facts, draws."""
    method = TraceFacts(kinds=("state",), stride=3)
    if short:
        method = replace(method, most=3, draws=3)
    found = method.run(model, reference_facts())
    rows = found.table().set_index(["layer", "place"])["effect"]
    m, c = found.metrics, found.controls
    lines: list[Line] = [
        ("facts traced (p > 0.3)", 10, m["facts"], None),
        ("p clean", 0.69, m["p_clean"], None),
        ("p corrupted", 0.08, m["p_corrupted"], None),
    ]
    expected: dict[str, dict[int, float | str]] = {
        "subject last": {0: 0.07, 3: "0.12-0.135", 12: "0.12-0.135", 21: 0.075, 24: 0.006},
        "last": {0: 0.001, 9: 0.02, 12: 0.02, 21: 0.12, 24: 0.53},
    }
    for place, by_layer in expected.items():
        lines += [(f"{place}, layer {i}", e, float(rows[i, place]), None) for i, e in by_layer.items()]
    outside = found.table()[found.table()["place"] == "outside"]["effect"]
    lines.append(("a token outside, largest", "<= 0.05", None, float(outside.max())))
    lines.append(("without noise, largest", 0.0, None, c["no noise"]["last_state"]))
    return lines


def layers(model: LanguageModel, *, short: bool = False) -> list[Line]:
    """Sentences of film reviews, joined to eight texts of 256 tokens; short: two of 64."""
    frame = reference("sst2").frame
    joined = [" ".join(frame["text"][i : i + 14]) for i in range(0, 28 if short else 112, 14)]
    found = Layers(tokens=64 if short else 256).run(model, Texts.make([{"text": text} for text in joined]))
    m, placebo, rows = found.metrics, found.controls["placebo"], found.table().set_index("layer")
    expected = {0: 7.5, 1: 3.2, 11: 1.8, 28: 1.3, 29: 2.6}
    return [
        ("loss", 4.04, m["loss"], None),
        ("loss, nothing left out", "the same", found.controls["nothing"]["loss"], None),
        *((f"rise without layer {i}", e, float(rows["removed"][i]), float(rows["placebo"][i]))
          for i, e in expected.items()),
        ("median rise", 0.28, m["removed"], placebo["removed"]),
        ("layers that cost <= 0.3", 19, m["cheap"], placebo["cheap"]),
        ("agreement", None, m["agreement"], placebo["agreement"]),
        ("median rise, neighbours swapped", None, m["swapped"], None),
        ("median compensation", None, m["compensation"], None),
    ]  # fmt: skip


def structure(model: LanguageModel) -> list[Line]:
    """Groups of three heads, on sixteen texts of 25 random tokens said twice."""
    found = Structure().run(model, Repeats.draw(model, length=25, count=16))
    m, permuted = found.metrics, found.controls["permuted"]
    expected = {
        "induction": (0.62, 0.0015),
        "previous": (0.33, 0.022),
        "duplicate": (0.36, 0.024),
        "first": (0.34, 0.038),
    }
    lines: list[Line] = []
    for name, (eta2, p) in expected.items():
        lines.append((f"eta2, {name}", eta2, m[f"eta2_{name}"], permuted[f"eta2_{name}"]))
        lines.append((f"  p, {name}", p, m[f"p_{name}"], None))
    stretched = found.controls["stretched"]["shift"]
    lines.append(("change of logits, positions shifted", "< 0.0001", f"{m['shift']:.2g}", f"{stretched:.3g}"))
    return lines


def graph(model: LanguageModel) -> list[Line]:
    """Eight pairs of the reference set of indirect objects: four choose the edges, four judge them."""
    found = Graph(checked=8, draws=3, shares=(0.01, 0.05, 0.1)).run(model, _known_pairs(model, 8))
    m, other, plain = found.metrics, found.controls["random edges"], found.controls["one step"]
    lines: list[Line] = [
        ("all edges; none", "1; 0", f"{m['everything']:.4f}; {m['nothing']:.4f}", None),
        ("faithfulness, 10 % of the edges", ">= 0.8", m["faithfulness"], f"random {other['faithfulness']:.3f}"),
        ("  spread of random circuits", None, None, found.facts["spread of random faithfulness"]),
        ("  on the pairs that chose", None, found.controls["pairs that chose"]["faithfulness"], None),
        ("  one step instead", None, plain["faithfulness"], None),
        ("completeness", None, m["completeness"], f"random {other['completeness']:.3f}"),
        ("minimality", None, f"{m['minimality']:.5f}", f"random {other['minimality']:.5f}"),
        ("smallest share with 0.8", "<= 0.1", m["smallest"], None),
        ("correlation with single edges", None, m["correlation"], f"one step {plain['correlation']:.3f}"),
    ]
    lines += [
        (f"{row['edges']} edges ({row['share']:.1%}): faithfulness; completeness", None,
         f"{row['faithfulness']:.3f}; {row['completeness']:.3f}",
         f"{row['faithfulness_random']:.3f} ± {row['faithfulness_spread']:.3f}; {row['completeness_random']:.3f} ± "
         f"{row['completeness_spread']:.3f}")
        for row in found.sizes.to_dict("records")
    ]  # fmt: skip
    top = found.table().head(8).to_dict("records")
    return lines + [(f"{row['writer']} -> {row['reader']}", None, row["score"], None) for row in top]


def prune(model: LanguageModel) -> list[Line]:
    """The 100 strongest edges for two pairs of indirect objects, one by one, judged by two others."""
    how = Graph(shares=(0.005,), checked=2, draws=3, prune=100, tau=0.01)
    found = how.run(model, _known_pairs(model, 4))
    m, c = found.metrics, found.controls
    lines: list[Line] = [("edges of 100 that stay", None, int(m["pruned"]), None)]
    lines.append(("their faithfulness", ">= 0.8", m["pruned_faithfulness"], None))
    lines += [
        (f"  as many: {arm}", "< 0.2" if arm == "random edges" else None, None, c[arm]["pruned_faithfulness"])
        for arm in ("strongest edges", "random part", "random edges")
    ]
    lines.append(("353 strongest edges (0.5 %): faithfulness", None, m["faithfulness"],
                  c["random edges"]["faithfulness"]))  # fmt: skip
    left = found.table().query("pruned").head(12).to_dict("records")
    return lines + [(f"{row['writer']} -> {row['reader']}", None, row["score"], None) for row in left]


def _known_pairs(model: LanguageModel, count: int) -> PromptPairs:
    """The first pairs of the reference set whose names are one token each."""
    if not available("ioi_prompts"):
        raise SystemExit("the reference set ioi_prompts is not here; set TRACEMEND_DATA.")
    from tracemend.circuits.tokens import ids_of, token_of

    kept: list[Any] = []
    for row in reference_indirect_objects().frame.to_dict("records"):
        try:
            token_of(model, row["clean"], row["answer"]), token_of(model, row["clean"], row["foil"])
        except CircuitError:
            continue
        if ids_of(model, row["clean"]).shape == ids_of(model, row["corrupted"]).shape:
            kept.append(row)
        if len(kept) == count:
            break
    return PromptPairs.make(kept)


def _heads(rows: Any, head: str) -> str:
    return " ".join(f"L{int(r['layer'])}H{int(r[head])}" for _, r in rows.head(2).iterrows())


BENCHMARKS: dict[str, Callable[[LanguageModel], list[Line]]] = {
    "hooks": hooks,
    "logits": logits,
    "induction": induction,
    "patch": patch,
    "trace-facts": trace_facts,
    "trace-facts-short": partial(trace_facts, short=True),
    "layers": layers,
    "layers-short": partial(layers, short=True),
    "structure": structure,
    "families": families,
    "banding": banding,
    "letters": letters,
    "edit": edit,
    "memories": memories,
    "subupdates": subupdates,
    "superposition": superposition,
    "features": features,
    "features-short": partial(features, short=True),
    "graph": graph,
    "prune": prune,
}

if __name__ == "__main__":
    main()
