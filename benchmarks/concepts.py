"""Concepts on minilm: what a sentiment classifier makes of adjectives (TCAV), made-up modules in words (SASC).

    python benchmarks/concepts.py tcav sasc --seeds 3

The data are those that TRACEMEND_DATA names (sst2, tcav_text, ud_ewt). Settings are the methods' defaults;
nothing is chosen here.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Run as a file, a benchmark does not find its own package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from tracemend.concepts import Along, ConceptsResult, Sasc, Tcav
from tracemend.concepts.modules import embedded
from tracemend.concepts.themes import grams, held_out, sentences, themes
from tracemend.data import Concepts, Labelled, read_conllu, reference, sample
from tracemend.data.concepts import plain
from tracemend.data.reference import reference_folder
from tracemend.models import LanguageModel, load
from tracemend.runs import versions, write_json
from tracemend.tuning import TextClassifier, Tuning, tune

# The opposite of the published set of positive adjectives, of about the same length.
_NEGATIVE = """
awful terrible horrible dreadful disgusting boring tedious dull stupid silly lousy poor bad worse pathetic miserable
ugly nasty annoying irritating disappointing unpleasant ridiculous worthless useless lame weak mediocre bland stale
sloppy clumsy shallow hollow pointless messy lifeless painful unbearable atrocious abysmal appalling horrid ghastly vile
repulsive revolting offensive vulgar crude cheap tacky gloomy grim bleak depressing hopeless inept incompetent
amateurish forgettable unfunny overlong tiresome wretched
"""


def adjectives(texts: Labelled, *, n: int, seed: int) -> Concepts:
    """The published positive adjectives and our negative ones, neutral texts, and n positive sentences to explain."""
    folder = reference_folder("tcav_text")
    positive = [_words(line) for line in (folder / "positive-adjectives.csv").read_text(encoding="utf-8").splitlines()]
    poems = [line for name in ("neutral", *(f"neutral{i}" for i in range(2, 6)))
             for line in (folder / f"{name}.csv").read_text(encoding="utf-8").splitlines()]  # fmt: skip
    bank = read_conllu(reference_folder("ud_ewt") / "dev.conllu")
    short = [" ".join(s.words) for s in bank.sentences if 3 <= len(s.words) <= 10]
    sets = {"positive adjectives": tuple(filter(None, positive)), "negative adjectives": tuple(_NEGATIVE.split())}
    known = {plain(text) for of in sets.values() for text in of}
    neutral = tuple(text for text in (*poems, *short[:300]) if text.strip() and plain(text) not in known)
    chosen = np.flatnonzero(texts.y == texts.labels.index("positive"))
    chosen = np.random.default_rng(seed).permutation(chosen)[:n]
    return Concepts(sets, neutral, tuple(texts.pairs[i] for i in chosen), ("positive",) * len(chosen))


def sentiment(seed: int, *, examples: int = 2000) -> tuple[TextClassifier, Labelled, float]:
    """minilm with a head tuned on SST-2, the test sentences, and its accuracy on them."""
    whole = reference("sst2")
    parts = {name: whole.take(np.flatnonzero(whole.frame["part"] == name)) for name in ("train", "validation", "test")}
    tuning = Tuning(adapter="head", epochs=5, seed=seed, precision="fp32")
    train = sample(parts["train"], examples, seed=seed)
    tuned = tune(load("minilm"), train, sample(parts["validation"], 400, seed=seed), tuning)
    test = sample(parts["test"], 600, seed=seed)
    accuracy = float((tuned.classifier.predict(test.pairs).argmax(1) == test.y).mean())
    return tuned.classifier, test, accuracy


def decoder_sentiment(model: str, seed: int, *, examples: int = 500) -> tuple[TextClassifier, Labelled, float]:
    """The same of a decoder, which answers with a word: LoRA, on a quarter as many sentences as minilm's head."""
    whole = reference("sst2")
    parts = {name: whole.take(np.flatnonzero(whole.frame["part"] == name)) for name in ("train", "validation", "test")}
    tuning = Tuning(epochs=2, max_length=64, words={"negative": "bad", "positive": "good"}, seed=seed)
    train = sample(parts["train"], examples, seed=seed)
    tuned = tune(load(model), train, sample(parts["validation"], 100, seed=seed), tuning)
    test = sample(parts["test"], 300, seed=seed)
    accuracy = float((tuned.classifier.predict(test.pairs).argmax(1) == test.y).mean())
    return tuned.classifier, test, accuracy


def _words(line: str) -> str:
    """A line of the published set without what filled it up to seven tokens."""
    return " ".join(word for word in line.split() if word not in (".", "pad"))


# Concepts of made-up modules, with what counts as their name: the published keywords where there are any.
_MODULES = {
    "food": "food|hunger",
    "religion": "god|religious|religion",
    "sports": "sport",
    "business": "business|economics|finance",
    "war": "war|military",
    "animals": "animal",
}


def of_adjectives(seed: int) -> dict[str, Any]:
    """TCAV of both sets of adjectives."""
    classifier, test, accuracy = sentiment(seed)
    print(f"minilm with a head on SST-2, accuracy {accuracy:.3f}")
    found = Tcav(label="positive", layers=(2, 4, 5), at=4, seed=seed).run(classifier, adjectives(test, n=40, seed=seed))
    print(found.table().to_string(index=False, float_format="%.3g"))
    print(found.examples.to_string(index=False, float_format="%.3f"))
    print("\n".join(found.findings))
    return _kept(found) | {"classifier_accuracy": accuracy}


def of_module(name: str, encoder: LanguageModel, corpus: list[str], seed: int) -> tuple[ConceptsResult, bool]:
    """SASC of one module: similarity to a concept of the list, or "random 0"; whether it was named."""
    made_up = name in _MODULES
    module = Along.towards(encoder, name) if made_up else Along.at_random(encoder, 100 * seed + int(name.split()[-1]))
    found = Sasc(seed=seed).run(module, corpus)
    return found, made_up and re.search(_MODULES[name], found.facts["explanation"]) is not None


def of_null_themes(encoder: LanguageModel, corpus: list[str], seed: int, *, n: int = 300) -> dict[str, float]:
    """Scores of random directions on themes that were not made from them: what the choice among themes alone brings.

    A theme lies about a random word; its texts and their number are those of SASC. No answer of a direction has a part
    in making or choosing a theme; "largest of 30" is the mean over directions of their largest score on 30 themes.
    """
    method = Sasc(seed=seed)
    made = grams(corpus, longest=method.longest, most=method.grams, seed=seed)
    hidden = held_out(made.vocabulary, share=1 / 3, seed=seed)
    vectors = embedded(encoder, made.vocabulary)
    space = vectors - vectors.mean(0)
    space /= np.maximum(np.linalg.norm(space, axis=1, keepdims=True), 1e-12)
    rng = np.random.default_rng((seed, 5))
    gaps = []
    for word in rng.permutation(np.flatnonzero(~hidden))[:n].tolist():
        (theme,) = themes(made, np.array([word]), np.ones(1), space, hidden, 1, seed)
        sides = (sentences(words, method.texts) for words in (theme.tested, theme.others))
        with_it, without = (embedded(encoder, texts).mean(0) for texts in sides)
        gaps.append(with_it - without)
    drawn = np.stack([Along.at_random(encoder, 10_000 * seed + i).direction for i in range(200)], axis=1)
    scores = np.stack(gaps) @ drawn / (vectors @ drawn).std(0)
    found = {"one theme, standard deviation": float(scores.std())}
    return found | {f"largest of {k}": float(scores[:k].max(0).mean()) for k in (5, 30, n)}


def of_modules(seed: int) -> dict[str, Any]:
    """SASC of similarities to a concept, which should be named, and of random directions, which should not."""
    encoder = load("minilm")
    bank = read_conllu(reference_folder("ud_ewt") / "train-4k.conllu")
    corpus = [" ".join(sentence.words) for sentence in bank.sentences]
    kept = {}
    for name in (*_MODULES, *(f"random {i}" for i in range(3))):
        found, named = of_module(name, encoder, corpus, seed)
        print(f"{name}{' (named)' if named else ''}: {found.findings[0]}", flush=True)
        kept[name] = _kept(found) | {"named": named}
    return kept


def _kept(found: ConceptsResult) -> dict[str, Any]:
    return {
        "metrics": found.metrics, "controls": found.controls, "config": found.config, "facts": found.facts,
        "rows": found.table().to_dict("list"),
    }  # fmt: skip


def main() -> None:
    """Measure what is asked for, and print figures beside controls."""
    measures = {"tcav": of_adjectives, "sasc": of_modules}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("only", nargs="*", choices=[*measures, []], help="default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    kept: dict[str, Any] = {"versions": versions()}
    for name in given.only or measures:
        for seed in range(given.seeds):
            began = time.perf_counter()
            print(f"\n{name}, seed {seed}")
            kept[f"{name}-{seed}"] = measures[name](seed)
            print(f"{time.perf_counter() - began:.0f} s", flush=True)
    if given.out:
        write_json(given.out, kept)


if __name__ == "__main__":
    main()
