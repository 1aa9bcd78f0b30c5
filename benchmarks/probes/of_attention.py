"""What is measured of attention heads: parsers, patterns, their removal, and their traces."""

from __future__ import annotations

import argparse

from benchmarks.probes.measures import Figures, say, treebank
from benchmarks.probes.of_prompts import sst2
from tracemend.models import load
from tracemend.probing import AttentionTrace, HeadPatterns, HeadProbe, HeadPruning
from tracemend.tuning import Tuning, tune


def heads(given: argparse.Namespace, seed: int) -> Figures:
    """Heads of minilm as parsers, 400 sentences to choose on and 400 to test."""
    found = HeadProbe(seed=seed).run(load("minilm"), treebank("ud_ewt"))
    say(found)
    print(found.table().round(3).to_string())
    rows = found.table().set_index("relation")
    figures: dict[str, float] = {}
    for relation in ("obj", "case", "det", "nsubj", "amod", "compound"):
        figures |= {relation: rows["accuracy"][relation], f"{relation}, offset": rows["offset_accuracy"][relation]}
    return {
        **figures,
        "obj - offset": figures["obj"] - figures["obj, offset"],
        "best head": found.metrics["best_head"],
        "best offset": found.controls["offset"]["best_head"],
        "random weights, most": rows["random_weights"].max(),
        "attention-only probe": found.metrics["attention_probe"],
        "probe of offsets": found.controls["offset"]["attention_probe"],
        "probe, random weights": found.controls["random_weights"]["attention_probe"],
        "relations beaten by an offset": float((rows["accuracy"] < rows["offset_accuracy"]).sum()),
        "seconds": found.facts["seconds"],
    }


def patterns(given: argparse.Namespace, seed: int) -> Figures:
    """Patterns of minilm's heads."""
    found = HeadPatterns(seed=seed).run(load("minilm"), treebank("ud_ewt"))
    say(found)
    return {
        "drawn accuracy": found.metrics["drawn_accuracy"],
        **{
            f"minilm {kind}": found.metrics[kind]
            for kind in ("vertical", "heterogeneous", "vertical-diagonal", "uniform", "diagonal", "block",
                         "consistency")
        },
        "independent": found.controls["independent"]["consistency"],
        "random weights uniform": found.controls["random_weights"]["uniform"],
        "shuffled rows heterogeneous": found.controls["shuffled_rows"]["heterogeneous"],
    }  # fmt: skip


def pruning(given: argparse.Namespace, seed: int) -> Figures:
    """Heads of minilm, tuned with LoRA on sentences of SST-2; as many weigh the heads as test."""
    tuning = Tuning(epochs=2, precision="fp32", max_length=64, seed=seed)
    tuned = tune(load("minilm"), sst2("train", given.sentences, seed), sst2("dev", 100, seed), tuning)
    found = HeadPruning(seed=seed).run(tuned.classifier, sst2("test", 2 * given.pruned, seed))
    say(found)
    print(found.table().round(3).to_string())
    own, other = found.metrics, found.controls
    by_pattern: dict[str, float] = {}
    kinds = list(found.facts["pattern"].values())
    for kind in (kind for kind in set(kinds) if f"accuracy_{kind}" in own):
        by_pattern |= {f"{kind} heads": float(kinds.count(kind)), f"without {kind}": own[f"accuracy_{kind}"],
                       f"random for {kind}": other["random"][f"accuracy_{kind}"]}  # fmt: skip
    return {
        "all heads": found.facts["whole"],
        "least, half": own["accuracy_50"],
        "random, half": other["random"]["accuracy_50"],
        "most, half": other["most_important"]["accuracy_50"],
        "least - random": own["accuracy_50"] - other["random"]["accuracy_50"],
        "random - most": other["random"]["accuracy_50"] - other["most_important"]["accuracy_50"],
        **by_pattern,
        "loss, all heads": other["whole"]["loss_50"],
        "loss, least, half": own["loss_50"],
        "loss, random, half": other["random"]["loss_50"],
        "loss, most, half": other["most_important"]["loss_50"],
        "shuffled labels, half": other["shuffled_labels"]["accuracy_50"],
        "least, sixth": own["accuracy_17"],
        "random, sixth": other["random"]["accuracy_17"],
        "most, sixth": other["most_important"]["accuracy_17"],
        "least, third": own["accuracy_33"],
        "random, third": other["random"]["accuracy_33"],
        "most, third": other["most_important"]["accuracy_33"],
    }


def trace(given: argparse.Namespace, seed: int) -> Figures:
    """Traced attention of minilm against the effects of deleting words, 100 sentences."""
    found = AttentionTrace(seed=seed).run(load("minilm"), treebank("ud_ewt"))
    say(found)
    figures: dict[str, float] = {}
    for name in ("last_layer", "rollout", "back_trace"):
        figures |= {name: found.metrics[name], f"{name}, random weights": found.controls["random_weights"][name],
                    f"{name}, deleted": found.metrics[f"{name}_deleted"]}  # fmt: skip
    return {
        **figures,
        "tokens of a word": found.controls["tokens"]["rollout"],
        "tokens, deleted": found.controls["tokens"]["rollout_deleted"],
        "random order": found.controls["random_order"]["rollout"],
        "random order, deleted": found.controls["random_order"]["rollout_deleted"],
    }
