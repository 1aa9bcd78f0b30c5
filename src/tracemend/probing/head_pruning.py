"""How many attention heads can a classifier do without, and which?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tracemend.arrays import Floats
from tracemend.data import Labelled, Sentence, Treebank, halves
from tracemend.errors import ProbeError
from tracemend.evaluate import mean_interval
from tracemend.methods import Method
from tracemend.models import capture, edit, sites, tiny
from tracemend.models.edits import zero
from tracemend.models.sites import trunk
from tracemend.probing.drawn_maps import KINDS
from tracemend.probing.head_maps import head_name
from tracemend.probing.head_patterns import HeadPatterns
from tracemend.probing.result import ProbeResult, compared
from tracemend.progress import Progress
from tracemend.tuning import TextClassifier

_ARMS = ("least important", "random", "most important", "shuffled labels")
# Words of the passages whose attention names a head's pattern; texts are too short or too long as they come.
_PASSAGE = 12


@dataclass(frozen=True, kw_only=True)
class PruningResult(ProbeResult):
    """A row an order and number of heads taken; ``facts`` hold every head's ``importance`` and ``pattern``."""

    def figure(self) -> Any:
        """Accuracy as heads are taken, by order."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        styles = {"least important": ("#2f6f8f", "-"), "random": ("#8a8a8a", "--"), "most important": ("#b0402b", "-"),
                  "shuffled labels": ("#b07d2b", ":")}  # fmt: skip
        for order, own in self.rows.groupby("order", sort=False):
            if str(order) not in styles:
                axes.plot(own["heads"], own["accuracy"], "D", ms=5, label=f"all {order} heads")
                continue
            colour, line = styles[str(order)]
            own = pd.concat([pd.DataFrame({"heads": [0], "accuracy": [self.facts["whole"]]}), own])
            own = own.sort_values("heads")
            axes.plot(own["heads"], own["accuracy"], line, color=colour, marker="o", ms=3, label=str(order))
        axes.set(xlabel=f"heads taken, of {self.facts['heads']}", ylabel="accuracy")
        figure.legend(title="first taken", fontsize="small", loc="outside right center")
        return figure


@dataclass(frozen=True, kw_only=True)
class HeadPruning(Method[PruningResult]):
    r"""Accuracy and loss of a tuned classifier as its attention heads are taken away (Michel et al. 2019).

    A head is taken by setting its slice of what goes into the attention's output projection to zero; transformers 5 has
    no other way to do so. Its importance is how much the loss would move with a gate \xi in front of that slice,

    .. math:: I_h = E_x | \partial L(x) / \partial \xi_h | = E_x | \sum z_h(x) \cdot \partial L(x) / \partial z_h |

    at \xi = 1, on one half of the labelled texts (arXiv 1905.10650); what is reported is measured on the other half. No
    group of texts lies in both, and intervals resample groups as wholes.

    Metrics with the least important heads taken first: ``accuracy_S`` and ``loss_S`` for each share S of the heads, in
    percent; and with all heads of one pattern K taken (:class:`~tracemend.probing.head_patterns.HeadPatterns`;
    Kovaleva et al. 2019): ``accuracy_K`` and ``loss_K``. Controls, in the same units: ``random``, the mean of random
    orders, of a pattern as many heads as have it; ``most_important`` first; ``shuffled_labels``, least important first
    where importance was taken with the labels in random order; ``whole``, nothing taken.

    Attributes:
        shares: of heads taken.
        draws: random orders.
        maps: pairs of passages whose attention names the patterns; 0 names none. They are read from the tuned network,
            without the virtual tokens of a prompt or prefix.
        texts: most texts of each half.
        by_layer: divide importances by their L2 norm within a layer first, as the paper does.
        batch_size: texts of a pass.

    Raises:
        ProbeError: no tuned classifier, data that are not labelled by its labels, shares out of range, too few words to
            name patterns.
        ModelError: the model was loaded without attention patterns.

    Example:
        >>> HeadPruning().run(Predictor.load("runs/mine").classifier, read("test.csv", text="text", label="label"))
    """

    name = "probing.head-pruning"
    inputs: ClassVar[str] = "Labelled"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder", "labels", "gradients"})
    at_least: ClassVar = {"draws": 1, "texts": 1, "batch_size": 1, "maps": 0}

    shares: tuple[float, ...] = (1 / 6, 1 / 3, 1 / 2)
    draws: int = 5
    maps: int = 20
    texts: int = 500
    by_layer: bool = False
    batch_size: int = 32

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> PruningResult:
        """Weigh the heads, and take them away.

        Args:
            model: a tuned :class:`TextClassifier`; its weights are not touched.
            data: :class:`Labelled` texts that it was not tuned on.
        """
        began = time.perf_counter()
        weighing, test = self._halves(model, data)
        names = [site.name for site in sites(model.network) if site.name.endswith(".attn.hook_z")]
        names = [name for name in names if not name.startswith("decoder.")]
        importance = self._importance(model, names, weighing, weighing.y, progress)
        shuffled = np.random.default_rng(self.seed).permutation(weighing.y)
        idle = self._importance(model, names, weighing, shuffled, progress)
        total = importance.size
        numbers = [max(1, round(share * total)) for share in self.shares]
        rng = np.random.default_rng(self.seed)
        orders = {
            "least important": [importance.ravel().argsort(kind="stable")],
            "random": [rng.permutation(total) for _ in range(self.draws)],
            "most important": [(-importance.ravel()).argsort(kind="stable")],
            "shuffled labels": [idle.ravel().argsort(kind="stable")],
        }
        weighed = dict(zip((head_name(k, importance.shape[1]) for k in range(total)), importance.ravel().tolist(),
                           strict=True))  # fmt: skip
        whole = self._measured(model, names, (), importance.shape[1], test)
        kinds = self._kinds(model, weighing, progress)
        of_kind = {kind: np.flatnonzero(kinds == kind) for kind in KINDS if 0 < (kinds == kind).sum() < total}
        orders |= {kind: [heads] for kind, heads in of_kind.items()}
        found: dict[tuple[str, int], Floats] = {}
        plans = [(arm, number) for arm in _ARMS for number in numbers]
        plans += [(arm, len(heads)) for kind, heads in of_kind.items() for arm in (kind, "random")]
        plans = list(dict.fromkeys(plans))
        for arm, number in progress.track(plans, task="take heads"):
            runs = [self._measured(model, names, o[:number], importance.shape[1], test) for o in orders[arm]]
            found[arm, number] = np.mean(runs, axis=0)
        rows, groups = [], test.group_ids.tolist()
        for arm, number in plans:
            hits, losses = found[arm, number]
            low, high = mean_interval(hits, groups, seed=self.seed)
            rows.append({"order": arm, "heads": number, "accuracy": hits.mean(), "low": low, "high": high,
                         "loss": losses.mean()})  # fmt: skip
        arms = {arm: self._figures([found[arm, number] for number in numbers]) for arm in _ARMS}
        arms["whole"] = self._figures([whole] * len(numbers))
        metrics = arms.pop("least important")
        for kind, heads in of_kind.items():
            taken = {"found": found[kind, len(heads)], "random": found["random", len(heads)], "whole": whole}
            named = {arm: {f"accuracy_{kind}": float(hits.mean()), f"loss_{kind}": float(losses.mean())}
                     for arm, (hits, losses) in taken.items()}  # fmt: skip
            metrics |= named.pop("found")
            for arm, figures in named.items():
                arms[arm] |= figures
        return PruningResult(
            metrics=metrics,
            controls={arm.replace(" ", "_"): figures for arm, figures in arms.items()},
            config=self.config,
            rows=pd.DataFrame(rows),
            findings=self._findings(
                found, whole, numbers, total, {kind: len(of) for kind, of in of_kind.items()}, groups
            ),
            facts={"heads": total, "whole": float(whole[0].mean()), "n_weighing": len(weighing), "n_test": len(test),
                   "importance": weighed, "pattern": dict(zip(weighed, kinds.tolist(), strict=False)),
                   "model": model.language_model.name, "model_fingerprint": model.language_model.fingerprint,
                   "seconds": round(time.perf_counter() - began, 1)},
        )  # fmt: skip

    def _halves(self, model: Any, data: Any) -> tuple[Labelled, Labelled]:
        if not isinstance(model, TextClassifier):
            raise ProbeError(f"{self.name} takes a tuned TextClassifier, not {type(model).__name__}; tune one first.")
        if not isinstance(data, Labelled):
            raise ProbeError(f"{self.name} takes labelled texts, not {type(data).__name__}; read them first.")
        if tuple(data.labels) != model.labels:
            raise ProbeError(
                f"the data's labels are {', '.join(data.labels)} and the classifier's {', '.join(model.labels)}; give "
                "data with the labels it was tuned on."
            )
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            raise ProbeError(f"shares is {self.shares}; they are of all heads, each between 0 and 1.")
        return halves(data, most=self.texts, seed=self.seed)

    def _kinds(self, model: TextClassifier, data: Labelled, progress: Progress) -> npt.NDArray[np.str_]:
        """The pattern of every head, on passages of the texts that weigh [heads]; none where none is asked for."""
        if not self.maps:
            return np.array([], dtype=np.str_)
        words = [word for text, reply in data.pairs for word in f"{text} {reply or ''}".split()]
        passages = [words[k : k + _PASSAGE] for k in range(0, len(words) - _PASSAGE + 1, _PASSAGE)]
        if len(passages) < 2:
            raise ProbeError(
                f"the texts of one half hold {len(words)} words, and naming the patterns of heads needs "
                f"{2 * _PASSAGE}; give more texts, or take maps=0."
            )
        bank = Treebank(sentences=tuple(Sentence(words=tuple(passage)) for passage in passages), name="the texts")
        tuned = replace(model.language_model, network=trunk(model.network))
        named = HeadPatterns(pairs=self.maps, seed=self.seed).named(tuned, bank, progress=progress)
        return np.array(named)

    def _importance(
        self, model: TextClassifier, names: Sequence[str], data: Labelled, y: npt.NDArray[np.int64], progress: Progress
    ) -> Floats:
        """Mean size of the derivative by each head's gate [layers, heads]."""
        rows, _ = model.encode(data.pairs)
        total = np.zeros(0)
        for part in progress.track(model.buckets(rows, self.batch_size), task="weigh heads"):
            labels = torch.as_tensor(y[part], device=model.device)
            with torch.enable_grad(), capture(model.network, names, grad=True) as seen:
                losses, _ = model.measure(model.batch([rows[i] for i in part]), labels)
                # Examples do not meet, so the sum's gradient holds each one's own.
                made = torch.autograd.grad(losses.sum(), [seen[name] for name in names])
            by_head = [(seen[name] * g).sum((1, 3)).abs().sum(0) for name, g in zip(names, made, strict=True)]
            of_part = torch.stack(by_head).double().detach().cpu().numpy()
            total = of_part if not total.size else total + of_part
        found: Floats = total / len(rows)
        if self.by_layer:
            found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return found

    def _measured(
        self,
        model: TextClassifier,
        names: Sequence[str],
        taken: Sequence[int] | npt.NDArray[np.int64],
        heads: int,
        data: Labelled,
    ) -> Floats:
        """Hits and losses of every text without these heads [2, n]."""
        by_layer: dict[str, list[int]] = {}
        for head in taken:
            by_layer.setdefault(names[int(head) // heads], []).append(int(head) % heads)
        with edit(model.network, {name: zero(heads=of) for name, of in by_layer.items()}):
            logits = torch.from_numpy(model.predict(data.pairs, batch_size=self.batch_size)).double()
        losses = torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.y), reduction="none").numpy()
        return np.stack([(logits.argmax(1).numpy() == data.y).astype(np.float64), losses])

    def _figures(self, found: Sequence[Floats]) -> dict[str, float]:
        figures: dict[str, float] = {}
        for share, (hits, losses) in zip(self.shares, found, strict=True):
            figures |= {f"accuracy_{share:.0%}".rstrip("%"): float(hits.mean()),
                        f"loss_{share:.0%}".rstrip("%"): float(losses.mean())}  # fmt: skip
        return figures

    def _findings(
        self,
        found: dict[tuple[str, int], Floats],
        whole: Floats,
        numbers: Sequence[int],
        total: int,
        kinds: Mapping[str, int],
        groups: list[int],
    ) -> list[str]:
        most = numbers[-1]
        own = found["least important", most][0]
        said = [
            f"Without the {most} least important of {total} heads the accuracy is {own.mean():.3f}; with all "
            f"{whole[0].mean():.3f}."
        ]
        others = (("random heads", "random"), ("the most important heads", "most important"),
                  ("heads weighed by shuffled labels", "shuffled labels"))  # fmt: skip
        for control, arm in others:
            gap = own - found[arm, most][0]
            low, high = mean_interval(gap, groups, seed=self.seed)
            said.append(compared("taking the least important heads", f"taking {control}", float(gap.mean()), float(low),
                                 float(high)))  # fmt: skip
        for kind, number in kinds.items():
            gap = found[kind, number][0] - found["random", number][0]
            low, high = mean_interval(gap, groups, seed=self.seed)
            said.append(compared(f"taking the {number} {kind} heads", "taking as many random ones", float(gap.mean()),
                                 float(low), float(high)))  # fmt: skip
        if self.maps and not kinds:
            said.append("All heads have one pattern, so that none can be taken by it.")
        return said

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Forty texts, and a tiny encoder with an adapter as it starts out."""
        things = ("movie", "film", "people", "reply", "question")
        texts = [f"{word} {thing}" for thing in things for word in ("love", "hate", "great", "awful")] * 2
        labels = ["good" if text.split()[0] in ("love", "great") else "bad" for text in texts]
        data = Labelled.make(texts, labels)
        return cls(draws=2, maps=2, texts=20), TextClassifier(tiny("bert"), data.labels, rank=2), data
