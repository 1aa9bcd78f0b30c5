"""What is measured of prompts: classification, a tuned prefix, facts, and searches."""

from __future__ import annotations

import argparse

import pandas as pd

from benchmarks.probes.measures import Figures, folder_of, say
from tracemend.data import Labelled, Splits, read_cloze, read_facts
from tracemend.models import load
from tracemend.probing import ClozeProbe, PromptingProbe, PromptSearch

TEMPLATES = (
    "Review: [X]\nSentiment: [Y]",
    "[X]\nThe sentiment of this review is [Y]",
    "Is the following review {labels}?\n[X]\nAnswer: [Y]",
    "Classify the review as {labels}.\nReview: [X]\nClass: [Y]",
    "[X] All in all, the film is [Y]",
)


def sst2(part: str, most: int, seed: int) -> Labelled:
    """Random sentences of SST-2 as published."""
    table = pd.read_csv(folder_of("sst2") / f"{part}.tsv", sep="\t", names=["text", "label"], quoting=3, dtype=str)
    chosen = table.drop_duplicates("text").sample(most, random_state=seed)
    labels = chosen["label"].map({"0": "negative", "1": "positive"})
    return Labelled.make(chosen["text"], labels, label_names=("negative", "positive"))


def prompting(given: argparse.Namespace, seed: int) -> Figures:
    """Sentiment by prompting smollm2, five wordings and three orders of four examples."""
    parts = _films(200, given.texts // 2, given.texts, seed)
    found = PromptingProbe(templates=TEMPLATES, seed=seed).run(load("smollm2"), parts)
    say(found)
    print(found.table().round(3).to_string())
    other = found.controls
    return {
        **found.metrics,
        "spread_templates": found.facts["spread_templates"],
        "spread_orders": found.facts["spread_orders"],
        "nonsense": other["nonsense"]["zero_shot"],
        "wrong labels": other["wrong_labels"]["few_shot"],
        "same examples": other["same_examples"]["few_shot"],
        "majority": other["majority"]["zero_shot"],
        "random weights": other["random_weights"]["zero_shot"],
        "random weights, few_shot": other["random_weights"]["few_shot"],
        "random weights, diagnostic": other["random_weights"]["diagnostic"],
    }


def prefix(given: argparse.Namespace, seed: int) -> Figures:
    """Sentiment by a tuned prefix of smollm2, beside a probe that is trained on the same texts."""
    parts = _films(given.tuned, 24, 60, seed)
    probe = PromptingProbe(
        templates=TEMPLATES[-1:], orders=1, shots=1, prefix=10, prefix_epochs=3, prefix_rate=given.rate, seed=seed
    )
    found = probe.run(load("smollm2"), parts)
    say(found)
    other = found.controls
    return {
        "prefix": found.metrics["prefix"],
        "prefix, random weights": other["random_weights"]["prefix"],
        "diagnostic": found.metrics["diagnostic"],
        "diagnostic, random weights": other["random_weights"]["diagnostic"],
        "zero_shot": found.metrics["zero_shot"],
        "majority": other["majority"]["prefix"],
    }


def _films(train: int, dev: int, test: int, seed: int) -> Splits:
    """Sentences of SST-2 in its own parts."""
    judged = sst2("test", test, seed)
    return Splits(train=sst2("train", train, seed), validation=sst2("dev", dev, seed), verdict=judged, test=judged)


def facts(given: argparse.Namespace, seed: int) -> Figures:
    """Ten relations of ParaRel on smollm2, fifteen facts each."""
    folder = folder_of("pararel")
    found = ClozeProbe(patterns=given.patterns, seed=seed).run(load("smollm2"), read_facts(folder))
    say(found)
    print(found.table().round(3).to_string())
    return {
        "p_at_1": found.metrics["p_at_1"],
        "mrr": found.metrics["mrr"],
        "full vocabulary": found.metrics["full_vocabulary"],
        "majority": found.controls["majority"]["p_at_1"],
        "random weights": found.controls["random_weights"]["p_at_1"],
        "nonsense": found.controls["nonsense"]["p_at_1"],
        "seconds": found.facts["seconds"],
    }


def wordings(given: argparse.Namespace, seed: int) -> Figures:
    """Capitals asked for in six wordings, and mother tongues in one and in words that ask for nothing."""
    known = read_facts(folder_of("pararel"))
    found = ClozeProbe(relations=("P36",), patterns=6, facts=20, seed=seed).run(load("smollm2"), known)
    names = ClozeProbe(relations=("P103",), patterns=6, facts=20, seed=seed).run(load("smollm2"), known)
    figures: dict[str, float] = {}
    for relation, one in (("P36", found), ("P103", names)):
        say(one)
        rows = one.table()
        print(rows.round(3).to_string())
        figures |= {
            f"{relation}, best wording": float(rows["p_at_1"].max()),
            f"{relation}, worst wording": float(rows["p_at_1"].min()),
            f"{relation}, answers that agree": one.metrics["consistency"],
            f"{relation}, nonsense": one.controls["nonsense"]["p_at_1"],
            f"{relation}, majority": one.controls["majority"]["p_at_1"],
            f"{relation}, random weights": one.controls["random_weights"]["p_at_1"],
        }
    return figures


def hypernyms(given: argparse.Namespace, seed: int) -> Figures:
    """The kinds of eighteen things (NEG-136-SIMP), affirmed and denied."""
    del given
    known = read_cloze(folder_of("lm_diagnostics"))
    found = ClozeProbe(facts=len(known), seed=seed).run(load("smollm2"), known)
    say(found)
    denied = found.controls["negated"]
    return {
        "kind": found.metrics["p_at_1"],
        "kind, full vocabulary": found.metrics["full_vocabulary"],
        "kind, full vocabulary at 10": found.metrics["full_vocabulary_at_10"],
        "denied, still the kind": denied["p_at_1"],
        "denied, full vocabulary": denied["full_vocabulary"],
        "majority": found.controls["majority"]["p_at_1"],
        "random weights": found.controls["random_weights"]["p_at_1"],
        "nonsense": found.controls["nonsense"]["p_at_1"],
    }


def search(given: argparse.Namespace, seed: int, relation: str) -> Figures:
    """Prompts searched for on smollm2, those that are mined in the passages of GAP."""
    texts = pd.concat([pd.read_csv(path, sep="\t") for path in sorted(folder_of("gap").glob("*.tsv"))])["Text"]
    known = read_facts(folder_of("pararel")).of([relation]).with_texts(texts)
    probe = PromptSearch(facts=given.facts, steps=6, candidates=4, vector_steps=12, slots=3, mined=3, seed=seed)
    found = probe.run(load("smollm2"), known)
    say(found)
    print(found.table().to_string())
    figures = {}
    for name, value in found.metrics.items():
        figures[name] = value
        for arm, of in found.controls.items():
            figures[f"{name}, {arm.replace('_', ' ')}"] = of[name]
    return {**figures, "facts": float(found.facts["facts"]), "hard facts": float(found.facts["hard_facts"])}
