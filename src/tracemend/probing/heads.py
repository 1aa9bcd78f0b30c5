"""Attention heads as parsers: does one head point from a word to its syntactic head?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from tracemend.arrays import Floats, Indices
from tracemend.data import Sentence, Treebank
from tracemend.errors import ProbeError
from tracemend.evaluate import holm, mean_interval, paired_difference
from tracemend.methods import Method
from tracemend.models import LanguageModel, tiny
from tracemend.probing.arcs import REACH, both_ways, fit_arcs, offsets
from tracemend.probing.head_maps import head_name, word_attention
from tracemend.probing.made_up import tiny_treebank
from tracemend.probing.result import ProbeResult, compared
from tracemend.probing.untrained import averaged, untrained
from tracemend.progress import Progress

# Longer sentences cost the square of their length and add little.
_LONGEST = 60
_OFFSETS = [k for k in range(-REACH, REACH + 1) if k]
# Of the corrected p.
_SHOWN = 0.05
_WAYS = ("dependent to head", "head to dependent")


@dataclass(frozen=True, kw_only=True)
class HeadResult(ProbeResult):
    """A row a relation, the one with the largest lead over its fixed offset first, by the half that chose its head.

    ``choosing_lead`` is that lead; ``p_holm`` is of no lead on the other half, corrected over the relations.
    """

    def figure(self) -> Any:
        """Accuracy by relation of the best head, the best offset and an untrained network's best head."""
        from matplotlib.figure import Figure

        rows = self.rows
        figure = Figure(figsize=(7, 1 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(rows))
        axes.barh(places, rows["accuracy"], color="#2f6f8f", label="best head")
        axes.errorbar(rows["accuracy"], places, xerr=[rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]],
                      fmt="none", ecolor="#1b3f52", lw=1)  # fmt: skip
        axes.plot(rows["offset_accuracy"], places, "D", color="#b07d2b", ms=5, label="best fixed offset")
        axes.plot(rows["random_weights"], places, "x", color="#8a8a8a", label="random weights")
        axes.set_yticks(places, [f"{r} ({h})" for r, h in zip(rows["relation"], rows["head"], strict=True)])
        axes.invert_yaxis()
        axes.set(xlabel="share of words whose head is found", xlim=(0, 1))
        figure.legend(fontsize="small", loc="outside upper right", ncols=3)
        return figure


@dataclass(frozen=True, kw_only=True)
class HeadProbe(Method[HeadResult]):
    """Whether single attention heads find syntactic heads, relation by relation (Clark et al. 2019, arXiv 1906.04341).

    A head's guess for word i is the other word that i attends to most, or that attends most to i; both ways are tried
    for every head. For each relation the head and its way are chosen on one half of the sentences and reported on the
    other, since the best of some hundred guesses is good by luck. By the first half the relations are ordered too, and
    a head is shown to be better than an offset where p, corrected by Holm over the relations, is under 0.05. All heads
    together are read by an attention-only probe, p(head of i is j) = softmax over j of the sum of w_k a_ij + u_k a_ji
    over the heads k.

    Metrics, shares of words (roots and punctuation left out): ``by_relation``, mean over relations of each one's head;
    ``best_head``, the one head that is best over all words; ``attention_probe``. Controls in the same units:

    - ``offset``: the best fixed offset, for each relation or over all words, chosen on the same half; and for the probe
      one that sees nothing but the offset;
    - ``random_weights``: the same network untrained, with its own best heads; the mean over ``random_models`` of them.

    Attributes:
        choosing_sentences: at most, at random: heads and offsets are chosen, and the probe is trained, on these.
        test_sentences: at most, at random.
        least: words that a relation must have in both halves to be reported.
        random_models: how many untrained networks.

    Raises:
        ProbeError: data that are no treebank, sentences without trees, or no relation with enough words.
        ModelError: the model was loaded without attention patterns.

    Example:
        >>> found = HeadProbe().run(load("minilm"), read_conllu("ud_ewt"))
        >>> found.table()[["relation", "head", "accuracy", "offset_accuracy", "random_weights"]]
    """

    name = "probing.heads"
    inputs: ClassVar[str] = "Treebank"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder"})
    at_least: ClassVar = {"choosing_sentences": 1, "test_sentences": 1, "least": 1, "random_models": 1}

    choosing_sentences: int = 400
    test_sentences: int = 400
    least: int = 20
    random_models: int = 2

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> HeadResult:
        """Probe.

        Args:
            model: a :class:`LanguageModel`; its weights are not touched.
            data: a :class:`Treebank` with trees.
        """
        began = time.perf_counter()
        if not isinstance(model, LanguageModel):
            raise ProbeError(f"{self.name} takes a LanguageModel, not {type(model).__name__}; load one first.")
        choosing, test = self._halves(data)
        own = self._read(model, choosing, test, progress)
        fresh = [
            self._read(one, choosing, test, progress) for one in untrained(model, self.random_models, seed=self.seed)
        ]
        rule = _Guesses(_offset_hits(choosing), _offset_hits(test), *_by_offset(choosing, test, self.seed))
        relations, of = _relations(choosing), _relations(test)
        groups = _places(test)
        common = [r for r in sorted(set(of)) if min((relations == r).sum(), (of == r).sum()) >= self.least]
        if not common:
            raise ProbeError(
                f"no relation has {self.least} words in both halves ({len(relations)} and {len(of)} words); give more "
                "sentences, or a smaller least."
            )
        heads = int(model.config.num_attention_heads)
        rows = []
        for relation in common:
            where, there = relations == relation, of == relation
            best, guess = own.best(where), rule.best(where)
            hits, others = own.test[best, there], rule.test[guess, there]
            low, high = mean_interval(hits, groups[there].tolist(), seed=self.seed)
            rows.append(
                {"relation": relation, "words": int(there.sum()), "head": head_name(best % own.heads, heads),
                 "way": _WAYS[best // own.heads], "accuracy": hits.mean(), "low": low, "high": high,
                 "offset": _OFFSETS[guess], "offset_accuracy": others.mean(),
                 "random_weights": np.mean([one.test[one.best(where), there].mean() for one in fresh]),
                 "choosing_lead": own.choosing[best, where].mean() - rule.choosing[guess, where].mean(),
                 "p_holm": _p(hits - others, groups[there])}
            )  # fmt: skip
        table = pd.DataFrame(rows)
        table["p_holm"] = holm(table["p_holm"])
        # By the other half the first one would be the luckiest.
        table = table.iloc[(-table["choosing_lead"]).argsort(kind="stable")]
        every = np.ones(len(relations), dtype=bool)
        arms = {
            arm: averaged([
                {"by_relation": np.mean([one.test[one.best(relations == r), of == r].mean() for r in common]),
                 "best_head": one.test[one.best(every)].mean(), "attention_probe": one.probe.mean()} for one in of_arm
            ])
            for arm, of_arm in (("found", [own]), ("offset", [rule]), ("random_weights", fresh))
        }  # fmt: skip
        findings = self._findings(table, own, rule, fresh, groups, every, heads)
        return HeadResult(
            metrics=arms.pop("found"),
            controls=arms,
            config=self.config,
            rows=table.reset_index(drop=True),
            findings=findings,
            facts={"heads": own.heads, "n_choosing": len(choosing), "n_test": len(test), "words": len(of),
                   "model": model.name, "model_fingerprint": model.fingerprint,
                   "seconds": round(time.perf_counter() - began, 1)},
        )  # fmt: skip

    def _halves(self, data: Any) -> tuple[list[Sentence], list[Sentence]]:
        if not isinstance(data, Treebank):
            raise ProbeError(f"{self.name} takes a Treebank, not {type(data).__name__}; read one with read_conllu.")
        bare = next((s for s in data.sentences if s.heads is None or "deprel" not in s.tags), None)
        if bare is not None:
            raise ProbeError(f"sentence {bare.id} has no tree with relations; give a dependency treebank.")
        banks = data.split(seed=self.seed)
        rng = np.random.default_rng(self.seed)
        found = []
        for part, most in (("train", self.choosing_sentences), ("test", self.test_sentences)):
            fit = [s for s in banks[part].sentences if 2 <= len(s) <= _LONGEST]
            found.append([fit[i] for i in sorted(rng.permutation(len(fit))[:most])])
            if not found[-1]:
                raise ProbeError(f"the part {part} has no sentence of 2 to {_LONGEST} words; give other data.")
        return found[0], found[1]

    def _read(
        self, model: LanguageModel, choosing: list[Sentence], test: list[Sentence], progress: Progress
    ) -> _Guesses:
        seen = word_attention(model, [s.words for s in choosing], progress=progress)
        trees = [s.heads or () for s in choosing]
        probe = fit_arcs([both_ways(x) for x in seen], trees, seed=self.seed)
        chosen = _hits(seen, choosing)
        seen = word_attention(model, [s.words for s in test], progress=progress)
        said = probe.heads([both_ways(x) for x in seen])
        return _Guesses(chosen, _hits(seen, test), _right(said, test), len(seen[0]))

    def _findings(
        self,
        table: pd.DataFrame,
        own: _Guesses,
        rule: _Guesses,
        fresh: list[_Guesses],
        groups: Indices,
        every: npt.NDArray[np.bool_],
        heads: int,
    ) -> list[str]:
        first = table.iloc[0]
        said = [
            f"Head {first['head']} finds the head of {first['accuracy']:.3f} of the words with relation "
            f"{first['relation']} ({first['low']:.3f} to {first['high']:.3f}); offset {first['offset']:+d} finds "
            f"{first['offset_accuracy']:.3f}, the best untrained head {first['random_weights']:.3f}."
        ]
        shown = (table["p_holm"] < _SHOWN) & (table["accuracy"] > table["offset_accuracy"])
        if not shown.all():
            said.append(
                f"No head is shown to be better than a fixed offset (by Holm over {len(table)} relations) for: "
                f"{', '.join(table['relation'][~shown])}."
            )
        best = own.best(every)
        hits = own.test[best]
        blank = np.mean([one.probe for one in fresh], axis=0)
        pairs = [
            (f"head {head_name(best % own.heads, heads)} over all words", "a fixed offset",
             hits - rule.test[rule.best(every)]),
            ("the attention-only probe", "a probe that sees offsets alone", own.probe - rule.probe),
            ("the attention-only probe", "the same on random weights", own.probe - blank),
        ]  # fmt: skip
        for what, control, gap in pairs:
            low, high = mean_interval(gap, groups.tolist(), seed=self.seed)
            said.append(compared(what, control, float(gap.mean()), float(low), float(high)))
        return said

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Seventy sentences of a made-up grammar, and a tiny encoder."""
        return cls(choosing_sentences=20, test_sentences=12, least=3), tiny("bert"), tiny_treebank()


@dataclass(frozen=True, eq=False)
class _Guesses:
    """Which guesses hit, word by word [guesses, words]; of the probe on test [words]."""

    choosing: Floats
    test: Floats
    probe: Floats
    heads: int = 0

    def best(self, where: npt.NDArray[np.bool_]) -> int:
        """The guess that is right most often on these of the choosing words."""
        return int(self.choosing[:, where].mean(1).argmax())


def _p(gaps: Floats, sentences: Indices) -> float:
    """Two-sided, of no difference between two guesses on these words [n]; a sentence's words count as one."""
    _, of = np.unique(sentences, return_inverse=True)
    sums = np.bincount(of, gaps)
    return paired_difference(sums, np.zeros(len(sums))).p


def _kept(sentence: Sentence) -> Indices:
    """Places of the words that have a head and are no punctuation."""
    relations = sentence.tags["deprel"]
    return np.array([i for i, head in enumerate(sentence.heads or ()) if head >= 0 and relations[i] != "punct"], int)


def _relations(sentences: Sequence[Sentence]) -> npt.NDArray[np.str_]:
    return np.array([s.tags["deprel"][i].partition(":")[0] for s in sentences for i in _kept(s)])


def _places(sentences: Sequence[Sentence]) -> Indices:
    return np.repeat(np.arange(len(sentences)), [len(_kept(s)) for s in sentences])


def _hits(maps: Sequence[Tensor], sentences: Sequence[Sentence]) -> Floats:
    """1 where a head's guess is right [2 heads, words]: dependent to head, then head to dependent."""
    found = []
    for seen, sentence in zip(maps, sentences, strict=True):
        kept = _kept(sentence)
        among = seen.masked_fill(torch.eye(seen.shape[-1], dtype=torch.bool), 0)
        gold = np.array(sentence.heads)[kept]
        for_both = []
        for way in (among, among.transpose(1, 2)):
            most, guess = way.max(-1)
            # A decoder's first word attends to nothing else: that is no guess.
            guess = torch.where(most > 0, guess, -1)
            for_both.append(guess.numpy()[:, kept] == gold)
        found.append(np.concatenate(for_both))
    together: Floats = np.concatenate(found, axis=1).astype(np.float64)
    return together


def _offset_hits(sentences: Sequence[Sentence]) -> Floats:
    distance = np.concatenate([np.array(s.heads)[_kept(s)] - _kept(s) for s in sentences])
    found: Floats = (distance[None] == np.array(_OFFSETS)[:, None]).astype(np.float64)
    return found


def _by_offset(choosing: Sequence[Sentence], test: Sequence[Sentence], seed: int) -> tuple[Floats]:
    probe = fit_arcs([offsets(len(s)) for s in choosing], [s.heads or () for s in choosing], seed=seed)
    return (_right(probe.heads([offsets(len(s)) for s in test]), test),)


def _right(said: Sequence[Indices], sentences: Sequence[Sentence]) -> Floats:
    hits = [of[_kept(s)] == np.array(s.heads)[_kept(s)] for of, s in zip(said, sentences, strict=True)]
    found: Floats = np.concatenate(hits).astype(np.float64)
    return found
