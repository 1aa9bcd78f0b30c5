"""Structural probes: are syntax trees in the geometry of a layer?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.arrays import Floats
from tracemend.data import Sentence, Treebank
from tracemend.errors import ProbeError
from tracemend.evaluate import mean_interval
from tracemend.methods import Method
from tracemend.models import LanguageModel, represent, tiny
from tracemend.models.representations import as_read
from tracemend.probing.geometry import Geometry, TreeProbe, Trees
from tracemend.probing.jabberwocky import made_up_beside, unread
from tracemend.probing.made_up import tiny_treebank
from tracemend.probing.posed import fitting
from tracemend.probing.result import ProbeResult, compared
from tracemend.probing.tasks import depths
from tracemend.probing.trees import (
    Edge,
    chain_distances,
    counted,
    first_verb,
    root_hits,
    shared_edges,
    spanning_tree,
    spearman_by_length,
    tree_distances,
)
from tracemend.probing.untrained import averaged, untrained
from tracemend.progress import Progress

_DRAWN = 3
# Of vectors that a network reads at one length, so that training begins with distances about as long as a tree's.
_RMS = 0.25


@dataclass(frozen=True, kw_only=True)
class StructuralResult(ProbeResult):
    """A row a rank and layer; ``facts["trees"]`` holds a few test sentences with gold and predicted edges."""

    def figure(self) -> Any:
        """UUAS by layer beside the chain and random weights, over the trees of one test sentence."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 7), layout="constrained")
        curve, drawn = figure.subplots(2, 1)
        for rank, own in self.rows.groupby("rank"):
            curve.plot(own["layer"], own["uuas"], marker="o", label=f"rank {rank}")
        own = self.rows[self.rows["rank"] == self.facts["best_rank"]]
        curve.plot(own["layer"], own["random_weights"], "--", color="#8a8a8a", label="random weights")
        curve.axhline(self.controls["chain"]["uuas"], color="#b07d2b", lw=1, label="chain")
        curve.set(xlabel="layer (0: embeddings)", ylabel="UUAS")
        curve.legend(fontsize="small")
        draw_trees(drawn, self.facts["trees"][0])
        return figure


def draw_trees(axes: Any, tree: dict[str, Any]) -> None:
    """Gold edges above the words of a sentence, predicted ones below; those that are not gold are dashed."""
    from matplotlib.patches import Arc

    words, gold = tree["words"], {tuple(edge) for edge in tree["gold"]}
    for name, up in (("gold", True), ("predicted", False)):
        for edge in map(tuple, tree[name]):
            i, j = edge
            middle, width = (i + j) / 2, abs(j - i)
            place = (middle, 0.4 if up else -0.4)
            angles = (0, 180) if up else (180, 360)
            style = "-" if edge in gold else "--"
            colour = "#2f6f8f" if edge in gold else "#b0402b"
            axes.add_patch(Arc(place, width, width, theta1=angles[0], theta2=angles[1], color=colour, ls=style))
    for i, word in enumerate(words):
        axes.text(i, 0, word, ha="center", va="center", fontsize="small")
    reach = max([abs(i - j) for i, j in [*tree["gold"], *tree["predicted"]]], default=1) / 2 + 1
    axes.set(xlim=(-1, len(words)), ylim=(-reach, reach), title="gold above, predicted below")
    axes.axis("off")


@dataclass(frozen=True, kw_only=True)
class StructuralProbe(Method[StructuralResult]):
    """Whether a linear map makes distances between words those of the syntax tree (Hewitt and Manning 2019).

    Two probes a layer: distance, |B(h_i - h_j)|^2 against the steps between the words in the tree, and depth, |B h_i|^2
    against the steps to the root; both with L1 losses divided by sentence length squared, or length. Vectors that a
    network reads at one length (:func:`tracemend.models.representations.as_read`) have one. With
    ``geometry="poincare"`` the map goes into the unit ball (Chen et al. 2021, arXiv 2104.03869). The layer and the rank
    are chosen on dev, and the figures are of test:

    - ``uuas``: share of the gold tree's edges in the minimum spanning tree of the predicted distances, punctuation
      left out;
    - ``dspr``: Spearman correlation of each word's distances, averaged over lengths 5 to 50; ``nspr`` of depths;
    - ``root_accuracy``: how often the least deep word is the root. A rule may beat it: see ``first_verb``.

    Controls, in the same units: ``random_weights``, the same network untrained at its best layer, the mean over
    ``random_models`` of them; ``layer_0``; ``chain``, where distance is that in the sentence; ``first_verb`` as the
    root; ``jabberwocky``, the same probe on test sentences whose open-class words are made up (Maudslay and Cotterell
    2021): what is left of the result when meaning cannot help.

    Attributes:
        ranks: of B; several give a sweep.
        geometry: ``euclidean`` or ``poincare``.
        epochs: passes over the training sentences.
        layers: which; all if none are named.
        train_sentences, test_sentences: at most, at random; a tenth of the former serves as dev.
        random_models: how many untrained networks.

    Raises:
        ProbeError: data that are no treebank, sentences without trees, or no sentence of two words.

    Example:
        >>> found = StructuralProbe().run(load("minilm"), read_conllu("ud_ewt"))
        >>> found.metrics["uuas"], found.controls["chain"], found.controls["random_weights"]
    """

    name = "probing.structural"
    inputs: ClassVar[str] = "Treebank"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder"})
    at_least: ClassVar = {"ranks": 1, "epochs": 1, "train_sentences": 1, "test_sentences": 1, "random_models": 1}

    ranks: tuple[int, ...] = (64,)
    geometry: Geometry = "euclidean"
    epochs: int = 20
    layers: tuple[int, ...] = ()
    train_sentences: int = 1500
    test_sentences: int = 500
    random_models: int = 2

    def run(
        self, model: Any, data: Any, *, cache: Path | None = None, progress: Progress = Progress()
    ) -> StructuralResult:
        """Probe.

        Args:
            model: a :class:`LanguageModel`; its weights are not touched.
            data: a :class:`Treebank` with trees.
            cache: where representations are kept, shared by the probes of a run.
        """
        began = time.perf_counter()
        if not isinstance(model, LanguageModel):
            raise ProbeError(f"{self.name} takes a LanguageModel, not {type(model).__name__}; load one first.")
        parts, notes = self._parts(data, model)
        banks, unread_ones = self._with_made_up(parts, model)
        notes += unread_ones
        trained = self._read(model, banks, cache, progress)
        fresh = [
            self._read(one, banks, cache, progress) for one in untrained(model, self.random_models, seed=self.seed)
        ]
        layers = list(self.layers) or list(range(trained[0].uuas.shape[0]))
        rows = pd.concat(
            [
                pd.DataFrame(
                    {"rank": rank, "layer": layers, **one.table(), **averaged([o.as_control() for o in others])}
                )
                for rank, one, *others in zip(self.ranks, trained, *fresh, strict=True)
            ],
            ignore_index=True,
        )
        best = max(trained, key=lambda one: one.dev.max())
        own = best.best
        at_best = [max(of_ranks, key=lambda one: one.dev.max()) for of_ranks in fresh]
        test = parts["test"].sentences
        chain = [chain_distances(len(s)) for s in test]
        verb = [first_verb(s) for s in test]
        arms = {
            "random_weights": averaged([one.figures(one.best) for one in at_best]),
            "chain": {"uuas": _ratio(_uuas(chain, test)), "dspr": spearman_by_length(_gold(test), chain)},
            "first_verb": {"root_accuracy": float(root_hits(verb, test).mean()),
                           "nspr": spearman_by_length(_gold_depths(test), verb)},
        }  # fmt: skip
        if 0 in layers:
            arms["layer_0"] = best.figures(layers.index(0))
        if best.made_up is not None:
            arms["jabberwocky"] = best.made_up.figures(own)
        facts = {
            "best_layer": layers[own],
            "best_rank": best.rank,
            "n_train": len(parts["train"]),
            "n_test": len(test),
            "trees": best.drawn(own, test),
            "model": model.name,
            "model_fingerprint": model.fingerprint,
            "seconds": round(time.perf_counter() - began, 1),
        }
        of_random = np.mean([one.uuas[one.best] for one in at_best], axis=0)
        others = {"random weights": of_random, "the chain": _uuas(chain, test)}
        if 0 in layers and layers[own] != 0:
            others["layer 0"] = best.uuas[layers.index(0)]
        findings = self._findings(best, own, layers, others, arms) + notes
        return StructuralResult(
            metrics=best.figures(own), controls=arms, config=self.config, rows=rows, findings=findings, facts=facts
        )

    def _parts(self, data: Any, model: LanguageModel) -> tuple[dict[str, Treebank], list[str]]:
        if not isinstance(data, Treebank):
            raise ProbeError(f"{self.name} takes a Treebank, not {type(data).__name__}; read one with read_conllu.")
        bare = next((s for s in data.sentences if s.heads is None), None)
        if bare is not None:
            raise ProbeError(f"sentence {bare.id} has no tree (heads); a structural probe needs a dependency treebank.")
        if not self.ranks:
            raise ProbeError("there are no ranks to probe with; give one, such as 64.")
        banks = data.split(seed=self.seed)
        most = {"train": self.train_sentences, "dev": max(1, self.train_sentences // 10), "test": self.test_sentences}
        rng = np.random.default_rng(self.seed)
        taken = {part: bank.take(sorted(rng.permutation(len(bank))[: most[part]])) for part, bank in banks.items()}
        fit, notes = fitting({part: bank.words for part, bank in taken.items()}, model)
        return {part: bank.take(np.flatnonzero(fit[part]).tolist()) for part, bank in taken.items()}, notes

    def _with_made_up(self, parts: dict[str, Treebank], model: LanguageModel) -> tuple[dict[str, Treebank], list[str]]:
        """The parts, and the test part with made-up words where there is one that the model can read; else why not."""
        made_up = made_up_beside(parts, model, seed=self.seed)
        if made_up is None:
            return parts, []
        why = unread(made_up.words, model)
        return (parts | {"made_up": made_up}, []) if why is None else (parts, [why])

    def _read(
        self, model: LanguageModel, banks: dict[str, Treebank], cache: Path | None, progress: Progress
    ) -> list[_Read]:
        trees = {}
        for part, bank in banks.items():
            vectors = represent(model, bank.words, layers=list(self.layers) or None, cache=cache, progress=progress)
            trees[part] = Trees(
                as_read(model, vectors.hidden, rms=_RMS),
                np.array([len(s) for s in bank.sentences]),
                _gold(bank.sentences),
                _gold_depths(bank.sentences),
            )
        found = []
        for rank in progress.track(self.ranks, task="structural probes"):
            probe = TreeProbe(rank=rank, geometry=self.geometry, epochs=self.epochs, seed=self.seed)
            distance = probe.fit(trees["train"], trees["dev"])
            depth = replace(probe, kind="depth").fit(trees["train"], trees["dev"])
            made = {
                part: _Read.of(rank, distance(trees[part]), depth(trees[part]), banks[part].sentences)
                for part in banks
                if part != "train"
            }
            found.append(made["test"].beside(made["dev"], made.get("made_up")))
        return found

    def _findings(
        self,
        best: _Read,
        own: int,
        layers: list[int],
        others: dict[str, npt.NDArray[Any]],
        arms: dict[str, dict[str, float]],
    ) -> list[str]:
        what = f"layer {layers[own]}"
        said = [
            f"{what} and rank {best.rank}, chosen on dev, recover {best.uuas_of_layers[own]:.3f} of the edges of "
            f"{best.uuas.shape[2]} test trees."
        ]
        for control, of_control in others.items():
            # Shares of edges, sentence by sentence, weighed by the edges of the sentence.
            edges = best.uuas[own, 1]
            gap = (best.uuas[own, 0] - of_control[0]) / edges.mean()
            low, high = mean_interval(gap, seed=self.seed)
            said.append(compared(what, control, float(gap.mean()), float(low), float(high)))
        root, rule = best.root[own].mean(), arms["first_verb"]["root_accuracy"]
        said.append(
            f"It finds the root of {root:.3f} of the sentences; calling the first verb the root is right in {rule:.3f}"
            + ("." if root > rule else ", so root accuracy shows nothing here.")
        )
        if "jabberwocky" in arms:
            left = arms["jabberwocky"]["uuas"]
            said.append(f"With made-up open-class words {left:.3f} is left ({left - best.uuas_of_layers[own]:+.3f}).")
        return said

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Seventy sentences of a made-up grammar, and a tiny encoder."""
        return cls(ranks=(4,), epochs=3, train_sentences=30, test_sentences=12), tiny("bert"), tiny_treebank()


@dataclass(frozen=True, eq=False)
class _Read:
    """What the probes of one rank predict of some sentences, by layer."""

    rank: int
    edges: list[list[set[Edge]]]
    uuas: npt.NDArray[np.int64]  # [layers, 2, s]: shared edges, gold edges
    dspr: list[float]
    root: Floats  # [layers, s]
    nspr: list[float]
    dev: Floats = field(default_factory=lambda: np.zeros(0))
    made_up: _Read | None = None

    @classmethod
    def of(cls, rank: int, distance: list[Floats], depth: list[Floats], sentences: Sequence[Sentence]) -> _Read:
        """Compare predictions [layers, t, t] and [layers, t] of each sentence with its tree."""
        layers = range(len(distance[0]))
        kept = [counted(s) for s in sentences]
        gold = [spanning_tree(d, k) for d, k in zip(_gold(sentences), kept, strict=True)]
        edges = [[spanning_tree(d[layer], k) for d, k in zip(distance, kept, strict=True)] for layer in layers]
        return cls(
            rank,
            edges,
            np.stack([shared_edges(gold, of) for of in edges]),
            [spearman_by_length(_gold(sentences), [d[layer] for d in distance]) for layer in layers],
            np.stack([root_hits([d[layer] for d in depth], sentences) for layer in layers]),
            [spearman_by_length(_gold_depths(sentences), [d[layer] for d in depth]) for layer in layers],
        )

    def beside(self, dev: _Read, made_up: _Read | None) -> _Read:
        """The same, knowing how good each layer is on dev, and what it makes of made-up words."""
        return _Read(self.rank, self.edges, self.uuas, self.dspr, self.root, self.nspr, dev.uuas_of_layers, made_up)

    @property
    def uuas_of_layers(self) -> Floats:
        return np.array([_ratio(of) for of in self.uuas])

    def table(self) -> dict[str, Any]:
        low, high = zip(*[_interval(of) for of in self.uuas], strict=True)
        found = {"uuas": self.uuas_of_layers, "low": low, "high": high, "dspr": self.dspr,
                 "root_accuracy": self.root.mean(1), "nspr": self.nspr, "dev_uuas": self.dev}  # fmt: skip
        return found | ({} if self.made_up is None else {"jabberwocky": self.made_up.uuas_of_layers})

    def as_control(self) -> dict[str, Any]:
        found = {"random_weights": self.uuas_of_layers}
        return found | ({} if self.made_up is None else {"random_jabberwocky": self.made_up.uuas_of_layers})

    @property
    def best(self) -> int:
        """The layer that is best on dev, as a place among those that were read."""
        return int(self.dev.argmax())

    def figures(self, layer: int) -> dict[str, float]:
        return {
            "uuas": float(self.uuas_of_layers[layer]),
            "dspr": float(self.dspr[layer]),
            "root_accuracy": float(self.root[layer].mean()),
            "nspr": float(self.nspr[layer]),
        }

    def drawn(self, layer: int, sentences: Sequence[Sentence]) -> list[dict[str, Any]]:
        """A few sentences of middling length with gold and predicted edges."""
        fit = [i for i, s in enumerate(sentences) if 6 <= len(s) <= 14] or list(range(len(sentences)))
        found = []
        for i in fit[:_DRAWN]:
            gold = spanning_tree(tree_distances(sentences[i].heads or ()), counted(sentences[i]))
            found.append(
                {
                    "words": list(sentences[i].words),
                    "gold": [list(edge) for edge in sorted(gold)],
                    "predicted": [list(edge) for edge in sorted(self.edges[layer][i])],
                }
            )
        return found


def _gold(sentences: Sequence[Sentence]) -> list[Floats]:
    return [tree_distances(s.heads or ()) for s in sentences]


def _gold_depths(sentences: Sequence[Sentence]) -> list[Floats]:
    return [np.array(depths(s.heads or ()), dtype=np.float64) for s in sentences]


def _uuas(distances: list[Floats], sentences: Sequence[Sentence]) -> npt.NDArray[np.int64]:
    kept = [counted(s) for s in sentences]
    gold = [spanning_tree(d, k) for d, k in zip(_gold(sentences), kept, strict=True)]
    return shared_edges(gold, [spanning_tree(d, k) for d, k in zip(distances, kept, strict=True)])


def _ratio(edges: npt.NDArray[np.int64]) -> float:
    return float(edges[0].sum() / max(1, edges[1].sum()))


def _interval(edges: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Of the share of edges, sentences resampled."""
    repeated = np.concatenate([np.repeat([1.0, 0.0], [hit, of - hit]) for hit, of in edges.T])
    low, high = mean_interval(repeated, np.repeat(np.arange(edges.shape[1]), edges[1]).tolist())
    return float(low), float(high)
