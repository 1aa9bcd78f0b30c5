"""TCAV on text: does a classifier's answer change as its layers move towards a human concept?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.arrays import Doubles
from tracemend.concepts.states import States, states
from tracemend.concepts.tcav_result import (
    ACCURATE,
    ALPHA,
    FEWEST_SETS,
    TcavResult,
    aligned,
    as_far,
    corrected,
    findings,
    metrics_of,
    welch,
)
from tracemend.concepts.vectors import against, at_random, moved, permutation_p, vectors
from tracemend.data import Concepts
from tracemend.data.concepts import plain
from tracemend.errors import ConceptError, did_you_mean
from tracemend.methods import Method
from tracemend.models import random_weights, tiny
from tracemend.models.representations import layer_count
from tracemend.progress import Progress
from tracemend.tuning import TextClassifier
from tracemend.tuning.predictor import Predictor

# Fewer examples make a direction of their accidents.
FEWEST_EXAMPLES = 20
_FEWEST_TEXTS = 10
_LAYERS = 6


# Kind of a vector, whose it is, and against what.
Key = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Tcav(Method[TcavResult]):
    """Whether a classifier's answer follows a human concept, layer by layer (Kim et al. 2018, arXiv 1711.11279).

    With h(x) the mean of a layer's states over the tokens of a text, v the unit normal of a logistic regression that
    tells a concept's examples from random texts, and f the log-odds of a label,

        S(x) = sum over tokens t of  df/dh_t . v        TCAV = share of the label's texts with S(x) > 0

    over many vectors, each from examples and counterexamples drawn anew. Random vectors (random texts against random
    texts) are the control, and the test is a permutation of both sides' scores. All vectors of a concept share its
    examples, which those of random vectors do not, so the test alone would find random concepts too: fixed random sets
    of the concept's size, moved as far from the other texts as a concept lies, in a random direction of their spread,
    say how often (``significant`` of the control ``random_concepts``), and pairs of such sets for relative vectors.
    ``random_weights`` are the same figures of an untrained network and head. A vector may tell the concept from random
    texts without any effect on the answer: accuracy is not importance.

    Attributes:
        label: whose log-odds are asked; None takes a run's positive label, else the last.
        layers: from 1, the output of the first block; empty takes up to six, evenly spaced.
        at: the layer of metrics and examples; 0 takes the one two thirds up.
        sets: vectors of each concept, and random ones; at least 20.
        examples: drawn for each vector from either side, at most.
        random_concepts: random sets that are treated as concepts; with fewer than 20 nothing is shown.
        relative: also vectors of each concept against each other one.
        batch_size: texts at a time.

    Raises:
        ConceptError: model or data of another kind, fewer than 20 examples of a concept, a text that stands in two
            concepts, or in a concept and among the random texts, too few random texts or texts of the label, an
            unknown label or layer, or no concept that the layers tell from random texts (accuracy under 0.7).

    Example:
        >>> concepts = read_concepts("adjectives.csv", "neutral.csv", read_texts("reviews.csv", text="text"))
        >>> Tcav(label="positive").run(Predictor.load("runs/mine"), concepts).table()
    """

    name: ClassVar[str] = "concepts.tcav"
    inputs: ClassVar[str] = "Concepts"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder", "gradients"})
    at_least: ClassVar = {"sets": FEWEST_SETS, "random_concepts": 2, "batch_size": 1}

    label: str | None = None
    layers: tuple[int, ...] = ()
    at: int = 0
    sets: int = 20
    examples: int = 60
    random_concepts: int = 20
    relative: bool = True
    batch_size: int = 32

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> TcavResult:
        """Test the concepts.

        Args:
            model: a :class:`TextClassifier` (of a decoder too: its verbaliser defines the log-odds) or a
                :class:`Predictor`; its weights are not touched.
            data: a :class:`Concepts`.
            progress: shown.
        """
        began = time.perf_counter()
        classifier = model.classifier if isinstance(model, Predictor) else model
        if not isinstance(classifier, TextClassifier):
            raise ConceptError(f"{self.name} takes a TextClassifier or a Predictor, not {type(model).__name__}.")
        size = self._size(data)
        label = self._label(model, classifier)
        layers, at = self._layers(classifier)
        classifier.network.eval()
        rest: dict[str, Any] = {"batch_size": self.batch_size, "progress": progress}
        texts = states(classifier, data.texts, layers, target=label, **rest)
        chosen = self._chosen(classifier, data, label, texts.answer.numpy())
        read, rows_of = self._examples(classifier, data, layers, progress)
        gradients = _slopes(texts, chosen)
        rows: list[dict[str, Any]] = []
        draws: list[dict[str, Any]] = []
        made: dict[str, Doubles] = {}
        centre = np.zeros(classifier.language_model.hidden_size)
        for k, layer in enumerate(progress.track(layers, task="test concepts", total=len(layers))):
            hidden = read.mean[k].numpy().astype(np.float64)
            found = self._vectors(hidden, rows_of, size)
            scored = _scored(found, gradients[k])
            draws += [
                {"layer": layer, "kind": kind, "concept": of, "against": other, "score": s, "accuracy": a}
                for (kind, of, other), (score, right, _) in scored.items()
                for s, a in zip(score.tolist(), right.tolist(), strict=True)
            ]
            rows += self._rows(layer, scored)
            if layer == at:
                made = {of: normals.mean(0) for (kind, of, _), (normals, _) in found.items() if kind == "concept"}
                centre = hidden[rows_of[""]].mean(0)
        table = corrected(pd.DataFrame(rows), self.random_concepts)
        drawn = pd.DataFrame(draws)
        own = table[table["against"] == "random"]
        if own["score"].isna().all():
            best = own.iloc[int(own["accuracy"].to_numpy().argmax())]
            raise ConceptError(
                f"no layer tells any concept from random texts (best: {best['concept']!r} at layer {best['layer']}, "
                f"accuracy {best['accuracy']:.2f}, {ACCURATE} is needed), so no vector means its concept. Give clearer "
                "or more examples, or other layers."
            )
        place = layers.index(at)
        own_states = texts.mean[place].numpy().astype(np.float64)[chosen]
        controls, false = self._controls(drawn, table, at)
        controls["random_weights"] = self._untrained(classifier, data, label, at, size, chosen, progress)
        shown = [data.texts[i][0] for i in chosen]
        return TcavResult(
            metrics=metrics_of(table, at),
            controls=controls,
            config=self.config,
            rows=table,
            draws=drawn,
            examples=aligned(shown, made, centre, own_states, gradients[place]),
            findings=findings(table, at, false, self.random_concepts, controls["random_weights"]),
            facts={
                "model": classifier.language_model.name,
                "model_fingerprint": classifier.language_model.fingerprint,
                "label": classifier.labels[label],
                "layer": at,
                "texts": len(chosen),
                "examples": {name: len(of) for name, of in data.sets.items()},
                "random": len(data.random),
                "drawn": size,
                "seconds": round(time.perf_counter() - began, 1),
            },
        )

    def _size(self, data: Any) -> int:
        """How many examples each vector gets, after a look at the sets."""
        if not isinstance(data, Concepts):
            raise ConceptError(
                f"{self.name} takes Concepts, not {type(data).__name__}; read them with tracemend.data.read_concepts."
            )
        random = {plain(text) for text in data.random}
        for name, of in data.sets.items():
            if len(of) < FEWEST_EXAMPLES:
                raise ConceptError(
                    f"concept {name!r} has {len(of)} different examples; at least {FEWEST_EXAMPLES} are needed."
                )
            both = [text for text in of if plain(text) in random]
            if both:
                raise ConceptError(
                    f"{len(both)} examples of {name!r} stand among the random texts too (the first: {both[0][:40]!r}), "
                    "so the two cannot be told apart; take them out of one of the sets."
                )
        of_both: dict[str, str] = {}
        for name, of in data.sets.items():
            for text in of:
                first = of_both.setdefault(plain(text), name)
                if first != name:
                    raise ConceptError(
                        f"{text[:40]!r} is an example of {first!r} and of {name!r}; what is of two concepts tells them "
                        "apart from nothing: take it out of one of them."
                    )
        size = min(self.examples, *(len(of) for of in data.sets.values()))
        if size < FEWEST_EXAMPLES:
            raise ConceptError(f"examples is {self.examples}; at least {FEWEST_EXAMPLES} are needed for a vector.")
        needed = size + max(size, *(len(of) for of in data.sets.values()))
        if len(data.random) < needed:
            raise ConceptError(
                f"there are {len(data.random)} different random texts; a random concept of the size of the largest set "
                f"and its counterexamples take {needed}. Give more, or a lower examples."
            )
        return size

    def _label(self, model: Any, classifier: TextClassifier) -> int:
        default = model.positive if isinstance(model, Predictor) else classifier.labels[-1]
        label = default if self.label is None else self.label
        if label not in classifier.labels:
            raise ConceptError(f"label {label!r} is {did_you_mean(label, classifier.labels)}")
        return classifier.labels.index(label)

    def _layers(self, classifier: TextClassifier) -> tuple[list[int], int]:
        model = classifier.language_model
        # A decoder answers at the end of its prompt, which the text's own tokens do not reach from the last layer.
        reached = model.family != "decoder" or classifier.verbaliser is None
        top = layer_count(model) - (1 if reached else 2)
        at = self.at or max(1, round(top * 2 / 3))
        evenly = np.unique(np.linspace(1, top, min(top, _LAYERS)).round().astype(int)).tolist()
        layers = sorted({*(self.layers or evenly), at})
        if layers[0] < 1 or layers[-1] > top:
            raise ConceptError(
                f"layers {layers}: the model has layers 1 to {top} (0, the embeddings, is none of them"
                f"{'' if reached else ', nor the last, whose outputs for the text the answer does not depend on'})."
            )
        return layers, at

    def _chosen(
        self, classifier: TextClassifier, data: Concepts, label: int, answer: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """The texts of the label: by the labels given, else by the classifier's answers."""
        name = classifier.labels[label]
        if data.labels is None:
            chosen, how = np.flatnonzero(answer == label), "are classified as"
        else:
            chosen, how = np.flatnonzero(np.array(data.labels) == name), "are labelled"
        if len(chosen) < _FEWEST_TEXTS:
            raise ConceptError(
                f"{len(chosen)} of {len(data.texts)} texts {how} {name!r}; at least {_FEWEST_TEXTS} are needed for a "
                "share of them to say something."
            )
        return chosen

    def _vectors(
        self, hidden: Doubles, rows_of: dict[str, npt.NDArray[np.int64]], size: int
    ) -> dict[Key, tuple[Doubles, Doubles]]:
        """Normals and accuracies of every kind of vector at one layer."""
        random = rows_of[""]
        names = [name for name in rows_of if name]
        found = {("random", "random", "random"): vectors(hidden, at_random(random, size), self.sets, (self.seed, 0))}
        for i, name in enumerate(names):
            draw = against(rows_of[name], random, size)
            found["concept", name, "random"] = vectors(hidden, draw, self.sets, (self.seed, 1, i))
        largest = max(len(rows_of[name]) for name in names)
        centre = {name: hidden[rows].mean(0) for name, rows in rows_of.items()}
        for i in range(self.random_concepts):
            name, other = names[i % len(names)], names[(i + 1) % len(names)]
            rng = np.random.default_rng((self.seed, 2, i))
            fixed = rng.choice(random, largest, replace=False)
            rest = np.setdiff1d(random, fixed)
            shifted, own = moved(hidden, fixed, random, centre[name] - centre[""], rng)
            draw = against(own, rest, size)
            found["random concept", f"random {i}", "random"] = vectors(shifted, draw, self.sets, (self.seed, 3, i))
            if self.relative and len(names) > 1:
                # Two fixed sets share more than a fixed one and fresh draws do, so pairs are held against pairs.
                rng = np.random.default_rng((self.seed, 5, i))
                second = rng.choice(rest, min(largest, len(rest)), replace=False)
                shifted, own = moved(hidden, fixed, random, centre[name] - centre[other], rng)
                draw = against(own, second, size)
                found["random pair", f"random {i}", "random"] = vectors(shifted, draw, self.sets, (self.seed, 6, i))
        for i, name in enumerate(names if self.relative else []):
            for j, other in enumerate(names):
                if other != name:
                    draw = against(rows_of[name], rows_of[other], size)
                    found["relative", name, other] = vectors(hidden, draw, self.sets, (self.seed, 4, i, j))
        return found

    def _examples(
        self, classifier: TextClassifier, data: Concepts, layers: list[int], progress: Progress
    ) -> tuple[States, dict[str, npt.NDArray[np.int64]]]:
        """States of all examples, and the rows of each concept's and, by the empty name, of the random texts."""
        pools = {**data.sets, "": data.random}
        pairs = [(text, None) for of in pools.values() for text in of]
        read = states(classifier, pairs, layers, batch_size=self.batch_size, progress=progress)
        starts = np.cumsum([0, *(len(of) for of in pools.values())])
        return read, {name: np.arange(starts[i], starts[i + 1]) for i, name in enumerate(pools)}

    def _untrained(
        self, classifier: TextClassifier, data: Concepts, label: int, at: int, size: int,
        chosen: npt.NDArray[np.int64], progress: Progress,
    ) -> dict[str, float]:  # fmt: skip
        """The same figures for a network and a head that have learnt nothing."""
        fresh = TextClassifier(
            random_weights(classifier.language_model, seed=self.seed + 1), classifier.labels,
            kind="head" if classifier.language_model.family == "encoder" else "lora", seed=self.seed + 1,
        )  # fmt: skip
        # The same prompt, so that only the weights differ.
        fresh.verbaliser, fresh.max_length = classifier.verbaliser, classifier.max_length
        pairs = [data.texts[i] for i in chosen]
        texts = states(fresh, pairs, [at], target=label, batch_size=self.batch_size, progress=progress)
        read, rows_of = self._examples(fresh, data, [at], progress)
        found = self._vectors(read.mean[0].numpy().astype(np.float64), rows_of, size)
        rows = self._rows(at, _scored(found, _slopes(texts, np.arange(len(pairs)))[0]))
        return metrics_of(corrected(pd.DataFrame(rows), self.random_concepts), at)

    def _rows(self, layer: int, scored: dict[Key, tuple[Doubles, Doubles, Doubles]]) -> list[dict[str, Any]]:
        control, _, level = scored["random", "random", "random"]
        # By slopes, since scores of steady vectors are 0 or 1 whatever they stand for.
        drift = {
            alike: [abs(slope.mean() - level.mean()) for (kind, _, _), (*_, slope) in scored.items() if kind == alike]
            for alike in ("random concept", "random pair")
        }
        rows = []
        for (kind, name, other), (score, right, slope) in scored.items():
            if kind not in ("concept", "relative"):
                continue
            row: dict[str, Any] = {"layer": layer, "concept": name, "against": other, "accuracy": right.mean()}
            row |= {"score": np.nan, "sd": np.nan, "random": control.mean(), "random_sd": control.std(ddof=1)}
            row |= {"slope": np.nan}
            row |= {"p": np.nan, "p_t": np.nan, "beyond": np.nan}
            if right.mean() >= ACCURATE:
                row |= {
                    "score": score.mean(),
                    "sd": score.std(ddof=1),
                    "slope": slope.mean(),
                    "p": permutation_p(score, control, seed=self.seed),
                }
                row["p_t"] = welch(score, control)
                row["beyond"] = as_far(
                    slope.mean() - level.mean(), drift["random pair" if kind == "relative" else "random concept"]
                )
            rows.append(row)
        return rows

    def _controls(self, drawn: pd.DataFrame, table: pd.DataFrame, at: int) -> tuple[dict[str, Any], float]:
        """Both control arms at the layer of the metrics, and the share of random concepts that the test finds."""
        here = drawn[drawn["layer"] == at]
        random = here.loc[here["kind"] == "random", "score"].to_numpy()
        false = []
        of_concepts = here[here["kind"] == "random concept"]
        for _, of in of_concepts.groupby("concept", sort=False):
            false.append(permutation_p(of["score"].to_numpy(), random, seed=self.seed) < ALPHA)
        names = table["concept"].unique()
        means = {
            "random_vectors": here[here["kind"] == "random"][["score", "accuracy"]].mean(),
            "random_concepts": of_concepts[["score", "accuracy"]].mean(),
        }
        controls: dict[str, Any] = {
            arm: {f"{figure} {name}": float(of[figure]) for name in names for figure in ("score", "accuracy")}
            for arm, of in means.items()
        }
        controls["random_concepts"]["significant"] = float(np.mean(false))
        return controls, float(np.mean(false))

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Made-up praise and blame, and a tiny encoder with an untuned head."""
        classifier = TextClassifier(tiny("bert"), ("bad", "good"), kind="head", max_length=24)
        return cls(layers=(1,), at=1, examples=20, random_concepts=2), classifier, tiny_concepts()


def _slopes(texts: States, chosen: npt.NDArray[np.int64]) -> Doubles:
    """Gradients of the chosen texts by layer [layers, n, d]."""
    if texts.gradient is None:
        raise ConceptError("no gradients were taken.")
    return texts.gradient.numpy().astype(np.float64)[:, chosen]


def _scored(
    found: dict[Key, tuple[Doubles, Doubles]], gradients: Doubles
) -> dict[Key, tuple[Doubles, Doubles, Doubles]]:
    """TCAV scores, accuracies and mean slopes of every vector in place of its normal."""
    slopes = {key: gradients @ normals.T for key, (normals, _) in found.items()}
    return {key: ((s > 0).mean(0), found[key][1], s.mean(0)) for key, s in slopes.items()}


def tiny_concepts() -> Concepts:
    """Made-up sets of short texts, for the contract test and for trying things out."""
    rng = np.random.default_rng(0)
    words = {"praise": ["love", "great", "nice", "happy"], "blame": ["hate", "awful", "terrible", "sad"],
             "": ["movie", "film", "people", "you", "they", "when", "who", "at", "by"]}  # fmt: skip

    def some(kind: str, n: int) -> tuple[str, ...]:
        made: dict[str, None] = {}
        while len(made) < n:
            made[" ".join([*rng.choice(words[""], 2).tolist(), str(rng.choice(words[kind]))])] = None
        return tuple(made)

    sets = {kind: some(kind, 24) for kind in ("praise", "blame")}
    return Concepts(sets, some("", 60), tuple((text, None) for text in some("", 30)), ("good",) * 30)
