"""What a model knows: facts asked for by patterns with a gap."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from tracemend.arrays import Floats
from tracemend.data import PLAIN, Fact, Facts
from tracemend.errors import ProbeError
from tracemend.evaluate import mean_interval
from tracemend.methods import Method
from tracemend.models import LanguageModel, tiny
from tracemend.models.likelihood import check_likelihood
from tracemend.probing.gap_scores import collisions, ends_in_gap, gap_scores, tokens_of
from tracemend.probing.result import ProbeResult, compared
from tracemend.probing.untrained import averaged, untrained
from tracemend.progress import Progress

_BE = re.compile(r"\b(is|was|are|were)\b(?! not)")
# Grammatical stubs that ask for nothing: what a model answers here it took from the subject's name and the candidates.
NONSENSE = "[X] and the other of when [Y]."


@dataclass(frozen=True, kw_only=True)
class ClozeProbe(Method[ProbeResult]):
    """Share of facts that a model completes, typed and over its whole vocabulary (Petroni et al. 2019; LAMA).

    The subject goes into a pattern ("[X] was born in [Y]."); a candidate is scored by the log-probability of all its
    tokens in the gap, given what stands before it (a decoder: only patterns that end in [Y]) or around it (a masked
    model: as many masks as the candidate has tokens, each scored on its own). Typed: among the objects that the facts
    of the relation have. A name often gives its object away without any knowledge, so beside the figure stand

    - ``nonsense``: a pattern that asks for nothing;
    - ``negated``: the same patterns with "not" behind their is, was, are or were, scored by the same objects: who still
      gives them does not hear the negation (Kassner and Schütze 2020, arXiv 1911.03343); ``affirmed``: the figures of
      those patterns alone that have such a form, to compare with it;
    - ``majority``: the relation's most frequent object;
    - ``random_weights``: the same network untrained; the mean over ``random_models`` of them.

    Facts with wordings of their own (:func:`tracemend.data.read_primed`, :func:`tracemend.data.read_kinds`) are asked
    by these, and their other wordings are the arms beside them: ``negated``; ``misprimed``, where a word that has
    nothing to do with it stands in front.

    Metrics: ``p_at_1``, ``p_at_K`` and ``mrr`` typed, mean over patterns; ``full_vocabulary``, how often the most
    probable token of all begins the object, and ``full_vocabulary_at_K``, how often one of the K most probable does;
    ``consistency``, how often two patterns of a relation get the same answer for a subject, right or wrong (Elazar et
    al. 2021, arXiv 2102.01017).

    Attributes:
        relations: which; the first ten with a usable pattern if none are named.
        facts: of each relation at most, at random.
        patterns: of each relation at most, the first ones.
        k: the K of the metrics above; 1 leaves them out. Where a relation has no more candidates than that, the typed
            one is 1 for nothing, and the findings say so.
        batch_size: texts of a forward pass.
        random_models: how many untrained networks.

    Raises:
        ModelError: the model gives no probabilities of words.
        ProbeError: data that are no facts, or no pattern of a relation that a decoder can use.

    Example:
        >>> found = ClozeProbe().run(load("smollm2"), read_facts("pararel"))
        >>> found.metrics["p_at_1"], found.controls["nonsense"]
    """

    name = "probing.cloze"
    inputs: ClassVar[str] = "Facts"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder"})
    at_least: ClassVar = {"facts": 1, "patterns": 1, "batch_size": 1, "k": 1, "random_models": 1}

    relations: tuple[str, ...] = ()
    facts: int = 15
    patterns: int = 2
    k: int = 10
    batch_size: int = 16
    random_models: int = 2

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> ProbeResult:
        """Ask.

        Args:
            model: a :class:`LanguageModel` that gives probabilities of words.
            data: :class:`Facts`.
        """
        began = time.perf_counter()
        if not isinstance(model, LanguageModel):
            raise ProbeError(f"{self.name} takes a LanguageModel, not {type(model).__name__}; load one first.")
        if not isinstance(data, Facts):
            raise ProbeError(f"{self.name} takes Facts, not {type(data).__name__}; read them with read_facts.")
        check_likelihood(model)
        asked, left_out = self._asked(model, data)
        plain = data.wordings.get(PLAIN)
        arms = {
            "found": self._ask(model, asked, progress, plain),
            "nonsense": self._ask(model, [(facts, (NONSENSE,)) for facts, _ in asked], progress),
        }
        fresh = [self._ask(one, asked, progress, plain) for one in untrained(model, self.random_models, seed=self.seed)]
        arms["random_weights"] = pd.concat(fresh, ignore_index=True)
        if plain is None:
            denied = [(facts, tuple(p for p in map(negated, patterns) if p)) for facts, patterns in asked]
            if any(patterns for _, patterns in denied):
                arms["negated"] = self._ask(model, [(f, p) for f, p in denied if p], progress)
        else:
            arms |= {arm: self._ask(model, asked, progress, of) for arm, of in data.wordings.items() if arm != PLAIN}
        own = arms["found"]
        majority = np.concatenate([_majority(facts) for facts, _ in asked])
        table = self._table(asked, arms)
        controls = {arm: _figures(rows, self.k) for arm, rows in arms.items() if arm != "found"}
        if "negated" in arms and plain is None:
            same = own[own["pattern"].map(lambda pattern: bool(negated(pattern)))]
            controls["affirmed"] = _figures(same, self.k)
        controls["random_weights"] = averaged([_figures(rows, self.k) for rows in fresh])
        controls["majority"] = {"p_at_1": float(majority.mean())}
        if self.k > 1:
            frequent = np.concatenate([_majority(facts, self.k) for facts, _ in asked])
            controls["majority"][f"p_at_{self.k}"] = float(frequent.mean())
        alike = sorted({c for facts, _ in asked for c in collisions(model, _objects(facts))})
        findings = self._findings(own, arms, majority, table, alike)
        if left_out:
            findings.append(
                f"{left_out} facts were left out: their wordings go on behind the gap, where a decoder sees nothing."
            )
        return ProbeResult(
            metrics=_figures(own, self.k),
            controls=controls,
            config=self.config,
            rows=table,
            findings=findings,
            facts={"facts": int(own["fact"].nunique()), "relations": [facts[0].relation for facts, _ in asked],
                   "collisions": alike, "left_out": left_out, "model": model.name,
                   "model_fingerprint": model.fingerprint, "seconds": round(time.perf_counter() - began, 1)},
        )  # fmt: skip

    def _asked(self, model: LanguageModel, data: Facts) -> tuple[list[tuple[list[Fact], tuple[str, ...]]], int]:
        """Facts and usable patterns of each relation, and how many facts have wordings that are not usable."""
        data = data.of(self.relations) if self.relations else data
        relations, given = data.relations, Counter(fact.relation for fact in data.facts)
        if data.wordings and model.family != "encoder":
            kept = tuple(f for f in data.facts if all(ends_in_gap(of[f]) for of in data.wordings.values()))
            if not kept:
                raise ProbeError(f"no wording of {data.name} ends in [Y]; name a masked model.")
            data = replace(data, facts=kept)
        usable = {
            relation: tuple(p for p in data.patterns[relation] if model.family == "encoder" or ends_in_gap(p))
            for relation in data.relations
        }
        named = self.relations or tuple(relation for relation in data.relations if usable[relation])[:10]
        without = [r for r in relations if not usable.get(r)] if self.relations else []
        if without or not named:
            raise ProbeError(
                f"no pattern of {', '.join(without) or data.name} ends in [Y]; a decoder cannot see what stands behind "
                "the gap. Name other relations, or a masked model."
            )
        kept_of = Counter(fact.relation for fact in data.facts)
        chosen = data.of(named).sample(self.facts, seed=self.seed)
        own = {r: [f for f in chosen.facts if f.relation == r] for r in chosen.relations}
        left_out = sum(given[r] - kept_of[r] for r in chosen.relations)
        return [(own[r], usable[r][: self.patterns]) for r in chosen.relations], left_out

    def _ask(
        self,
        model: LanguageModel,
        asked: Sequence[tuple[list[Fact], tuple[str, ...]]],
        progress: Progress,
        wordings: Mapping[Fact, str] | None = None,
    ) -> pd.DataFrame:
        """A row a fact and pattern: the rank of its object, the answer, and whether the first tokens are right."""
        rows = []
        for facts, patterns in progress.track(asked, task=f"ask {model.name}"):
            candidates = _objects(facts)
            for number, pattern in enumerate(patterns):
                texts = [wordings[f] if wordings else pattern.replace("[X]", f.subject) for f in facts]
                scores, first = gap_scores(model, texts, candidates, self.batch_size, k=self.k)
                for fact, row, top in zip(facts, scores, first, strict=True):
                    right = candidates.index(fact.object)
                    rank = 1 + int((row > row[right]).sum())
                    begins = tokens_of(model, fact.object)[0]
                    rows.append(
                        {"relation": fact.relation, "pattern": pattern, "number": number, "fact": "\t".join(fact),
                         "rank": rank, "answer": candidates[int(row.argmax())], "hit": float(rank == 1),
                         "first": float(top[0] == begins), "among_first": float(begins in top)}
                    )  # fmt: skip
        return pd.DataFrame(rows)

    def _table(
        self, asked: Sequence[tuple[list[Fact], tuple[str, ...]]], arms: dict[str, pd.DataFrame]
    ) -> pd.DataFrame:
        """A row a relation and pattern, with the controls of the relation."""
        found = []
        for facts, patterns in asked:
            relation = facts[0].relation
            of = {arm: rows[rows["relation"] == relation] for arm, rows in arms.items()}
            others = {arm: float(rows["hit"].mean()) for arm, rows in of.items() if arm != "found" and len(rows)}
            for pattern in patterns:
                own = of["found"][of["found"]["pattern"] == pattern]
                found.append(
                    {"relation": relation, "pattern": pattern, "facts": len(own), "candidates": len(_objects(facts)),
                     "p_at_1": float(own["hit"].mean()), "mrr": float((1 / own["rank"]).mean()),
                     "full_vocabulary": float(own["first"].mean()),
                     "majority": float(_majority(facts).mean()), **others,
                     **({} if self.k == 1 else {f"p_at_{self.k}": float((own["rank"] <= self.k).mean())})}
                )  # fmt: skip
        return pd.DataFrame(found)

    def _findings(
        self,
        own: pd.DataFrame,
        arms: dict[str, pd.DataFrame],
        majority: Floats,
        table: pd.DataFrame,
        alike: list[str],
    ) -> list[str]:
        by_fact = own.groupby("fact", sort=False)["hit"].mean()
        low, high = mean_interval(by_fact.to_numpy(), seed=self.seed)
        said = [
            f"{by_fact.mean():.3f} of {len(by_fact)} facts are completed right among the objects of the facts asked "
            f"({low:.3f} to {high:.3f}); {own['first'].mean():.3f} with the whole vocabulary to choose from."
        ]
        others = {arm: arms[arm].groupby("fact", sort=False)["hit"].mean() for arm in ("nonsense", "random_weights")}
        for arm, values in {**others, "majority": pd.Series(majority, index=by_fact.index)}.items():
            gap = (by_fact - values.reindex(by_fact.index)).to_numpy()
            ends = mean_interval(gap, seed=self.seed)
            name = {"nonsense": "a nonsense pattern", "majority": "the most frequent object"}.get(arm, "random weights")
            said.append(compared("the model", name, float(gap.mean()), float(ends[0]), float(ends[1])))
        best = table.groupby("relation", sort=False)[["p_at_1", "nonsense", "majority"]].max()
        lost = [f"{r}" for r, row in best.iterrows() if max(row["nonsense"], row["majority"]) >= row["p_at_1"]]
        if lost:
            said.append(
                f"On {', '.join(lost)} a nonsense pattern or the most frequent object does as well as the best "
                "pattern: names and frequencies answer, not knowledge."
            )
        said += [_on_other(own, arms[arm], arm) for arm in ("negated", "misprimed") if arm in arms]
        few = table.loc[table["candidates"] <= self.k, "relation"].unique()
        if self.k > 1 and len(few):
            said.append(
                f"P@{self.k} says nothing of {', '.join(few)}, with no more candidates than that; read it in the whole "
                "vocabulary."
            )
        if alike:
            said.append(
                f"Objects that begin with the same token: {', '.join(alike[:10])}; full_vocabulary takes them for "
                "one another."
            )
        return said

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Two relations of four facts, and a tiny decoder."""
        likes = {"my": "film", "your": "movie", "this": "film", "that": "people"}
        facts = [Fact("likes", *pair) for pair in likes.items()]
        facts += [Fact("is", *pair) for pair in {"he": "good", "she": "bad", "it": "sad", "we": "happy"}.items()]
        patterns = {"likes": ("[X] people love the [Y].", "[X] is a very great [Y]"), "is": ("[X] is [Y] .",)}
        return cls(), tiny("gpt2"), Facts(facts=tuple(facts), patterns=patterns)


def negated(pattern: str) -> str:
    """The pattern with "not" behind its first form of be; empty where it has none.

    Example:
        >>> negated("[X] is located in [Y].")
        '[X] is not located in [Y].'
    """
    found, changed = _BE.subn(r"\1 not", pattern, count=1)
    return found if changed else ""


def _on_other(own: pd.DataFrame, other: pd.DataFrame, arm: str) -> str:
    """What becomes of the answers in an arm, over the facts and patterns that both have."""
    # A wording of its own has the same pattern in every arm.
    plain = {negated(pattern) or pattern: pattern for pattern in own["pattern"].unique()}
    plain |= {pattern: pattern for pattern in own["pattern"].unique()}
    before = own.set_index(["fact", "pattern"])
    places = [(fact, plain[pattern]) for fact, pattern in zip(other["fact"], other["pattern"], strict=True)]
    same = float(np.mean([before["answer"][at] == a for at, a in zip(places, other["answer"], strict=True)]))
    hit, first = (float(np.mean([before[name][at] for at in places])) for name in ("hit", "first"))
    if arm == "negated":
        heard = "the model hardly hears the negation" if same > 0.5 else "the model hears the negation"
        what = 'Under "not"'
    else:
        heard = "the word misleads the model" if same < 0.5 else "the word hardly misleads the model"
        what = "Behind a word that has nothing to do with it"
    return (
        f"{what} {same:.3f} of {len(other)} answers stay the same: {heard}. Right of the same: {hit:.3f} without it "
        f"and {other['hit'].mean():.3f} with it; in the whole vocabulary {first:.3f} and {other['first'].mean():.3f}."
    )


def _objects(facts: Sequence[Fact]) -> list[str]:
    return list(dict.fromkeys(fact.object for fact in facts))


def _majority(facts: Sequence[Fact], k: int = 1) -> Floats:
    """1 where a fact's object is among the k most frequent ones."""
    most = {name for name, _ in Counter(fact.object for fact in facts).most_common(k)}
    return np.array([float(fact.object in most) for fact in facts])


def _figures(rows: pd.DataFrame, k: int) -> dict[str, float]:
    found = {
        "p_at_1": float(rows["hit"].mean()),
        "mrr": float((1 / rows["rank"]).mean()),
        "full_vocabulary": float(rows["first"].mean()),
    }
    if k > 1:
        found[f"p_at_{k}"] = float((rows["rank"] <= k).mean())
        found[f"full_vocabulary_at_{k}"] = float(rows["among_first"].mean())
    pairs = [
        float(one == other)
        for _, own in rows.groupby("fact", sort=False)
        for one, other in combinations(own["answer"], 2)
    ]
    return found | ({"consistency": float(np.mean(pairs))} if pairs else {})
