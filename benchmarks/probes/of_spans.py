"""What is measured of spans: dependencies, entities, Tenney's and van Aken's tasks, and what untrained weights read."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.probes.measures import Figures, by_layer, folder_of, layers_of, say, steps, treebank
from tracemend.data import (
    SpanExamples,
    constituent_spans,
    coreference_spans,
    gum_entities,
    pos_spans,
    question_spans,
    read_evidence,
    read_facts,
    relation_spans,
    trees_beside,
)
from tracemend.models import LanguageModel, load, random_weights, represent
from tracemend.probing import EdgeProbe, ProbeResult
from tracemend.probing.solver import Solver


def dependency(given: argparse.Namespace, seed: int) -> Figures:
    """The relation of a word to its given head, by layer and over a mixture."""
    model = load(given.model)
    probe = EdgeProbe(layers=layers_of(model, 0, 2, 3, 4, 6), random_models=1, seed=seed)
    found = probe.run(model, treebank("ud_ewt"), cache=given.cache)
    read = _by_layer(found, model)
    return {**read, "layer 3 - layer 0": read["layer 3"] - read["layer 0"], "seconds": found.facts["seconds"]}


def entities(given: argparse.Namespace, seed: int) -> Figures:
    """Types of GUM's mentions, whose spans are given."""
    spans = gum_entities(treebank("gum"))
    model = load(given.model)
    probe = EdgeProbe(train_items=5178, layers=layers_of(model, 0, 2, 4, 6), random_models=1, seed=seed)
    return _by_layer(probe.run(model, spans, cache=given.cache), model)


def _by_layer(found: ProbeResult, model: LanguageModel) -> dict[str, float]:
    """Accuracy of each layer and of the mixture, beside the controls; its findings are said."""
    say(found)
    rows = by_layer(found, model)
    return {
        **{f"layer {i}": rows["accuracy"][i] for i in rows.index},
        "random weights": rows["random_weights"].max(),
        "majority": found.controls["majority"]["accuracy"],
        "mixture": found.metrics["mixed_accuracy"],
        "mixture, random weights": found.controls["random_weights"]["mixed_accuracy"],
        "centre of gravity": found.metrics["centre_of_gravity"] / steps(model),
        "centre, random weights": found.controls["random_weights"]["centre_of_gravity"] / steps(model),
    }


def tasks(given: argparse.Namespace, seed: int) -> Figures:
    """Van Aken's tasks on minilm: relations in unseen wordings, types of questions, sentences marked as evidence."""
    made = {
        "relation": relation_spans(read_facts(folder_of("pararel")), seed=seed),
        "question-type": question_spans(treebank("ud_ewt")),
        "evidence": read_evidence(folder_of("eraser_movies") / "test.jsonl", documents=30, seed=seed),
    }
    return _of_tasks(given, seed, made)


def edges(given: argparse.Namespace, seed: int) -> Figures:
    """Tenney's tasks on GUM: part of speech, constituents, and whether two mentions are of one thing."""
    bank, trees = treebank("gum"), trees_beside(folder_of("gum"))
    if trees is None:
        raise SystemExit("the trees of gum (.ptb) are not here.")
    made = {
        "pos": pos_spans(bank),
        "constituents": constituent_spans(bank, trees),
        "coreference": coreference_spans(bank),
    }
    return _of_tasks(given, seed, made, {"train_items": 6000, "test_items": 3000})


def _of_tasks(
    given: argparse.Namespace,
    seed: int,
    made: Mapping[str, SpanExamples],
    sizes: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, float]:
    """Accuracy of the best layer, beside the controls, of each task; its findings are said."""
    found: dict[str, float] = {}
    model = load(given.model)
    layers = layers_of(model, *range(7))
    for task, spans in made.items():
        one = EdgeProbe(task=task, layers=layers, random_models=1, seed=seed, **sizes).run(
            model, spans, cache=given.cache
        )
        say(one)
        print(one.table()[["layer", "accuracy", "random_weights"]].round(3).to_string())
        fresh = one.controls["random_weights"]
        found |= {
            task: one.metrics["accuracy"],
            f"{task}, best layer": one.facts["best_layer"] // steps(model),
            f"{task}, layer 0": one.controls["layer_0"]["accuracy"],
            f"{task}, random weights": fresh["accuracy"],
            f"{task}, usual label": one.controls["word_type"]["accuracy"],
            f"{task}, majority": one.controls["majority"]["accuracy"],
            f"{task}, centre of gravity": one.metrics["centre_of_gravity"] / steps(model),
            f"{task}, centre, random weights": fresh["centre_of_gravity"] / steps(model),
        }
    return found


def untrained(given: argparse.Namespace, seed: int) -> Figures:
    """What an untrained minilm reads of dependencies, by which labels are asked and of how many pairs."""
    words, pairs, train = _pairs(seed)
    kinds = np.array([label.partition(":")[0] for *_, label in pairs])
    labels = {
        "all": kinds,
        "subtypes": np.array([label for *_, label in pairs]),
        "without punctuation": np.where(kinds == "punct", "", kinds),
    }
    found: dict[str, float] = {}
    model = load("minilm")
    networks = {
        "minilm": model,
        "untrained 1": random_weights(model, seed=1),
        "untrained 2": random_weights(model, seed=2),
    }
    for name, network in networks.items():
        vectors = represent(network, words, layers=[0, 3], cache=given.cache)
        starts = np.searchsorted(vectors.sentence, np.arange(len(words)))
        places = np.array([(starts[at] + i, starts[at] + head) for at, i, head, _ in pairs])
        x = torch.cat([vectors.hidden[:, places[:, side]] for side in (0, 1)], dim=2)
        for what, own in labels.items():
            for most in (12_000, 3_000) if what == "all" else (12_000,):
                known = np.flatnonzero(train & (own != ""))[:most]
                names, counts = np.unique(own[known], return_counts=True)
                names = names[counts >= 10].tolist()
                known = known[np.isin(own[known], names)]
                test = np.flatnonzero(~train & np.isin(own, names))[:7_000]
                y = np.array([names.index(label) for label in own[known]])
                gold = np.array([names.index(label) for label in own[test]])
                said = Solver(seed=seed).fit(x[:, known], y[None], len(names)).predict(x[:, test])[:, 0]
                of = f"{what}{'' if most == 12_000 else ', 3,000 pairs'}"
                found |= {f"{of}, {name}, layer {layer}": float((row == gold).mean())
                          for layer, row in zip((0, 3), said, strict=True)}  # fmt: skip
                found[f"{of}, majority"] = float((gold == np.bincount(y).argmax()).mean())
    return found


def _pairs(seed: int) -> tuple[list[tuple[str, ...]], list[tuple[int, int, int, str]], npt.NDArray[np.bool_]]:
    """Sentences of EWT, their pairs of word and head with the whole label, and which pairs are of train."""
    banks = treebank("ud_ewt").split()
    words: list[tuple[str, ...]] = []
    pairs: list[tuple[int, int, int, str]] = []
    train: list[bool] = []
    for part, most in (("train", 15_000), ("test", 8_500)):
        bank, begun = banks[part], len(pairs)
        for i in np.random.default_rng(seed).permutation(len(bank)):
            if len(pairs) - begun >= most:
                break
            one = bank.sentences[i]
            heads = one.heads or ()
            pairs += [(len(words), w, head, one.tags["deprel"][w]) for w, head in enumerate(heads) if head >= 0]
            words.append(tuple(one.words))
        train += [part == "train"] * (len(pairs) - begun)
    return words, pairs, np.array(train)
