"""What is measured of each probe: one function a benchmark, from a seed to figures by name.

Every seed has an untrained network of its own. Layers are numbered as in minilm, see :func:`layers_of`.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tracemend.data import (
    Treebank,
    available_folder,
    read_conllu,
    read_gap,
    read_pairs,
    read_pronouns,
)
from tracemend.models import LanguageModel, load, represent
from tracemend.models.representations import align, layer_count, padded
from tracemend.probing import (
    CoreferenceProbe,
    LayerProbe,
    MinimalPairsProbe,
    StructuralProbe,
)
from tracemend.probing.result import ProbeResult
from tracemend.probing.solver import Solver
from tracemend.probing.tasks import items

Figures = Mapping[str, float]


def folder_of(name: str) -> Path:
    """A reference data set's folder."""
    folder = available_folder(name)
    if folder is None:
        raise SystemExit(f"{name} is not here; set TRACEMEND_DATA")
    return folder


def treebank(name: str) -> Treebank:
    """A reference treebank by its name."""
    return read_conllu(folder_of(name))


def steps(model: LanguageModel) -> int:
    """Layers of the model for one of minilm's, of which there are six."""
    return (layer_count(model) - 1) // 6


def layers_of(model: LanguageModel, *layers: int) -> tuple[int, ...]:
    """As far up in the model as these are in minilm: its third of six is smollm2's fifteenth of thirty."""
    return tuple(layer * steps(model) for layer in layers)


def by_layer(found: ProbeResult, model: LanguageModel) -> pd.DataFrame:
    """The table by layer, numbered as in minilm."""
    rows = found.table()
    return rows.assign(layer=rows["layer"] // steps(model)).set_index("layer")


def upos(given: argparse.Namespace, seed: int) -> Figures:
    """Part of speech, linear, with codelengths."""
    model = load(given.model)
    probe = LayerProbe(task="upos", layers=layers_of(model, *range(7)), random_models=1, seed=seed)
    found = probe.run(model, treebank("ud_ewt"), cache=given.cache)
    rows = by_layer(found, model)
    say(found)
    return {
        **{f"accuracy layer {i}": rows["accuracy"][i] for i in rows.index},
        **{f"selectivity layer {i}": rows["selectivity"][i] for i in (0, 2, 4)},
        "best layer": found.facts["best_layer"] // steps(model),
        "best": found.metrics["accuracy"],
        "best - layer 6": found.metrics["accuracy"] - rows["accuracy"][6],
        "selectivity 4 - 0": rows["selectivity"][4] - rows["selectivity"][0],
        "random weights": rows["random_weights"].max(),
        "random weights selectivity": found.controls["random_weights"]["selectivity"],
        "word type": found.controls["word_type"]["accuracy"],
        "majority": found.controls["majority"]["accuracy"],
        "neighbours of layer 0": found.controls["local_context"]["accuracy"],
        **{f"replaced words layer {i}": rows["replaced"][i] for i in (0, 3)},
        **{f"made-up words layer {i}": rows["jabberwocky_replaced"][i] for i in (0, 3)},
        "compression layer 2": rows["compression"][2],
        "compression layer 0": rows["compression"][0],
        "compression layer 6": rows["compression"][6],
        "compression random layer 2": rows["random_compression"][2],
        "compression control layer 2": rows["control_compression"][2],
        "compression 2 / 1.5 x 0": rows["compression"][2] / (1.5 * rows["compression"][0]),
        "compression 0 / 2 x random": 1.5 * rows["compression"][0] / (2 * rows["random_compression"][2]),
        "seconds": found.facts["seconds"],
    }


def mlp(given: argparse.Namespace, seed: int) -> Figures:
    """The same with a hidden layer of 200."""
    both, model = {}, load(given.model)
    layers = layers_of(model, 0, 2)
    for hidden in (0, 200):
        probe = LayerProbe(task="upos", hidden=hidden, mdl=False, layers=layers, random_models=1, seed=seed)
        found = probe.run(model, treebank("ud_ewt"), cache=given.cache)
        both[hidden] = float(by_layer(found, model)["selectivity"][2])
    return {
        "selectivity linear": both[0], "selectivity hidden 200": both[200], "linear - hidden": both[0] - both[200],
    }  # fmt: skip


def neighbour(given: argparse.Namespace, seed: int) -> Figures:
    """Which of the 50 most frequent words stands before."""
    model = load(given.model)
    probe = LayerProbe(
        task="previous-word", layers=layers_of(model, *range(7)), mdl=False, train_items=8000, test_items=4000,
        random_models=1, seed=seed,
    )  # fmt: skip
    found = probe.run(model, treebank("ud_ewt"), cache=given.cache)
    rows = by_layer(found, model)
    say(found)
    return {
        **{f"layer {i}": rows["accuracy"][i] for i in (0, 2, 4, 6)},
        "random weights": rows["random_weights"].max(),
        "majority": found.controls["majority"]["accuracy"],
    }


def sentences(given: argparse.Namespace, seed: int) -> Figures:
    """Tasks of sentences; two of them measure nothing about training."""
    found: dict[str, float] = {}
    model = load(given.model)
    for task in ("tense", "length", "depth", "voice", "subject-number", "bigram-shift"):
        probe = LayerProbe(
            task=task, layers=layers_of(model, *range(7)), mdl=False, train_items=3000, test_items=1500,
            random_models=1, seed=seed,
        )  # fmt: skip
        one = probe.run(model, treebank("ud_ewt"), cache=given.cache)
        say(one)
        found |= {
            f"{task}": one.metrics["accuracy"],
            f"{task} random weights": one.controls["random_weights"]["accuracy"],
            f"{task} majority": one.controls["majority"]["accuracy"],
        }
    return found


def structural(given: argparse.Namespace, seed: int) -> Figures:
    """Trees, with a sweep of ranks."""
    model, bank = load(given.model), treebank("ud_ewt")
    flat = StructuralProbe(ranks=(8, 64), layers=layers_of(model, *range(7)), random_models=1, seed=seed).run(
        model, bank, cache=given.cache
    )
    say(flat)
    rows = by_layer(flat, model)
    rows, narrow = rows[rows["rank"] == 64], rows[rows["rank"] == 8]
    return {
        **{f"uuas layer {i}": rows["uuas"][i] for i in (0, 3, 4, 6)},
        "dspr layer 3": rows["dspr"][3],
        "rank 8, layer 3": narrow["uuas"][3],
        "chain": flat.controls["chain"]["uuas"],
        "layer 3 - chain": rows["uuas"][3] - flat.controls["chain"]["uuas"],
        "layer 3 - random weights": rows["uuas"][3] - rows["random_weights"].max(),
        "chain - layer 6": flat.controls["chain"]["uuas"] - rows["uuas"][6],
        "root accuracy layer 3": rows["root_accuracy"][3],
        "first verb is root": flat.controls["first_verb"]["root_accuracy"],
        "nspr layer 3": rows["nspr"][3],
        "jabberwocky layer 3": rows["jabberwocky"][3],
        "jabberwocky drop": rows["uuas"][3] - rows["jabberwocky"][3],
        "jabberwocky drop, random weights": float((rows["random_weights"] - rows["random_jabberwocky"]).max()),
        "jabberwocky - chain": rows["jabberwocky"][3] - flat.controls["chain"]["uuas"],
        # Distances and depths, of the model and of an untrained one.
        "seconds a layer": flat.facts["seconds"] / (4 * len(flat.rows)),
    }


def poincare(given: argparse.Namespace, seed: int) -> Figures:
    """Trees in the Poincaré ball beside the plain map."""
    model, bank = load(given.model), treebank("ud_ewt")
    plain = StructuralProbe(layers=layers_of(model, 0, 3), random_models=1, seed=seed)
    rows, curved = (
        by_layer(probe.run(model, bank, cache=given.cache), model)
        for probe in (plain, replace(plain, geometry="poincare"))
    )
    return {
        "Poincare layer 3": curved["uuas"][3],
        "Poincare - Euclidean": curved["uuas"][3] - rows["uuas"][3],
        "Poincare random weights": curved["random_weights"].max(),
        "its gain": float(curved["random_weights"].max() - rows["random_weights"].max()),
        "DSpr": curved["dspr"][3],
        "its gain, DSpr": curved["dspr"][3] - rows["dspr"][3],
        "jabberwocky": curved["jabberwocky"][3],
    }


def blimp(given: argparse.Namespace, seed: int) -> Figures:
    """Minimal pairs on smollm2: two of each of the 67 paradigms."""
    folder = folder_of("blimp")
    pairs = read_pairs(folder / "blimp-200.jsonl").sample(given.pairs, seed=seed)
    found = MinimalPairsProbe(seed=seed).run(load("smollm2"), pairs)
    say(found)
    print(found.table().round(3).to_string())
    islands = found.rows[found.rows["phenomenon"].str.contains("island")]
    return {
        "accuracy": found.metrics["accuracy"],
        "accuracy per token": found.metrics["accuracy_per_token"],
        **{arm.replace("_", " "): of["accuracy"] for arm, of in found.controls.items()},
        "islands": float(islands["correct"].mean()),
        "seconds a pair": found.facts["seconds"] / len(pairs),
    }


def marvin(given: argparse.Namespace, seed: int) -> Figures:
    """Marvin and Linzen's pairs on smollm2, four times as many of each of the 22 cases as of a paradigm of BLiMP."""
    whole = read_pairs(folder_of("marvin_linzen") / "pairs.tsv")
    pairs = replace(whole, paradigm=whole.phenomenon).sample(4 * given.pairs, seed=seed)
    found = MinimalPairsProbe(seed=seed).run(load("smollm2"), pairs)
    say(found)
    print(found.table().round(3).to_string())
    by_case = found.rows.groupby("phenomenon")["correct"].mean()
    across = by_case[by_case.index.str.contains("obj_rel") & by_case.index.str.contains("across")]
    return {
        "accuracy": found.metrics["accuracy"],
        "accuracy per token": found.metrics["accuracy_per_token"],
        "simple agreement": float(by_case["simple_agrmt"]),
        "across an object relative, least": float(across.min()),
        "across an object relative, most": float(across.max()),
        **{arm.replace("_", " "): of["accuracy"] for arm, of in found.controls.items()},
        "pairs": float(len(pairs)),
    }


def gap(given: argparse.Namespace, seed: int) -> Figures:
    """Whose pronoun: trained similarity, beside that of the vectors as they are."""
    model, pronouns = load(given.model), read_gap(folder_of("gap"))
    probe = CoreferenceProbe(layers=layers_of(model, 0, 2, 3, 4, 6), random_models=1, seed=seed)
    found = probe.run(model, pronouns, cache=given.cache)
    rows = by_layer(found, model)
    say(found)
    return {
        **{f"layer {i}": rows["accuracy"][i] for i in rows.index},
        "zero-shot, least": rows["zero_shot"].min(),
        "zero-shot, most": rows["zero_shot"].max(),
        "nearest": found.controls["recency"]["accuracy"],
        "places": found.controls["places"]["accuracy"],
        "random weights, least": rows["random_weights"].min(),
        "random weights, most": rows["random_weights"].max(),
        "seconds": found.facts["seconds"],
    }


def pronouns(given: argparse.Namespace, seed: int) -> Figures:
    """The same of GUM's pronouns, whose candidates are the mentions around them."""
    model = load(given.model)
    probe = CoreferenceProbe(layers=layers_of(model, *range(7)), random_models=1, seed=seed)
    found = probe.run(model, read_pronouns(folder_of("gum")), cache=given.cache)
    say(found)
    return {
        "accuracy": found.metrics["accuracy"],
        "best layer": found.facts["best_layer"] // steps(model),
        **{arm.replace("_", " "): of["accuracy"] for arm, of in found.controls.items()},
        "pronouns tested": found.facts["n_test"],
    }


def extraction(given: argparse.Namespace, seed: int) -> Figures:
    """Reading all layers of minilm beside a plain forward pass of the same batches, in turn."""
    del given, seed
    model, bank = load("minilm"), treebank("ud_ewt").sample(6000)
    plain, read = [], []
    for _ in range(5):
        plain.append(_timed(lambda: _forward(model, bank)))
        read.append(_timed(lambda: represent(model, bank.words)))
    ratios = [one / other for one, other in zip(read, plain, strict=True)]
    return {"plain seconds": min(plain), "read seconds": min(read), "read / plain": statistics.median(ratios)}


def _forward(model: LanguageModel, bank: Treebank) -> None:
    aligned = align(model, bank.words)
    order = np.argsort([len(row) for row in aligned.ids], kind="stable")
    with torch.inference_mode():
        for begin in range(0, len(order), 32):
            ids, mask = padded(model, [aligned.ids[i] for i in order[begin : begin + 32]])
            model.network(input_ids=ids, attention_mask=mask)


def solver(given: argparse.Namespace, seed: int) -> Figures:
    """All layers at once beside scikit-learn, layer after layer, on the same features and with the same penalty;
    seconds of processor, which other work on the machine does not change."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    bank = treebank("ud_ewt").split()
    train, test = items(bank["train"], "upos").sample(12_000, seed=seed), items(bank["test"], "upos").sample(7000)
    names = sorted(set(train.label))
    x, y = {}, {}
    for part, of in (("train", train), ("test", test)):
        x[part] = represent(load("minilm"), of.words, cache=given.cache).hidden
        y[part] = np.array([names.index(label) for label in of.label])
    began = time.process_time()
    probes = Solver(seed=seed).fit(x["train"], y["train"][None], len(names))
    ours = time.process_time() - began
    accuracy = (probes.predict(x["test"])[:, 0] == y["test"]).mean(1)
    seconds, theirs = 0.0, []
    for layer in range(len(accuracy)):
        began = time.process_time()
        scaler = StandardScaler().fit(x["train"][layer].numpy())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(x["train"][layer].numpy()), y["train"])
        seconds += time.process_time() - began
        theirs.append(peer.score(scaler.transform(x["test"][layer].numpy()), y["test"]))
    gap = accuracy - np.array(theirs)
    return {
        "seconds, all at once": ours,
        "seconds, scikit-learn": seconds,
        "times faster": seconds / ours,
        "largest loss of accuracy": float(max(0.0, -gap.min())),
        "largest gain of accuracy": float(max(0.0, gap.max())),
    }


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def say(found: ProbeResult) -> None:
    """Print the findings."""
    print("\n".join(["", *found.findings]), flush=True)
