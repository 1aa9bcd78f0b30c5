"""Figures of small attention-only models, trained on the spot on a source of which the truth is known.

python -m benchmarks.ngrams one         one layer: bigrams, skip-trigrams, copying; three sources and models
python -m benchmarks.ngrams two         two layers: induction heads, composition and their growth, beside one layer
python -m benchmarks.ngrams smollm2     the first layer of smollm2 on English web text (data: TRACEMEND_DATA, ud_ewt)

Each takes a few minutes on one core. ``control`` names the arm.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch

from tracemend.circuits import AttentionOnly, Growth, Induction, MarkovSource, Ngrams, Repeats
from tracemend.circuits.attention_only import loss_of
from tracemend.circuits.growth import copying_source
from tracemend.circuits.induction import head_scores
from tracemend.circuits.stages import STEPS, trained
from tracemend.circuits.token_circuits import TokenCircuits
from tracemend.data.prompts import Texts
from tracemend.data.reference import reference_folder
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel, load


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("one", "two", "smollm2"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=AttentionOnly().steps, help="of training (one)")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    began = time.process_time()
    runs: dict[str, Callable[[Sequence[int]], None]] = {
        "one": partial(one, steps=given.steps), "two": two, "smollm2": smollm2
    }  # fmt: skip
    runs[given.name](given.seeds)
    print(f"processor seconds {time.process_time() - began:.0f}")


def one(seeds: Sequence[int], *, steps: int = 800) -> None:
    """Source, weights and batches drawn anew for each seed."""
    for seed in seeds:
        source = MarkovSource.draw(seed=seed)
        texts = source.texts(seed=seed)
        began = time.process_time()
        model = AttentionOnly(layers=1, steps=steps, seed=seed).fit(texts)
        seconds = time.process_time() - began
        found = Ngrams(seed=seed).run(model, texts)
        words = source.words
        said = {tuple(row) for row in found.table()[["source", "destination", "output"]].itertuples(index=False)}
        planted = sum(tuple(words[i] for i in rule) in said for rule in source.rules)
        truth = source.transitions.argmax(-1).tolist()
        right = np.mean([row.next == words[truth[words.index(str(row.token))]] for row in found.bigrams.itertuples()])
        best = head_scores(model, Repeats.draw(model, length=20, count=16))["induction"].max()
        print(f"seed {seed}: trained in {seconds:.0f} s, loss {loss_of(model, texts):.3f}")
        print(f"  planted skip-trigrams among the 20 strongest: {planted} of {len(source.rules)}")
        print(f"  bigrams as in the source {right:.3f}; best induction score {best:.3f}")
        print(f"  correlation with the source's log probabilities {of_source(model, source):.3f}")
        for name, value in found.metrics.items():
            beside = {arm: round(of[name], 3) for arm, of in found.controls.items() if name in of}
            print(f"  {name:<20} {value:.3f}  {beside}")


@torch.no_grad()
def of_source(model: LanguageModel, source: MarkovSource) -> float:
    """Correlation of the bigram table with the logs of the source's transitions, both centred by row."""
    tokens = torch.tensor([model.tokenizer(word, add_special_tokens=False).input_ids[0] for word in source.words])
    table = TokenCircuits(model, 0, tokens, 1.0).bigrams().cpu()
    logs = torch.as_tensor(source.transitions).log()
    both = torch.stack([(each - each.mean(-1, keepdim=True)).flatten().float() for each in (table, logs)])
    return float(torch.corrcoef(both)[0, 1])


def two(seeds: Sequence[int]) -> None:
    """Growth over training of two layers and of one, then induction heads and their ablation."""
    for seed in seeds:
        texts = copying_source(seed).texts(count=6000, seed=seed)
        models, stages = {}, {}
        for layers in (1, 2):
            models[layers], stages[layers] = trained(AttentionOnly(layers=layers, steps=STEPS, seed=seed), texts)
        data = Repeats.draw(models[2], length=20, count=16)
        grown = Growth().run(stages[2].with_beside(stages[1]), data)
        print(f"seed {seed}: growth of two layers (found) beside one")
        print(grown.table().round(3).to_string(index=False), *grown.findings, sep="\n")
        _print(grown)
        for layers, model in models.items():
            print(f"seed {seed}, {layers} layers")
            _print(Induction(silence=(1, 2), draws=3).run(model, data))


def _print(found: MethodResult) -> None:
    for name, value in found.metrics.items():
        beside = {arm: round(of[name], 3) for arm, of in found.controls.items() if name in of}
        print(f"  {name:<20} {value:.3f}  {beside}", flush=True)


def smollm2(_: Sequence[int]) -> None:
    """The direct path of a real model."""
    lines = (reference_folder("ud_ewt") / "train-4k.conllu").read_text(encoding="utf-8").splitlines()
    texts = [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
    rows = [{"text": " ".join(texts[i : i + 4])} for i in range(0, len(texts), 4)]
    found = Ngrams().run(load("smollm2"), Texts.make(rows))
    print(found.table().head(12).to_string())
    for name, value in found.metrics.items():
        beside = {arm: round(of[name], 3) for arm, of in found.controls.items() if name in of}
        print(f"  {name:<20} {value:.3f}  {beside}")
    print(found.heads.to_string(), *found.findings, sep="\n")


if __name__ == "__main__":
    main()
