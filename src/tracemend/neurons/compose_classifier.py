"""What units of a tuned classifier stand for, and whether it is right when they fire."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from tracemend.arrays import Floats, Masks
from tracemend.data import Labelled
from tracemend.errors import NeuronError
from tracemend.evaluate import holm, mean_interval
from tracemend.methods import Method
from tracemend.models import tiny
from tracemend.neurons.compose import EXPLAINED, CompositionResult
from tracemend.neurons.edits import FIGURES, Edits
from tracemend.neurons.features import Features
from tracemend.neurons.formulas import by_chance, iou, search
from tracemend.neurons.rightness import rightness
from tracemend.neurons.text_features import atoms, is_word
from tracemend.neurons.texts import peaks, two_parts
from tracemend.neurons.units import check_site, check_units
from tracemend.progress import Progress
from tracemend.tuning import TextClassifier

_FEWEST_ACTIVE = 5
# Below this p something is shown.
_SHOWN = 0.05


@dataclass(frozen=True, kw_only=True)
class ClassifierCompositionResult(CompositionResult):
    """A row a unit, as :class:`CompositionResult` has them, about texts in place of words.

    Further columns: ``right``, accuracy on measured texts where the unit fires (NaN where it does on none), with its
    interval ``right_low`` to ``right_high`` and ``right_p``, the p that it is below the accuracy on all texts (see
    :class:`tracemend.neurons.rightness.Rightness`); ``right_else`` where it does not fire; ``label``, which the
    training texts where it fires have more often than others; ``edit``, the change of that label's probability when a
    word of the formula is added to texts where the unit is silent; ``fired``, on what share of these it fires then;
    ``flipped``, what share of those that were rightly given another label gets this one; and each of the three with a
    random word as frequent (``edit_random`` ...).
    ``facts["link_p"]`` is the p of the link.
    """

    def figure(self) -> Any:
        """Accuracy when a unit fires against how well its formula fits."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.scatter(self.rows["iou"], self.rows["right"], color="#2f6f8f", s=18)
        axes.axhline(self.facts["accuracy"], color="#8a8a8a", ls="--", label="accuracy on all texts")
        axes.set(xlabel="IoU of the formula, held out", ylabel="accuracy where the unit fires")
        axes.legend(fontsize="small")
        return figure


@dataclass(frozen=True, kw_only=True)
class ClassifierComposition(Method[ClassifierCompositionResult]):
    """Formulas of the words of texts that drive a classifier's units, and whether it is right when they fire.

    A unit's activation on a text is its highest over the tokens of text and reply (not over special ones, or a
    prompt's), and it fires on the ``top`` share of training
    texts; features are the words of a text and its shape; with ``sides``, words of the text and of the reply by
    themselves and how far these overlap, as the paper has them for premise and hypothesis. The formula is sought in
    training and measured on other texts as in :class:`tracemend.neurons.Composition` (Mu and Andreas 2020, arXiv
    2006.14032). Three questions follow:

    - is the classifier right where the unit fires (``right``)?
    - do units that a formula explains go with right answers? ``link`` is Spearman's correlation over units of IoU and
      accuracy where the unit fires, with a p by dealing the answers out to other texts, since units share texts; the
      paper found it negative in language inference and positive in vision;
    - does the formula predict errors? The first word that speaks for the formula is copied into texts on which the unit
      is silent: on how many does it fire then (``fired``), how far does the probability of the unit's label rise
      (``edit``), and how many right answers turn into that label (``flipped``)?

    Metrics: ``iou``, ``train_iou``, ``iou_1``, ``explained`` (as for words), ``link``, ``edit``, ``fired``,
    ``flipped``. Controls, the same figures: ``shuffled``, units whose firing is dealt out at random; ``random_word``,
    edits with random words as frequent.

    Attributes:
        site: whose units.
        units: which; by default ``neurons`` random ones that vary.
        neurons: how many.
        length: most features of a formula.
        beam: formulas that go on to the next length.
        penalty: for each feature after the first; 1 is none.
        top: share of training texts on which a unit fires.
        features: words at most, the most frequent.
        fewest: training texts of which a feature must hold.
        sides: take words of text and reply for different features, and their overlap for one.
        edited: texts that a word is added to, at most.
        texts: most texts of each part.
        draws: turns for the chance level, and deals of the answers; with Holm's p over n units fewer than 20 n cannot
            show anything.
        batch_size: texts of a pass.

    Raises:
        NeuronError: no tuned classifier, data that are not labelled by its labels, numbers out of range, a unit that
            the site lacks or that never varies, or no feature.

    Example:
        >>> found = ClassifierComposition(units=(3, 17)).run(Predictor.load("runs/mine").classifier, labelled)
        >>> found.table()[["unit", "formula", "iou", "right", "right_else"]]
    """

    name: ClassVar[str] = "neurons.compose-classifier"
    inputs: ClassVar[str] = "Labelled"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder", "labels"})
    at_least: ClassVar = dict.fromkeys(
        ("neurons", "length", "beam", "features", "fewest", "edited", "texts", "draws", "batch_size"), 1
    )

    site: str = "blocks.1.mlp.hook_post"
    units: tuple[int, ...] = ()
    neurons: int = 60
    length: int = 3
    beam: int = 10
    penalty: float = 1.0
    top: float = 0.1
    features: int = 500
    fewest: int = 5
    sides: bool = False
    edited: int = 40
    texts: int = 1_000
    draws: int = 2_000
    batch_size: int = 32

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> ClassifierCompositionResult:
        """Explain units.

        Args:
            model: a tuned :class:`TextClassifier`; it is left as it was.
            data: :class:`Labelled` texts, in one half of which formulas are sought, or :class:`Splits`, in whose train;
                they are measured on the other half, or validation.
            progress: shown.
        """
        began = time.perf_counter()
        self._check()
        train, test = two_parts(self.name, model, data, texts=self.texts, seed=self.seed)
        check_site(model.network, self.site)
        said = [[atoms(pair, sides=self.sides) for pair in part.pairs] for part in (train, test)]
        counts = Counter(name for row in said[0] for name in row)
        words = sorted((name for name in counts if is_word(name)), key=lambda n: (-counts[n], n))[: self.features]
        shapes = sorted(name for name in counts if not is_word(name))
        known = Features.of(said[0], said[1], [*words, *shapes], fewest=self.fewest)
        if not known.names:
            raise NeuronError(f"no word is in {self.fewest} training texts; give more texts, or lower fewest.")
        seen = [
            peaks(model, part.pairs, self.site, batch_size=self.batch_size, progress=progress) for part in (train, test)
        ]
        fires, units, threshold = self._fires(seen[0][0], seen[1][0])
        rng = np.random.default_rng(self.seed)
        dealt = [np.stack([rng.permutation(mask) for mask in part]) for part in fires]
        hit = seen[1][1].argmax(1) == test.y
        found = {arm: self._searched(masks, known, hit, progress) for arm, masks in
                 (("found", fires), ("shuffled", dealt))}  # fmt: skip
        rows = found["found"].assign(unit=units)
        rows["p"], rows["chance"] = self._chance(rows, fires[1], known, rng)
        shown = rightness(
            fires[1], hit, rows["iou"].to_numpy(), test.group_ids.tolist(), draws=self.draws, seed=self.seed
        )
        rows = rows.assign(right_low=shown.low, right_high=shown.high, right_p=shown.less)
        edits = Edits(model, self.site, test, seen[1][1], known, counts, self.edited, self.batch_size)
        rows = rows.join(self._edits(edits, train, rows, fires, threshold, rng, progress))
        figures = {arm: _figures(table) for arm, table in found.items()}
        figures["found"] |= {name: float(rows[name].mean()) for name in FIGURES}
        random = {name: float(rows[f"{name}_random"].mean()) for name in FIGURES}
        controls = {"shuffled": figures["shuffled"], "random_word": random}
        facts = {
            "model": model.language_model.name, "model_fingerprint": model.language_model.fingerprint,
            "site": self.site, "units": seen[0][0].shape[1], "features": len(known.names), "n_train": len(train),
            "n_test": len(test),
            "accuracy": float(hit.mean()), "link_p": shown.link, "seconds": round(time.perf_counter() - began, 1),
        }  # fmt: skip
        first = ["unit", "formula", "iou", "train_iou", "iou_1", "chance", "p", "fires"]
        later = ["right", "right_low", "right_high", "right_p", "right_else", "label"]
        later += [*(name + arm for name in FIGURES for arm in ("", "_random"))]
        table = rows[[*first, *later]].sort_values("iou", ascending=False, kind="stable").reset_index(drop=True)
        return ClassifierCompositionResult(
            metrics=figures["found"], controls=controls, config=self.config, rows=table,
            findings=self._findings(table, figures, float(hit.mean()), shown.link), facts=facts,
        )  # fmt: skip

    def _check(self) -> None:
        if not 0 < self.top < 0.5 or not 0 < self.penalty <= 1:
            raise NeuronError(
                f"top is {self.top} and penalty {self.penalty}; expected 0 < top < 0.5 and 0 < penalty <= 1."
            )

    def _fires(self, train: Floats, test: Floats) -> tuple[list[Masks], npt.NDArray[np.int64], Floats]:
        """Where units fire in each part, which units, and above what."""
        threshold = np.quantile(train, 1 - self.top, axis=0)
        masks = [(part > threshold).T for part in (train, test)]
        active = masks[0].sum(1)
        width = train.shape[1]
        check_units(self.units, width, self.site)
        silent = [unit for unit in self.units if active[unit] < _FEWEST_ACTIVE]
        able = np.flatnonzero(active >= _FEWEST_ACTIVE)
        if silent or not len(able):
            who = f"unit {silent[0]} fires on {active[silent[0]]}" if silent else f"no unit fires on {_FEWEST_ACTIVE}"
            raise NeuronError(
                f"{who} of {len(train)} training texts, and {_FEWEST_ACTIVE} are needed; it is dead or constant, or "
                "there are too few texts: give more, or raise top."
            )
        drawn = np.sort(np.random.default_rng(self.seed).permutation(able)[: self.neurons])
        units = np.array(self.units, dtype=np.int64) if self.units else drawn
        return [mask[units] for mask in masks], units, threshold[units]

    def _searched(self, masks: list[Masks], known: Features, hit: Masks, progress: Progress) -> pd.DataFrame:
        rows = []
        for mask, later in progress.track(list(zip(*masks, strict=True)), task="compose"):
            best = search(mask, known.train, length=self.length, beam=self.beam, penalty=self.penalty)
            holds = [one.mask(known.test) for one in (best[0], best[-1])]
            rows.append(
                {"made": best[-1], "formula": best[-1].text(known.names), "iou": float(iou(later, holds[1])),
                 "train_iou": float(iou(mask, best[-1].mask(known.train))), "iou_1": float(iou(later, holds[0])),
                 "fires": later.mean(), "right": hit[later].mean() if later.any() else np.nan,
                 "right_else": hit[~later].mean() if not later.all() else np.nan}
            )  # fmt: skip
        return pd.DataFrame(rows)

    def _chance(
        self, rows: pd.DataFrame, fires: Masks, known: Features, rng: np.random.Generator
    ) -> tuple[Floats, list[float]]:
        levels, p = [], []
        for mask, formula in zip(fires, rows["made"], strict=True):
            level, one = by_chance(mask, formula.mask(known.test), draws=self.draws, rng=rng)
            levels.append(level)
            p.append(one)
        return holm(p), levels

    def _edits(
        self,
        edits: Edits,
        train: Labelled,
        rows: pd.DataFrame,
        fires: list[Masks],
        threshold: Floats,
        rng: np.random.Generator,
        progress: Progress,
    ) -> pd.DataFrame:
        """Each unit's label, and what becomes of texts with a word of its formula, and with a random one."""
        shares = np.bincount(train.y, minlength=len(train.labels)) / len(train)
        found = []
        for i, row in enumerate(progress.track(rows.to_dict("records"), task="edit texts")):
            own = np.bincount(train.y[fires[0][i]], minlength=len(shares)) / fires[0][i].sum()
            label = int((own - shares).argmax())
            measured = edits.measure(int(row["unit"]), float(threshold[i]), fires[1][i], label, row["made"], rng)
            found.append({"label": train.labels[label], **measured})
        return pd.DataFrame(found)

    def _findings(
        self, rows: pd.DataFrame, figures: dict[str, dict[str, float]], accuracy: float, p: float
    ) -> list[str]:
        own, shuffled = figures["found"], figures["shuffled"]
        first = rows.iloc[0]
        said = [
            f"Unit {first['unit']} is the best explained: {first['formula']}, IoU {first['iou']:.2f} on other texts "
            f"({first['train_iou']:.2f} in training, {first['chance']:.2f} by chance).",
            f"{own['explained']:.0%} of {len(rows)} units have an IoU above {EXPLAINED} on other texts, shuffled "
            f"{shuffled['explained']:.0%}.",
        ]
        tested = rows.dropna(subset=["right_p"]).sort_values(["right_p", "right"], kind="stable")
        for _, row in tested[tested["right_p"] < _SHOWN].head(1).iterrows():
            said.append(
                f"The classifier is right less often where unit {row['unit']} fires ({row['formula']}): "
                f"{row['right']:.3f} ({row['right_low']:.3f} to {row['right_high']:.3f}), on all texts {accuracy:.3f} "
                f"(p {row['right_p']:.2g}, as the lowest of {len(tested)} units)."
            )
        if len(tested) and tested["right_p"].iloc[0] >= _SHOWN:
            said.append(
                "For no unit is it shown that the classifier is right less often where it fires than on all texts "
                f"({accuracy:.3f})."
            )
        if np.isfinite(p):
            shown = "is shown" if p < _SHOWN else "is not shown"
            said.append(f"A link of IoU with being right {shown}: Spearman {own['link']:+.2f}, p {p:.2g}.")
        edits = rows.dropna(subset=["edit", "edit_random"])
        if len(edits):
            gap = (edits["edit"] - edits["edit_random"]).to_numpy()
            low, high = mean_interval(gap, seed=self.seed)
            verb = "moves" if low > 0 else "is not shown to move"
            said.append(
                f"A word of a unit's formula {verb} texts to its label further than a random word: {gap.mean():+.3f} "
                f"({low:+.3f} to {high:+.3f}) of probability."
            )
            means = {name: float(edits[name].mean()) for name in ("fired", "fired_random")}
            said.append(
                f"With it the unit fires on {means['fired']:.0%} of these texts, with a random word on "
                f"{means['fired_random']:.0%}."
            )
        turned = rows.dropna(subset=["flipped", "flipped_random"])
        if len(turned):
            said.append(
                f"Of the right answers {turned['flipped'].mean():.1%} turn into the unit's label with a word of its "
                f"formula, {turned['flipped_random'].mean():.1%} with a random one."
            )
        return said

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Forty texts, and a tiny encoder with an adapter as it starts out."""
        things = ("movie", "film", "people", "reply", "question")
        texts = [f"{word} {thing}" for thing in things for word in ("love", "hate", "great", "awful")] * 2
        labels = ["good" if text.split()[0] in ("love", "great") else "bad" for text in texts]
        data = Labelled.make(texts, labels)
        method = cls(neurons=5, length=2, top=0.4, fewest=2, edited=4, draws=20)
        return method, TextClassifier(tiny("bert"), data.labels, rank=2), data


def _figures(rows: pd.DataFrame) -> dict[str, float]:
    both = rows.dropna(subset=["right"])
    varies = len(both) > 2 and both["iou"].nunique() > 1 and both["right"].nunique() > 1
    link = float(stats.spearmanr(both["iou"], both["right"]).statistic) if varies else float("nan")
    return {
        "iou": float(rows["iou"].mean()),
        "train_iou": float(rows["train_iou"].mean()),
        "iou_1": float(rows["iou_1"].mean()),
        "explained": float((rows["iou"] > EXPLAINED).mean()),
        "link": link,
    }
