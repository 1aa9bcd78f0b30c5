"""Classifier probes of every layer, with every control that their accuracy needs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from torch import Tensor

from tracemend.arrays import Floats
from tracemend.data import Labelled, Splits, Treebank, make_splits
from tracemend.errors import ProbeError
from tracemend.evaluate import mean_interval
from tracemend.methods import Method
from tracemend.models import LanguageModel, represent, tiny
from tracemend.models.representations import Pooling
from tracemend.probing.codelength import FEWEST, online_codelength
from tracemend.probing.controls import local_context
from tracemend.probing.jabberwocky import made_up_beside
from tracemend.probing.made_up import tiny_treebank
from tracemend.probing.posed import MADE_UP, PARTS, Posed, Read, best_layer, hits_made_up, hits_of, within
from tracemend.probing.result import ProbeResult, compared
from tracemend.probing.solver import Solver
from tracemend.probing.tasks import Items, frequent_words, items, joined
from tracemend.probing.untrained import averaged, untrained
from tracemend.progress import Progress


@dataclass(frozen=True, kw_only=True)
class LayerProbeResult(ProbeResult):
    """Figures of the layer that was best on dev; the table has a row a layer."""

    def figure(self) -> Any:
        """Accuracy by layer with its interval, beside made-up words, random weights, a control task and no layers."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        rows = self.rows
        axes.fill_between(rows["layer"], rows["low"], rows["high"], color="#2f6f8f", alpha=0.25, lw=0)
        axes.plot(rows["layer"], rows["accuracy"], color="#2f6f8f", marker="o", label="probe")
        for column, style in (("random_weights", "--"), ("control_task", ":"), ("shuffled_labels", "-.")):
            if column in rows:
                axes.plot(rows["layer"], rows[column], style, color="#8a8a8a", label=column.replace("_", " "))
        if "jabberwocky" in rows:
            axes.plot(rows["layer"], rows["jabberwocky"], color="#b5483a", marker=".", label="made-up words")
        for arm, colour in (("word_type", "#b07d2b"), ("local_context", "#7d4f9e"), ("majority", "#c9c9c9")):
            if arm in self.controls:
                axes.axhline(self.controls[arm]["accuracy"], color=colour, lw=1, label=arm.replace("_", " "))
        axes.set(xlabel="layer (0: embeddings)", ylabel="accuracy", title=str(self.config.get("task", "")))
        figure.legend(fontsize="small", loc="outside right center")
        return figure


@dataclass(frozen=True, kw_only=True)
class LayerProbe(Method[LayerProbeResult]):
    """What a linear or one-layer classifier can read from each layer of a frozen model.

    For every layer softmax(Wx + b) is trained on the vectors of words or sentences (Belinkov et al. 2017; Conneau et
    al. 2018); the layer is chosen on dev and reported on test. A probe can learn a task by itself, so the figure comes
    with:

    - ``control_task``: a random label for every word type (Hewitt and Liang 2019, arXiv 1909.03368); accuracy minus
      that is the selectivity;
    - ``random_weights``: the same network untrained, at its own best layer; the mean over ``random_models`` of them;
    - ``layer_0``: the embeddings; ``local_context``: those of the word and its two neighbours (Kunz and Kuhlmann 2020);
    - ``word_type``: the label that the word mostly has; ``majority``: the most frequent label;
    - ``shuffled_labels``: training labels in random order;
    - ``jabberwocky``: the same probe on test sentences whose open-class words are made up (Maudslay and Cotterell
      2021): what is left when meaning cannot help. It is no bar to beat: a fall says how much hung on known words;
    - the compression of the labels by the online code (Voita and Titov 2020), which needs no choice of probe size.

    Metrics: ``accuracy`` and ``macro_f1`` on test; ``accuracy_unseen``, on words that training lacks;
    ``accuracy_replaced``, on those that the made-up ones stand for; ``selectivity``; ``compression`` (n log2 K bits
    over the codelength of the training labels).

    Attributes:
        task: see :func:`tracemend.probing.tasks.items`; labelled texts have the task ``label``.
        hidden: units of a hidden layer; 0 for a linear probe, which is the more selective one.
        c: inverse strength of the penalty on the weights.
        pooling: of a word's tokens, or a sentence's.
        layers: which; all if none are named.
        train_items: most items to train on, whole sentences at random; a tenth of it serves as dev.
        test_items: most items to test on.
        mdl: whether the codelength is taken.
        random_models: how many untrained networks.

    Raises:
        ProbeError: one label only, no test data, or data that are no treebank and no labelled texts.

    Example:
        >>> found = LayerProbe(task="upos").run(load("minilm"), read_conllu("ud_ewt"))
        >>> found.table()[["layer", "accuracy", "random_weights", "selectivity"]]
        >>> found.findings[1]
        'layer 3 beats random weights by 0.214 (0.199 to 0.229).'
    """

    name = "probing.layers"
    inputs: ClassVar[str] = "Treebank"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder"})
    at_least: ClassVar = {"train_items": 1, "test_items": 1, "random_models": 1, "hidden": 0}

    task: str = "upos"
    hidden: int = 0
    c: float = 0.1
    pooling: Pooling = "mean"
    layers: tuple[int, ...] = ()
    train_items: int = 12_000
    test_items: int = 7_000
    mdl: bool = True
    random_models: int = 2

    def run(
        self, model: Any, data: Any, *, cache: Path | None = None, progress: Progress = Progress()
    ) -> LayerProbeResult:
        """Probe.

        Args:
            model: a :class:`LanguageModel`; its weights are not touched.
            data: a :class:`Treebank`; or labelled texts (:class:`Labelled`, :class:`Splits`).
            cache: where representations are kept, shared by the probes of a run.
        """
        began = time.perf_counter()
        if not isinstance(model, LanguageModel):
            raise ProbeError(f"{self.name} takes a LanguageModel, not {type(model).__name__}; load one first.")
        if not 0 < self.c < np.inf:
            raise ProbeError(f"c is {self.c}; it must be above 0, such as 0.1.")
        if len(set(self.layers)) < len(self.layers):
            raise ProbeError(f"layers are {list(self.layers)}; name each once.")
        parts, notes = within(self._parts(data, model), model)
        if self.mdl and len(parts["train"]) < FEWEST:
            notes.append(f"No codelength was taken: it says nothing of fewer than {FEWEST} training items.")
        if isinstance(data, Treebank) and data.by_sentence:
            notes.append("Nothing says which sentences are of one document, so train, dev and test divide sentences.")
        posed = Posed.of(parts, self.seed).before(model)
        posed.notes.extend(notes)
        trained = self._read(model, posed, cache, progress)
        fresh = [
            self._read(one, posed, cache, progress) for one in untrained(model, self.random_models, seed=self.seed)
        ]
        return self._result(model, posed, trained, fresh, time.perf_counter() - began)

    def _parts(self, data: Any, model: LanguageModel) -> dict[str, Items]:
        if isinstance(data, Labelled):
            data = make_splits(data, seed=self.seed)
        if isinstance(data, Splits):
            given = {"train": data.train, "dev": data.validation, "test": data.test or data.verdict}
            found = {part: _of_texts(labelled) for part, labelled in given.items()}
        elif isinstance(data, Treebank):
            banks = data.split(seed=self.seed)
            known = frequent_words(banks["train"]) if self.task in ("previous-word", "next-word") else ()
            found = {part: items(banks[part], self.task, known=known, seed=self.seed) for part in PARTS}
            if (made_up := made_up_beside(banks, model, seed=self.seed)) is not None:
                found[MADE_UP] = items(made_up, self.task, known=known, seed=self.seed)
        else:
            raise ProbeError(
                f"{self.name} takes a Treebank or labelled texts, not {type(data).__name__}; read them with "
                "tracemend.data."
            )
        return self._sampled(found)

    def _sampled(self, found: dict[str, Items]) -> dict[str, Items]:
        """At most so many items of each part; those among made-up words where they are test's, and not others."""
        if MADE_UP in found and found[MADE_UP].label != found["test"].label:
            del found[MADE_UP]  # The task asks which words there are.
        test = self.test_items
        most = {"train": self.train_items, "dev": max(1, self.train_items // 10), "test": test, MADE_UP: test}
        return {part: of.sample(most[part], seed=self.seed) for part, of in found.items()}

    def _read(self, model: LanguageModel, posed: Posed, cache: Path | None, progress: Progress) -> Read:
        x, around = self._features(model, posed.texts, cache, progress)
        return self._fitted(posed, x, around, progress)

    def _fitted(self, posed: Posed, x: dict[str, Tensor], around: dict[str, Tensor], progress: Progress) -> Read:
        solver = Solver(c=self.c, hidden=self.hidden, seed=self.seed)
        probes = solver.fit(x["train"], posed.labellings["train"], posed.classes)
        predicted = {part: probes.predict(x[part]) for part in ("dev", "test")}
        local = None
        if around:
            beside = solver.fit(around["train"], posed.labellings["train"][:1], posed.classes)
            local = beside.predict(around["test"])[0, 0]
        bits = None
        if self.mdl and len(posed.parts["train"]) >= FEWEST:
            coded = posed.labellings["train"][: 2 if posed.has_control else 1]
            bits = online_codelength(x["train"], coded, posed.classes, solver=solver, seed=self.seed, progress=progress)
        made_up = probes.predict(x[MADE_UP])[:, 0] if MADE_UP in x else None
        return Read(predicted["dev"], predicted["test"], local, bits, int(x["train"].shape[2]), made_up)

    def _features(
        self, model: LanguageModel, parts: dict[str, Items], cache: Path | None, progress: Progress
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Vectors of the items of each part [layers, n, d], and of them with their neighbours at layer 0."""
        words = [sentence for of in parts.values() for sentence in of.words]
        unit = parts["train"].unit
        layers = list(self.layers) or None
        vectors = represent(
            model, words, unit=unit, pooling=self.pooling, layers=layers, cache=cache, progress=progress
        )
        starts = np.searchsorted(vectors.sentence, np.arange(len(words)))
        chosen = self._chosen(model)
        context = None
        if unit == "word" and 0 in chosen:
            context = local_context(vectors.hidden[chosen.index(0)], vectors.sentence)
        rows, around, first = {}, {}, 0
        for part in parts:
            rows[part] = starts[parts[part].sentence + first] + parts[part].word
            if context is not None:
                around[part] = context[:, rows[part]]
            first += len(parts[part].words)
        # Within the memory that they have, layer by layer: a copy of all of a large model's vectors has no room.
        wanted = np.concatenate(list(rows.values()))
        for layer in vectors.hidden:
            layer[: len(wanted)] = layer[wanted]
        sizes = [len(of) for of in rows.values()]
        return dict(zip(rows, vectors.hidden[:, : len(wanted)].split(sizes, dim=1), strict=True)), around

    def _chosen(self, model: LanguageModel) -> list[int]:
        layers = int(getattr(model.config, "num_layers", None) or model.config.num_hidden_layers) + 1
        return list(self.layers) or list(range(layers))

    def _result(
        self, model: LanguageModel, posed: Posed, trained: Read, fresh: list[Read], seconds: float
    ) -> LayerProbeResult:
        layers = self._chosen(model)
        best = best_layer(trained, posed)
        hits = hits_of(trained, posed)
        low, high = mean_interval(hits, posed.groups, seed=self.seed)
        table = pd.DataFrame(
            {
                "layer": layers,
                "accuracy": hits.mean(1),
                "low": low,
                "high": high,
                "macro_f1": [posed.macro_f1(p) for p in trained.test[:, 0]],
                "dev_accuracy": (trained.dev[:, 0] == posed.labellings["dev"][0]).mean(1),
                "shuffled_labels": (trained.test[:, -1] == posed.y["test"]).mean(1),
                "random_weights": np.mean([hits_of(one, posed).mean(1) for one in fresh], axis=0),
            }
        )
        if posed.has_control:
            table["control_task"] = (trained.test[:, 1] == posed.labellings["test"][1]).mean(1)
            table["selectivity"] = table["accuracy"] - table["control_task"]
        uniform = len(posed.parts["train"]) * float(np.log2(posed.classes))
        if trained.bits is not None:
            table["compression"] = uniform / trained.bits[:, 0]
            table["random_compression"] = np.mean(
                [uniform / one.bits[:, 0] for one in fresh if one.bits is not None], axis=0
            )
            if posed.has_control:
                table["control_compression"] = uniform / trained.bits[:, 1]
        beside = hits_made_up(trained, posed)
        if beside is not None:
            table["jabberwocky"] = beside.mean(1)
            if posed.replaced.any():
                table["replaced"] = hits[:, posed.replaced].mean(1)
                table["jabberwocky_replaced"] = beside[:, posed.replaced].mean(1)
        arms = self._arms(posed, trained, fresh, uniform)
        found = posed.figures(trained, best, uniform)
        controls = {
            arm: {name: value for name, value in figures.items() if name in found} for arm, figures in arms.items()
        }
        facts = {
            "best_layer": layers[best],
            "labels": list(posed.names),
            "n_train": len(posed.parts["train"]),
            "n_dev": len(posed.parts["dev"]),
            "n_test": len(posed.parts["test"]),
            "interval": [float(low[best]), float(high[best])],
            "model": model.name,
            "model_fingerprint": model.fingerprint,
            "seconds": round(seconds, 1),
        }
        findings = self._findings(posed, trained, fresh, table, best, layers)
        return LayerProbeResult(
            metrics=found, controls=controls, config=self.config, rows=table, findings=findings, facts=facts
        )

    def _arms(self, posed: Posed, trained: Read, fresh: list[Read], uniform: float) -> dict[str, dict[str, float]]:
        best = best_layer(trained, posed)
        of_random = [posed.figures(one, best_layer(one, posed), uniform) for one in fresh]
        arms: dict[str, dict[str, float]] = {
            "random_weights": averaged(of_random),
            "shuffled_labels": {"accuracy": float((trained.test[best, -1] == posed.y["test"]).mean())},
            "majority": {"accuracy": float((posed.y["test"] == np.bincount(posed.y["train"]).argmax()).mean())},
        }
        if 0 in (self.layers or (0,)):
            arms["layer_0"] = posed.figures(trained, list(self.layers or (0,)).index(0), uniform)
        if posed.has_control:
            arms["control_task"] = {
                "accuracy": float((trained.test[best, 1] == posed.labellings["test"][1]).mean()),
                **({} if trained.bits is None else {"compression": uniform / float(trained.bits[best, 1])}),
            }
            arms["word_type"] = posed.accuracies(posed.by_type)
        if trained.local is not None:
            arms["local_context"] = posed.accuracies(trained.local)
        beside = hits_made_up(trained, posed)
        if beside is not None:
            arms["jabberwocky"] = {"accuracy": float(beside[best].mean())}
            if posed.replaced.any():
                arms["jabberwocky"]["accuracy_replaced"] = float(beside[best, posed.replaced].mean())
        return arms

    def _findings(
        self,
        posed: Posed,
        trained: Read,
        fresh: list[Read],
        table: pd.DataFrame,
        best: int,
        layers: list[int],
    ) -> list[str]:
        row = table.iloc[best]
        what = f"layer {layers[best]}"
        said = [
            f"{what}, chosen on dev, reads {self.task} with accuracy {row['accuracy']:.3f} ({row['low']:.3f} to "
            f"{row['high']:.3f}) on {len(posed.parts['test'])} items of test."
        ]
        hits = hits_of(trained, posed)
        others: dict[str, Floats] = {
            "random weights": np.mean([hits_of(one, posed)[best_layer(one, posed)] for one in fresh], axis=0)
        }
        if posed.has_control:
            others["the word's usual label"] = (posed.by_type == posed.y["test"]).astype(float)
        if 0 in layers and layers[best] != 0:
            others["layer 0"] = hits[layers.index(0)]
        if trained.local is not None:
            others["layer 0 of the word and its neighbours"] = (trained.local == posed.y["test"]).astype(float)
        others["the most frequent label"] = (posed.y["test"] == np.bincount(posed.y["train"]).argmax()).astype(float)
        for control, of_control in others.items():
            gap = hits[best] - of_control
            low, high = mean_interval(gap, posed.groups, seed=self.seed)
            said.append(compared(what, control, float(gap.mean()), float(low), float(high)))
        if posed.has_control and row["selectivity"] < 0.05:
            said.append(
                f"Selectivity is {row['selectivity']:.3f}: the probe learns random labels of words nearly as well, so "
                "its accuracy is no evidence of what the layer holds."
            )
        if "jabberwocky" in row:
            left = float(row["jabberwocky"])
            said.append(f"With made-up open-class words {left:.3f} is left ({left - row['accuracy']:+.3f}).")
        n, width = len(posed.parts["train"]), trained.width
        if n < 5 * width:
            said.append(f"{n} training items for {width} dimensions: the probe is under-determined; take more.")
        return said + posed.notes

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Sixty sentences of a made-up grammar, and a tiny encoder."""
        return cls(train_items=200, test_items=60), tiny("bert"), tiny_treebank()


def _of_texts(labelled: Labelled) -> Items:
    texts = joined(labelled)
    places = np.arange(len(texts))
    labels = tuple(str(label) for label in labelled.frame["label"])
    words, first = tuple((t,) for t in texts), np.zeros_like(places)
    return Items(words, places, first, labels, tuple(texts), "sentence", group=labelled.group_ids)
