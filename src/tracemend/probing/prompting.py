"""Classification by prompting alone: how good it is, and how much of that hangs on the wording."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pandas as pd

from tracemend.arrays import Floats
from tracemend.data import Labelled, Splits, make_splits
from tracemend.errors import ProbeError
from tracemend.evaluate import mean_interval
from tracemend.methods import Method
from tracemend.models import LanguageModel, represent, tiny
from tracemend.models.likelihood import check_likelihood
from tracemend.probing.prompted import Prompter, check_template
from tracemend.probing.result import ProbeResult, compared
from tracemend.probing.solver import Solver
from tracemend.probing.tasks import joined
from tracemend.probing.tuned_prefix import prefix_hits
from tracemend.probing.untrained import averaged, untrained
from tracemend.progress import Progress

TEMPLATES = (
    "Text: [X]\nLabel: [Y]",
    "[X]\nThis is [Y]",
    "Is the following text {labels}?\n[X]\nAnswer: [Y]",
    "Classify the text as {labels}.\nText: [X]\nClass: [Y]",
    "[X] All in all, it is [Y]",
)
# Asks for nothing: what is right here, the text's own words and the labels' frequencies gave away.
NONSENSE = "[X] and the other of when [Y]"


@dataclass(frozen=True, kw_only=True)
class PromptingResult(ProbeResult):
    """A row a template and order of examples, zero-shot ones (order -1) first."""

    def figure(self) -> Any:
        """Accuracy of every template: zero-shot, and with examples in each order; lines for what needs no template."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 3.5), layout="constrained")
        axes = figure.subplots()
        names = list(dict.fromkeys(self.rows["template"]))
        places = self.rows["template"].map({name: i for i, name in enumerate(names)})
        for few, mark, colour in ((False, "o", "#2f6f8f"), (True, "x", "#b07d2b")):
            own = (self.rows["order"] >= 0) == few
            label = "with examples, each order" if few else "zero-shot"
            axes.plot(self.rows["accuracy"][own], places[own], mark, color=colour, label=label)
        lines = {"majority": self.controls["majority"]["zero_shot"]}
        lines |= {name: self.metrics[name] for name in ("diagnostic", "prefix") if name in self.metrics}
        for (name, value), style in zip(lines.items(), (":", "--", "-."), strict=False):
            axes.axvline(value, color="#8a8a8a", ls=style, lw=1, label=name)
        axes.set_yticks(range(len(names)), [name.replace("\n", " / ")[:50] for name in names], fontsize="small")
        axes.invert_yaxis()
        axes.set(xlabel="accuracy")
        figure.legend(fontsize="small", loc="outside upper right", ncols=2)
        return figure


@dataclass(frozen=True, kw_only=True)
class PromptingProbe(Method[PromptingResult]):
    """Zero-shot and few-shot classification by prompts, beside a probe of the same model's vectors.

    A template holds the text, its reply behind it where there is one, at [X] and ends in [Y], where the label's word
    would stand; the answer is the label whose word's first token is the most probable one. With examples, some texts of
    every label stand before it, filled in likewise. Which template and which order is no detail (Zhao et al. 2021,
    arXiv 2102.09690; Lu et al. 2022, arXiv 2104.08786), so all are measured: the mean, the least and the most, and the
    one that is best on dev.

    Metrics, accuracies on test: ``zero_shot`` and ``few_shot`` (means), ``..._chosen`` (chosen on dev), ``..._least``,
    ``..._most``; ``diagnostic``: a linear probe of the mean vectors, trained on ``train_texts`` texts, layer chosen on
    dev; ``prefix``, where one is asked for: a prefix tuned on the same texts until the frozen model says the labels'
    words, see :func:`tracemend.probing.tuned_prefix.prefix_hits` (probing via prompting against the diagnostic probe;
    Li et al. 2022, arXiv 2207.01736). Controls in the same units:

    - ``random_weights``: the same network untrained, with a prefix and a probe of its own; the mean over
      ``random_models`` of them;
    - ``nonsense``: a template that asks for nothing;
    - ``wrong_labels``: the same examples, each with another label's word (after Min et al. 2022, arXiv 2202.12837);
    - ``same_examples``: the linear probe, trained on the examples of the prompt alone;
    - ``majority``: the most frequent label of train.

    Attributes:
        templates: with [X] and, at the end, [Y]; {labels} stands for the words of all labels.
        words: ``label=word`` for labels whose names are no words.
        shots: examples of every label.
        orders: of the examples, at random.
        train_texts, dev_texts, test_texts: at most, at random.
        prefix: virtual tokens of a tuned prefix; 0 tunes none, as it costs more than all the rest.
        prefix_epochs: over the texts of train.
        prefix_rate: the highest learning rate of its tuning.
        batch_size: texts of a forward pass.
        random_models: how many untrained networks.

    Raises:
        ProbeError: no decoder, data without labels, a template without [X] or [Y], words whose first tokens collide, or
            a prompt longer than the window.

    Example:
        >>> found = PromptingProbe(words=("0=negative", "1=positive")).run(load("smollm2"), data)
        >>> found.metrics["zero_shot_least"], found.metrics["zero_shot_most"], found.controls["nonsense"]
    """

    name = "probing.prompting"
    inputs: ClassVar[str] = "Labelled"
    capabilities: ClassVar[frozenset[str]] = frozenset({"decoder", "labels"})
    at_least: ClassVar = {"prefix": 0} | dict.fromkeys(
        ("shots", "orders", "train_texts", "dev_texts", "test_texts", "prefix_epochs", "batch_size", "random_models"), 1
    )

    templates: tuple[str, ...] = TEMPLATES
    words: tuple[str, ...] = ()
    shots: int = 2
    orders: int = 3
    train_texts: int = 200
    dev_texts: int = 50
    test_texts: int = 100
    prefix: int = 0
    prefix_epochs: int = 5
    prefix_rate: float = 1e-2
    batch_size: int = 16
    random_models: int = 2

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> PromptingResult:
        """Ask.

        Args:
            model: a decoder; its weights are not touched.
            data: :class:`Labelled` texts or :class:`Splits`.
        """
        began = time.perf_counter()
        if not isinstance(model, LanguageModel):
            raise ProbeError(f"{self.name} takes a LanguageModel, not {type(model).__name__}; load one first.")
        parts = self._parts(data)
        if model.family != "decoder":
            raise ProbeError(f"{model.name} is an {model.family}; prompts that end in a label need a decoder.")
        check_likelihood(model)
        own = _Asked(self._prompter(model, parts), self, parts, progress)
        table, hits = own.every(self.templates)
        probe = self._probed(model, parts, progress)
        fresh = [self._untrained(one, parts, progress) for one in untrained(model, self.random_models, seed=self.seed)]
        table["random_weights"] = np.mean([one.accuracy for one in fresh], axis=0)
        right = {"nonsense": own.every((NONSENSE,))[1], "wrong_labels": own.every(self.templates, wrong=True)[1]}
        usual = int(np.bincount(parts["train"].y).argmax())
        majority = (parts["test"].y == usual).astype(np.float64)
        chosen = {shot: _chosen(table, few=shot == "few_shot") for shot in ("zero_shot", "few_shot")}
        metrics = _figures(table, hits, chosen) | {"diagnostic": float(probe[0].mean())}
        arms: dict[str, dict[str, float]] = {
            "random_weights": averaged([one.figures for one in fresh]),
            "nonsense": {"zero_shot": float(right["nonsense"][0].mean()),
                         "few_shot": float(right["nonsense"][1:].mean())},
            "wrong_labels": {"few_shot": float(right["wrong_labels"].mean())},
            "same_examples": {"few_shot": float(probe[1].mean())},
            "majority": dict.fromkeys(("zero_shot", "few_shot", "diagnostic"), float(majority.mean())),
        }  # fmt: skip
        told: list[Floats] = []
        if self.prefix:
            theirs = [one.prefix for one in fresh if one.prefix is not None]
            told = [self._prefixed(model, parts, progress), np.mean(theirs, axis=0)]
            metrics["prefix"] = float(told[0].mean())
            arms["majority"]["prefix"] = float(majority.mean())
        facts = {
            "labels": list(parts["test"].labels),
            "examples": joined(parts["train"].take(self._examples(parts))),
            "spread_templates": float(table[table["order"] < 0]["accuracy"].std(ddof=0)),
            "spread_orders": float(table[table["order"] >= 0].groupby("template")["accuracy"].std(ddof=0).mean()),
            "n_dev": len(parts["dev"]),
            "n_test": len(parts["test"]),
            "model": model.name,
            "model_fingerprint": model.fingerprint,
            "seconds": round(time.perf_counter() - began, 1),
        }
        versus = {
            "the most frequent label": majority,
            "a nonsense template": right["nonsense"][0],
            "random weights": np.mean([one.zero_shot for one in fresh], axis=0),
            "the diagnostic probe": probe[0],
        }
        groups = parts["test"].group_ids.tolist()
        said = self._findings(table, hits, chosen, versus, right["wrong_labels"], probe[1], groups)
        if told:
            others_of = (("the same on random weights", told[1]), ("the most frequent label", majority),
                         ("the diagnostic probe", probe[0]), ("the zero-shot prompt chosen on dev",
                                                              hits[chosen["zero_shot"]]))  # fmt: skip
            said += [self._said("the tuned prefix", name, told[0] - of, groups) for name, of in others_of]
            blank = np.mean([one.probe for one in fresh], axis=0)
            said.append(self._said("the diagnostic probe", "the same on random weights", probe[0] - blank, groups))
        return PromptingResult(
            metrics=metrics, controls=arms, config=self.config, rows=table, findings=said, facts=facts
        )

    def _parts(self, data: Any) -> dict[str, Labelled]:
        if isinstance(data, Labelled):
            data = make_splits(data, seed=self.seed)
        if not isinstance(data, Splits):
            raise ProbeError(f"{self.name} takes labelled texts, not {type(data).__name__}; read them first.")
        for template in self.templates:
            check_template(template)
        if not self.templates:
            raise ProbeError("there is no template to ask with; give one, such as '[X] It was [Y]'.")
        if not 0 < self.prefix_rate < np.inf:
            raise ProbeError(f"prefix_rate is {self.prefix_rate}; it must be above 0, such as 0.01.")
        given = {"train": data.train, "dev": data.validation, "test": data.test or data.verdict}
        most = {"train": self.train_texts, "dev": self.dev_texts, "test": self.test_texts}
        rng = np.random.default_rng(self.seed)
        return {part: of.take(rng.permutation(len(of))[: most[part]]) for part, of in given.items()}

    def _untrained(self, model: LanguageModel, parts: dict[str, Labelled], progress: Progress) -> _Untrained:
        """What an untrained network answers, each figure by its own choices on dev."""
        table, hits = _Asked(self._prompter(model, parts), self, parts, progress).every(self.templates)
        probe = self._probed(model, parts, progress)[0]
        chosen = {shot: _chosen(table, few=shot == "few_shot") for shot in ("zero_shot", "few_shot")}
        figures = _figures(table, hits, chosen) | {"diagnostic": float(probe.mean())}
        prefix = None
        if self.prefix:
            prefix = self._prefixed(model, parts, progress)
            figures["prefix"] = float(prefix.mean())
        return _Untrained(table["accuracy"].to_numpy(), hits[chosen["zero_shot"]], probe, prefix, figures)

    def _prompter(self, model: LanguageModel, parts: dict[str, Labelled]) -> Prompter:
        labels = parts["train"].labels
        return Prompter.make(model, list(self._words(labels).values()))

    def _words(self, labels: Sequence[str]) -> dict[str, str]:
        """A word for each label."""
        given = dict(pair.partition("=")[::2] for pair in self.words)
        unknown = sorted(set(given) - set(labels))
        if unknown or not all(given.values()):
            raise ProbeError(
                f"words are given for {', '.join(unknown) or 'no word'}; expected label=word for labels among: "
                f"{', '.join(labels)}."
            )
        return {label: given.get(label, label) for label in labels}

    def _prefixed(self, model: LanguageModel, parts: dict[str, Labelled], progress: Progress) -> Floats:
        """Hits of a tuned prefix [n]."""
        return prefix_hits(
            model, parts, self._words(parts["train"].labels), tokens=self.prefix, epochs=self.prefix_epochs,
            learning_rate=self.prefix_rate, batch_size=self.batch_size, seed=self.seed, progress=progress,
        )  # fmt: skip

    def _examples(self, parts: dict[str, Labelled]) -> list[int]:
        """Places in train of the first texts of every label."""
        y = parts["train"].y
        found = [np.flatnonzero(y == label)[: self.shots] for label in range(len(parts["train"].labels))]
        few = [parts["train"].labels[i] for i, of in enumerate(found) if len(of) < self.shots]
        if few:
            raise ProbeError(f"train has fewer than {self.shots} texts of {', '.join(few)}; take more, or fewer shots.")
        places: list[int] = np.concatenate(found).tolist()
        return places

    def _probed(self, model: LanguageModel, parts: dict[str, Labelled], progress: Progress) -> tuple[Floats, Floats]:
        """Hits of the linear probe: trained on train, and on the examples alone [n, n]."""
        texts = {part: [(text,) for text in joined(of)] for part, of in parts.items()}
        together = [text for part in ("train", "dev", "test") for text in texts[part]]
        hidden = represent(model, together, unit="sentence", batch_size=self.batch_size, progress=progress).hidden
        train, dev, test = hidden.split([len(texts[part]) for part in ("train", "dev", "test")], dim=1)
        hits = []
        for rows in (list(range(train.shape[1])), self._examples(parts)):
            y = parts["train"].y[rows]
            probes = Solver(seed=self.seed).fit(train[:, rows], y[None], len(parts["train"].labels))
            best = int((probes.predict(dev)[:, 0] == parts["dev"].y).mean(1).argmax())
            hits.append((probes.predict(test)[best, 0] == parts["test"].y).astype(np.float64))
        return hits[0], hits[1]

    def _findings(
        self,
        table: pd.DataFrame,
        hits: Floats,
        chosen: dict[str, int],
        versus: dict[str, Floats],
        wrong: Floats,
        same: Floats,
        groups: list[int],
    ) -> list[str]:
        said = []
        for shot, few in (("zero-shot", False), ("few-shot", True)):
            own = table[(table["order"] >= 0) == few]["accuracy"]
            said.append(f"{shot}: {own.mean():.3f} on average over {len(own)} prompts, {own.min():.3f} to "
                        f"{own.max():.3f} by wording{' and order' * few}.")  # fmt: skip
        zero, shown = hits[chosen["zero_shot"]], hits[chosen["few_shot"]]
        means = hits[(table["order"] >= 0).to_numpy()].mean(0)
        pairs = [("the zero-shot prompt chosen on dev", control, zero - of) for control, of in versus.items()]
        pairs += [
            ("the prompt with examples chosen on dev", "the zero-shot one", shown - zero),
            ("the mean prompt with examples", "the same with wrong labels", means - wrong.mean(0)),
            ("the prompt with examples chosen on dev", "a probe of the same examples", shown - same),
        ]
        for what, control, gap in pairs:
            said.append(self._said(what, control, gap, groups))
        stuck = table[table["one_answer"] >= 0.95]
        if len(stuck):
            said.append(f"{len(stuck)} of {len(table)} prompts give one answer to nearly every text.")
        return said

    def _said(self, what: str, control: str, gap: Floats, groups: list[int]) -> str:
        low, high = mean_interval(gap, groups, seed=self.seed)
        return compared(what, control, float(gap.mean()), float(low), float(high))

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Eighty texts, two templates, and a tiny decoder."""
        rng = np.random.default_rng(0)
        kinds = {"good": ("love", "great", "nice"), "bad": ("hate", "awful", "terrible")}
        texts, labels = [], []
        for i in range(80):
            label = ("good", "bad")[i % 2]
            texts.append(f"{rng.choice(kinds[label])} {rng.choice(['movie', 'film', 'people'])} {i}")
            labels.append(label)
        config = cls(templates=("[X] is [Y]", "my [X] . [Y]"), shots=1, orders=2, dev_texts=8, test_texts=12, prefix=2,
                     prefix_epochs=1)  # fmt: skip
        return config, tiny("gpt2"), Labelled.make(texts, labels)


class _Untrained(NamedTuple):
    """Of one untrained network: accuracy of each prompt, and hits on test of the prompt chosen, probe and prefix."""

    accuracy: Floats
    zero_shot: Floats
    probe: Floats
    prefix: Floats | None
    figures: dict[str, float]


class _Asked:
    """One model asked with every template and order, examples of train before the text."""

    def __init__(self, prompter: Prompter, probe: PromptingProbe, parts: dict[str, Labelled], progress: Progress):
        self.prompter, self.probe, self.parts, self.progress = prompter, probe, parts, progress
        self.examples = probe._examples(parts)
        rng = np.random.default_rng(probe.seed)
        self.orders = [rng.permutation(len(self.examples)) for _ in range(probe.orders)]

    def every(self, templates: Sequence[str], *, wrong: bool = False) -> tuple[pd.DataFrame, Floats]:
        """A row a template and order, and the hits on test of each [rows, n]; wrong labels need examples."""
        plans = [(t, order) for t in templates for order in range(0 if wrong else -1, len(self.orders))]
        rows, hits = [], []
        for template, order in self.progress.track(plans, task=f"prompt {self.prompter.model.name}"):
            shown = [] if order < 0 else self._shown(order, wrong)
            right, share = {}, 0.0
            for part in ("dev", "test"):
                texts = joined(self.parts[part])
                said = self.prompter.answers(template, texts, shown, batch_size=self.probe.batch_size)
                right[part] = (said == self.parts[part].y).astype(np.float64)
                share = float(np.bincount(said).max() / len(said))
            groups = self.parts["test"].group_ids.tolist()
            low, high = mean_interval(right["test"], groups, seed=self.probe.seed)
            rows.append({"template": template, "order": order, "dev_accuracy": right["dev"].mean(),
                         "accuracy": right["test"].mean(), "low": low, "high": high, "one_answer": share})  # fmt: skip
            hits.append(right["test"])
        table = pd.DataFrame(rows)
        # Zero-shot rows first, in the order of the templates.
        places = (table["order"] >= 0).to_numpy().argsort(kind="stable")
        return table.iloc[places].reset_index(drop=True), np.stack(hits)[places]

    def _shown(self, order: int, wrong: bool) -> list[tuple[str, int]]:
        train, classes = self.parts["train"], len(self.parts["train"].labels)
        shown = train.take([self.examples[i] for i in self.orders[order]])
        return [(text, int((y + wrong) % classes)) for text, y in zip(joined(shown), shown.y, strict=True)]


def _chosen(table: pd.DataFrame, *, few: bool) -> int:
    """The row that is best on dev; of equals the first."""
    own = table[(table["order"] >= 0) == few]
    places = own.index.to_numpy()
    return int(places[own["dev_accuracy"].to_numpy().argmax()])


def _figures(table: pd.DataFrame, hits: Floats, chosen: dict[str, int]) -> dict[str, float]:
    found: dict[str, float] = {}
    for shot, row in chosen.items():
        own = table[(table["order"] >= 0) == (shot == "few_shot")]["accuracy"]
        found |= {shot: float(own.mean()), f"{shot}_chosen": float(hits[row].mean()),
                  f"{shot}_least": float(own.min()), f"{shot}_most": float(own.max())}  # fmt: skip
    return found
