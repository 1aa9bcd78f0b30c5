"""What a unit does, in words: explain, simulate, score on text that the explanation was not made from."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tracemend.arrays import Floats
from tracemend.data import Treebank
from tracemend.errors import NeuronError
from tracemend.evaluate import mean_interval
from tracemend.methods import Method
from tracemend.models import LanguageModel, load, random_weights, tiny
from tracemend.models.endpoint import Endpoint
from tracemend.models.representations import Pooling
from tracemend.neurons.answers import Answers
from tracemend.neurons.chat import Chat, LocalChat, explained, question
from tracemend.neurons.excerpts import Excerpts, correlation, cut, detection, fuzzing
from tracemend.neurons.explanation_result import ExplanationResult, activations_shown
from tracemend.neurons.lexicon import Explanation, Lexicon, Table, known_units
from tracemend.neurons.similarity import SimilaritySimulator
from tracemend.neurons.substitution import Substitution, calibrated
from tracemend.neurons.units import check_units, vectors
from tracemend.neurons.words import tiny_treebank
from tracemend.progress import Progress
from tracemend.runs import fingerprint

Explainer = Literal["embedded", "local", "endpoint"]
Simulate = Callable[[Explanation, Sequence[str]], Floats]

_FIGURES = ("score", "detection", "fuzzing", "ablation", "defined")
# What is put in place of a unit, and where a unit's row has the score of it.
_PUT = {"ablation": "score", "ablation_shuffled": "shuffled", "ablation_other": "other_unit", "ablation_true": "true"}
# Words of training of which a feature of the embedded explainer must hold.
_FEWEST = 3
_OFTEN, _RARELY = 0.5, 20
_UNANSWERED = "no explanation was given"


@dataclass(frozen=True, kw_only=True)
class Explain(Method[ExplanationResult]):
    """Explanations of units in words, and how well they tell where the unit is active (Bills et al. 2023).

    An explainer sees excerpts with activations and says what the unit does; a simulator that knows this alone says how
    active the unit would be on each word of other excerpts; the score is the correlation over all words of the
    held-out excerpts with the highest activations and as many random ones, taken together,

        score = corr(simulated, true)

    Explainers: ``embedded``, which needs no language model and picks words, pairs, endings and classes of words by
    their fit (:class:`tracemend.neurons.lexicon.Table`), and simulates by the same words; ``local``, a chat model by
    the name ``llm``; ``endpoint``, any server with OpenAI's protocol at ``url``. The texts of these two are simulated
    by likeness of meaning (:class:`tracemend.neurons.similarity.SimilaritySimulator`).

    Of the first ``ablated`` units it is measured too what the network makes of the simulation: the simulated
    activations, on the unit's scale, are put in the unit's place, and

        ablation = 1 - change of the output / change of the output with the unit at its mean

    (:class:`tracemend.neurons.substitution.Substitution`): words on which the network needs the unit count more.

    Metrics, means over units where defined: ``score``; ``detection`` (area under the curve of telling excerpts on which
    the unit fires from others by the simulation) and ``fuzzing`` (of telling the words); ``ablation``; ``defined``, the
    share of units with a score. Controls, the same figures: ``shuffled`` activations (of ablation: simulated ones);
    ``other_unit``, the explanation of another unit; ``competence``, of the explainer and simulator on made-up units
    that are known to answer to a word, a pair, an ending or a class of words; ``random_weights``, units of the
    untrained network (embedded explainer alone, since each explanation costs); ``true_activations``, of ablation what
    the unit's own activations reach, one a word.

    Attributes:
        site: whose units; the neurons of an MLP for instance. Activations below zero count as zero.
        pooling: of a word's tokens.
        units: which; by default ``neurons`` random ones.
        neurons: how many.
        explainer: embedded, local or endpoint.
        llm: name of the model that explains: for ``local`` as ``load`` takes it, for ``endpoint`` the server's.
        url: of the endpoint, up to ``/v1``; its key is read from OPENAI_API_KEY.
        timeout: seconds that an answer may take.
        tries: how often a question is put to an endpoint, also where its answer holds no explanation.
        parts: words, pairs and classes in an explanation of the embedded explainer.
        excerpt: most words of an excerpt.
        excerpts: top ones to explain by, and of top and random each to score on.
        train_items: words to explain by; whole sentences at random.
        test_items: words to score on.
        ablated: units that are scored by ablation, the first ones; 0 for none. Each costs five passes over the
            excerpts.

    Raises:
        NeuronError: data or model of another kind, numbers out of range, a unit out of range, no such explainer, an
            endpoint that gives nothing or explains no unit, or, with ``ablated``, a site that can be read only.

    Example:
        >>> found = Explain(site="blocks.2.mlp.hook_post").run(load("minilm"), read_treebank("ud_ewt"))
        >>> found.table()[["unit", "explanation", "score", "other_unit"]]
    """

    name: ClassVar[str] = "neurons.explain"
    inputs: ClassVar[str] = "Treebank"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder"})
    at_least: ClassVar = dict.fromkeys(("neurons", "parts", "excerpt", "excerpts", "train_items", "test_items"), 1) | {
        "ablated": 0
    }
    # A server that moved, or is slow, is the same one: the run goes on with what it answered.
    in_passing: ClassVar[frozenset[str]] = frozenset({"url", "timeout", "tries"})

    site: str = "blocks.1.mlp.hook_post"
    pooling: Pooling = "mean"
    units: tuple[int, ...] = ()
    neurons: int = 60
    explainer: Explainer = "embedded"
    llm: str = "smollm2"
    url: str = ""
    timeout: float = 60.0
    tries: int = 4
    parts: int = 8
    excerpt: int = 32
    excerpts: int = 5
    train_items: int = 10_000
    test_items: int = 10_000
    ablated: int = 10

    def run(
        self, model: Any, data: Any, *, cache: Path | None = None, progress: Progress = Progress()
    ) -> ExplanationResult:
        """Explain units of a site.

        Args:
            model: a :class:`LanguageModel`; its weights are not touched.
            data: a :class:`Treebank`, of which only the words are read.
            cache: a folder; explanations by a language model are kept there one by one, and not asked for again.
            progress: shown.
        """
        began = time.perf_counter()
        self._check(model, data)
        put = Substitution(model, self.site) if self.ablated else None
        chat = self._chat()
        parts = data.split(seed=self.seed)
        (train, lost), (test, lost_test) = (
            cut(
                model, [sentence.words for sentence in parts[part].sample(most, seed=self.seed).sentences], self.excerpt
            )
            for part, most in (("train", self.train_items), ("test", self.test_items))
        )
        seen = {part: self._excerpts(model, of, progress) for part, of in (("train", train), ("test", test))}
        width = seen["train"].x.shape[1]
        check_units(self.units, width, self.site)
        drawn = np.sort(np.random.default_rng(self.seed).permutation(width)[: self.neurons]).tolist()
        units = list(self.units) or drawn
        lexicon = Lexicon.of(train, model, seed=self.seed)
        table = lexicon.table(train, fewest=_FEWEST)
        simulate = lexicon.simulate if chat is None else _by_likeness()
        kept = Answers(cache, fingerprint(self.identity, model.fingerprint, data.fingerprint))
        own: dict[int, Explanation] = {}
        for unit in progress.track(units, task="explain units"):
            own[unit] = self._explained(seen["train"], unit, table, chat, kept)
        if all(one.missing == _UNANSWERED for one in own.values()):
            raise NeuronError(
                f"{self.llm} explained none of {len(own)} units: no answer held an explanation. Try another model."
            )
        rows = self._rows(seen, own, simulate, put, progress)
        made_up = known_units(train, test, lexicon)
        known = {unit: self._explained(made_up["train"], unit, table, chat, kept, of="known")
                 for unit in range(made_up["train"].x.shape[1])}  # fmt: skip
        competence = self._rows(made_up, known, simulate)
        arms = {column: _figures(rows, column) for column in ("shuffled", "other_unit")}
        arms["competence"] = _figures(competence, "score")
        if put is not None:
            arms["true_activations"] = {"ablation": float(rows["ablation_true"].mean())}
        if chat is None:
            fresh = random_weights(model, seed=self.seed + 1)
            untrained = {part: self._excerpts(fresh, of, progress) for part, of in (("train", train), ("test", test))}
            random = {
                unit: self._explained(untrained["train"], unit, table, None, kept) for unit in drawn[: len(units)]
            }
            put = None if put is None else Substitution(fresh, self.site)
            arms["random_weights"] = _figures(self._rows(untrained, random, simulate, put, progress), "score")
        facts = {
            "model": model.name, "model_fingerprint": model.fingerprint, "site": self.site, "units": width,
            "n_train": len(seen["train"].x), "n_test": len(seen["test"].x), "left_out": lost + lost_test,
            "explainer": "embedded" if chat is None else self.llm,
            "coloured": activations_shown(
                seen["test"], rows["unit"].tolist(), lambda unit, of: self._simulated(own[unit], [of], simulate)
            ),
            "competence": competence[["explanation", "score"]].to_dict("records"),
            "seconds": round(time.perf_counter() - began, 1),
        }  # fmt: skip
        metrics = _figures(rows, "score")
        return ExplanationResult(
            metrics=metrics, controls=arms, config=self.config, rows=rows,
            findings=self._findings(rows, metrics, arms, lost + lost_test), facts=facts,
        )  # fmt: skip

    def _check(self, model: Any, data: Any) -> None:
        if not isinstance(model, LanguageModel):
            raise NeuronError(f"{self.name} takes a LanguageModel, not {type(model).__name__}; load one first.")
        if not isinstance(data, Treebank):
            raise NeuronError(
                f"{self.name} takes a Treebank, not {type(data).__name__}; read one with tracemend.data.read_treebank."
            )

    def _chat(self) -> Chat | None:
        if self.explainer == "embedded":
            return None
        if self.explainer == "local":
            return LocalChat(load(self.llm))
        return Endpoint(self.url, self.llm, timeout=self.timeout, tries=self.tries)

    def _excerpts(self, model: LanguageModel, words: list[tuple[str, ...]], progress: Progress) -> Excerpts:
        found = torch.cat(vectors(model, words, self.site, pooling=self.pooling, progress=progress)).numpy()
        if not np.isfinite(found).all():
            raise NeuronError("some activations are not finite; the model has diverged, or the site overflows.")
        return Excerpts(tuple(words), np.maximum(found, 0), found)

    def _explained(
        self, seen: Excerpts, unit: int, table: Table, chat: Chat | None, kept: Answers, *, of: str = "unit"
    ) -> Explanation:
        active = seen.x[:, unit]
        if np.ptp(active) < 1e-9:
            return Explanation("", missing="constant on the words to explain by")
        if chat is None:
            return table.explain(active.astype(np.float64), parts=self.parts)
        known = kept.get(of, unit)
        if known is None:
            asked = question([(seen.words[i], seen.of(unit, i)) for i in seen.top(unit, self.excerpts)])
            # A local model answers greedily: the same again.
            known = explained(chat, asked, tries=self.tries if isinstance(chat, Endpoint) else 1)
            if known is None:
                # No reason to lose the others, and nothing to keep.
                return Explanation("", missing=_UNANSWERED)
            kept.put(of, unit, known)
        return Explanation(known)

    def _rows(
        self,
        parts: dict[str, Excerpts],
        explained: dict[int, Explanation],
        simulate: Simulate,
        put: Substitution | None = None,
        progress: Progress = Progress(),
    ) -> pd.DataFrame:
        """A row a unit, the best first; with a substitution, the first units are scored by ablation as well."""
        seen, units = parts["test"], list(explained)
        rows = []
        for place, unit in enumerate(progress.track(units, task="score units")):
            rng = np.random.default_rng([self.seed, unit])
            chosen = seen.top_and_random(unit, self.excerpts, rng)
            words = [seen.words[i] for i in chosen]
            true = seen.x[seen.rows(chosen), unit]
            other_one = explained[units[place - 1]] if len(units) > 1 else Explanation("")
            own, other = (self._simulated(one, words, simulate) for one in (explained[unit], other_one))
            row: dict[str, Any] = {"unit": unit, "explanation": explained[unit].text}
            row["score"] = correlation(true, own)
            row["shuffled"] = correlation(rng.permutation(true), own)
            row["other_unit"] = correlation(true, other) if len(units) > 1 else float("nan")
            row["detection"] = detection(seen, unit, own, chosen) if np.ptp(own) > 0 else float("nan")
            row["fuzzing"] = fuzzing(true, own) if np.ptp(own) > 0 else float("nan")
            row["fires"] = float((seen.x[:, unit] > 0).mean())
            row |= dict.fromkeys(_PUT, float("nan"))
            if put is not None and place < self.ablated:
                row |= self._put(parts, unit, chosen, explained[unit], other_one, simulate, put, rng)
            row["note"] = _note(seen, unit, explained[unit])
            rows.append(row)
        return pd.DataFrame(rows).sort_values("score", ascending=False, kind="stable").reset_index(drop=True)

    def _put(
        self,
        parts: dict[str, Excerpts],
        unit: int,
        chosen: npt.NDArray[np.int64],
        own: Explanation,
        other: Explanation,
        simulate: Simulate,
        put: Substitution,
        rng: np.random.Generator,
    ) -> dict[str, float]:
        """Ablation scores of one unit, by their columns."""
        train, test = parts["train"], parts["test"]
        words = [test.words[i] for i in chosen]
        known = train.raw[:, unit]
        values: dict[str, Floats] = {"ablation_true": test.raw[test.rows(chosen), unit]}
        for column, explanation in (("ablation", own), ("ablation_other", other)):
            if not explanation.text:
                continue
            # The scale comes from the text that was explained: what is measured on has no part in it.
            scale = self._simulated(explanation, train.words, simulate)
            values[column] = calibrated(self._simulated(explanation, words, simulate), scale, known)
        if "ablation" in values:
            values["ablation_shuffled"] = rng.permutation(values["ablation"])
        return put.score(words, unit, values, float(known.mean()))

    def _simulated(self, explanation: Explanation, words: Sequence[Sequence[str]], simulate: Simulate) -> Floats:
        if not explanation.text:
            return np.zeros(sum(len(of) for of in words))
        return np.concatenate([simulate(explanation, of) for of in words])

    def _findings(
        self, rows: pd.DataFrame, metrics: dict[str, float], arms: dict[str, dict[str, float]], lost: int
    ) -> list[str]:
        said = [f"{lost} words are longer than the model's window and were left out."] if lost else []
        defined = rows.dropna(subset=["score"])
        if len(defined):
            best = defined.iloc[0]
            said.append(f"Unit {best['unit']} is the best explained: {best['explanation']}, score {best['score']:.2f}.")
        both = defined.dropna(subset=["other_unit"])
        if len(both):
            gap = (both["score"] - both["other_unit"]).to_numpy()
            low, high = mean_interval(gap, seed=self.seed)
            verb = "are better than" if low > 0 else "are not shown to be better than"
            said.append(
                f"Explanations {verb} those of other units: {gap.mean():+.3f} ({low:+.3f} to {high:+.3f}); mean score "
                f"{metrics['score']:.3f}."
            )
        put = rows.dropna(subset=["ablation", "ablation_other"])
        if len(put):
            gap = (put["ablation"] - put["ablation_other"]).to_numpy()
            low, high = mean_interval(gap, seed=self.seed)
            verb = "keep" if low > 0 else "are not shown to keep"
            said.append(
                f"Put in the place of {len(put)} units, simulations {verb} the output nearer to what it was than those "
                f"by other units' explanations: {gap.mean():+.3f} ({low:+.3f} to {high:+.3f}); mean ablation score "
                f"{put['ablation'].mean():.3f}, of the true activations {put['ablation_true'].mean():.3f}."
            )
        fresh = arms.get("random_weights")
        beside = "" if fresh is None else f" Units of the untrained network score {fresh['score']:.3f}."
        said.append(
            f"On made-up units that answer to one thing the explainer scores {arms['competence']['score']:.3f}: a "
            f"score near that says that the unit is as simple.{beside}"
        )
        asked = rows["note"] == _UNANSWERED
        if asked.any():
            units = ", ".join(map(str, rows.loc[asked, "unit"].tolist()[:10]))
            said.append(
                f"No explanation was given of {int(asked.sum())} of {len(rows)} units ({units}), however often it was "
                "asked for. Delete result.json and give the same command again: only these are asked for."
            )
        missing = int((rows["score"].isna() & ~asked).sum())
        if missing:
            said.append(f"{missing} of {len(rows)} units have no score, since the unit or its simulation is constant.")
        often = int((rows["fires"] > _OFTEN).sum())
        if often:
            said.append(f"{often} of {len(rows)} units are above zero on more than half of the words.")
        return said

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A made-up grammar and a tiny encoder."""
        method = cls(neurons=4, parts=3, excerpts=4, train_items=150, test_items=60, ablated=4)
        return method, tiny("bert"), tiny_treebank()


def _by_likeness() -> Simulate:
    """Simulates explanations that a language model wrote."""
    similar = SimilaritySimulator()
    return lambda explanation, words: similar.simulate(explanation.text, words)


def _figures(rows: pd.DataFrame, column: str) -> dict[str, float]:
    """Means over units where defined; of the controls by column only the score, and ablation."""
    figures = {"score": float(rows[column].mean()), "defined": float(rows[column].notna().mean())}
    for name, of in _PUT.items():
        if of == column and rows[name].notna().any():
            figures["ablation"] = float(rows[name].mean())
    if column == "score":
        figures |= {name: float(rows[name].mean()) for name in ("detection", "fuzzing")}
    return {name: figures[name] for name in _FIGURES if name in figures}


def _note(seen: Excerpts, unit: int, explanation: Explanation) -> str:
    active = seen.x[:, unit] > 0
    if explanation.missing == _UNANSWERED:
        return _UNANSWERED
    if not active.any():
        return "never active on held-out words"
    if not explanation.text:
        return explanation.missing or "no explanation"
    if active.mean() > _OFTEN:
        return "active on more than half of the words"
    if int((seen.peaks(unit) > 0).sum()) < _RARELY:
        return f"active in fewer than {_RARELY} excerpts"
    return ""
