"""What a model knows: facts asked for by patterns with a gap."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tracemend.data import Fact, Facts
from tracemend.errors import ProbeError
from tracemend.evaluate import mean_interval
from tracemend.methods import Method
from tracemend.models import LanguageModel, random_weights, tiny
from tracemend.models.likelihood import check_likelihood
from tracemend.models.representations import padded
from tracemend.probing.result import ProbeResult, compared
from tracemend.progress import Progress

Floats = npt.NDArray[np.floating]
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
      gives them does not hear the negation (Kassner and Schütze 2020, arXiv 1911.03343);
    - ``majority``: the relation's most frequent object;
    - ``random_weights``: the same network untrained.

    Metrics: ``p_at_1`` and ``mrr`` typed, mean over patterns; ``full_vocabulary``, how often the most probable token of
    all begins the object; ``consistency``, how often two patterns of a relation get the same answer for a subject,
    right or wrong (Elazar et al. 2021, arXiv 2102.01017).

    Attributes:
        relations: which; the first ten with a usable pattern if none are named.
        facts: of each relation at most, at random.
        patterns: of each relation at most, the first ones.
        batch_size: texts of a forward pass.

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

    relations: tuple[str, ...] = ()
    facts: int = 15
    patterns: int = 2
    batch_size: int = 16

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
        if min(self.facts, self.patterns, self.batch_size) < 1:
            raise ProbeError("facts, patterns and batch_size must be at least 1.")
        check_likelihood(model)
        asked = self._asked(model, data)
        arms = {
            "found": self._ask(model, asked, progress),
            "nonsense": self._ask(model, [(facts, (NONSENSE,)) for facts, _ in asked], progress),
            "random_weights": self._ask(random_weights(model, seed=self.seed + 1), asked, progress),
        }
        denied = [(facts, tuple(p for p in map(negated, patterns) if p)) for facts, patterns in asked]
        if any(patterns for _, patterns in denied):
            arms["negated"] = self._ask(model, [(f, p) for f, p in denied if p], progress)
        own = arms["found"]
        majority = np.concatenate([_majority(facts) for facts, _ in asked])
        table = self._table(asked, arms)
        controls = {arm: _figures(rows) for arm, rows in arms.items() if arm != "found"}
        controls["majority"] = {"p_at_1": float(majority.mean())}
        collisions = sorted({c for facts, _ in asked for c in _collisions(model, _objects(facts))})
        findings = self._findings(own, arms, majority, table, collisions)
        return ProbeResult(
            metrics=_figures(own),
            controls=controls,
            config=self.config,
            rows=table,
            findings=findings,
            facts={"facts": int(own["fact"].nunique()), "relations": [facts[0].relation for facts, _ in asked],
                   "collisions": collisions, "model": model.name, "model_fingerprint": model.fingerprint,
                   "seconds": round(time.perf_counter() - began, 1)},
        )  # fmt: skip

    def _asked(self, model: LanguageModel, data: Facts) -> list[tuple[list[Fact], tuple[str, ...]]]:
        """Facts and usable patterns of each relation."""
        usable = {
            relation: tuple(p for p in data.patterns[relation] if model.family == "encoder" or _ends_in_gap(p))
            for relation in data.relations
        }
        named = self.relations or tuple(relation for relation in data.relations if usable[relation])[:10]
        chosen = data.of(named).sample(self.facts, seed=self.seed)
        without = [relation for relation in chosen.relations if not usable[relation]]
        if without or not chosen.relations:
            raise ProbeError(
                f"no pattern of {', '.join(without) or data.name} ends in [Y]; a decoder cannot see what stands behind "
                "the gap. Name other relations, or a masked model."
            )
        return [([f for f in chosen.facts if f.relation == r], usable[r][: self.patterns]) for r in chosen.relations]

    def _ask(
        self, model: LanguageModel, asked: Sequence[tuple[list[Fact], tuple[str, ...]]], progress: Progress
    ) -> pd.DataFrame:
        """A row a fact and pattern: the rank of its object, the answer, and whether the first token is right."""
        rows = []
        for facts, patterns in progress.track(asked, task=f"ask {model.name}"):
            candidates = _objects(facts)
            for number, pattern in enumerate(patterns):
                scores, first = _scores(model, [pattern.replace("[X]", f.subject) for f in facts], candidates,
                                        self.batch_size)  # fmt: skip
                for fact, row, top in zip(facts, scores, first, strict=True):
                    right = candidates.index(fact.object)
                    rank = 1 + int((row > row[right]).sum())
                    rows.append(
                        {"relation": fact.relation, "pattern": pattern, "number": number, "fact": "\t".join(fact),
                         "rank": rank, "answer": candidates[int(row.argmax())], "hit": float(rank == 1),
                         "first": float(top == _tokens(model, fact.object)[0])}
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
            others = {arm: float(of[arm]["hit"].mean()) for arm in ("nonsense", "random_weights")}
            for pattern in patterns:
                own = of["found"][of["found"]["pattern"] == pattern]
                found.append(
                    {"relation": relation, "pattern": pattern, "facts": len(own), "candidates": len(_objects(facts)),
                     "p_at_1": float(own["hit"].mean()), "mrr": float((1 / own["rank"]).mean()),
                     "full_vocabulary": float(own["first"].mean()),
                     "majority": float(_majority(facts).mean()), **others}
                )  # fmt: skip
        return pd.DataFrame(found)

    def _findings(
        self,
        own: pd.DataFrame,
        arms: dict[str, pd.DataFrame],
        majority: Floats,
        table: pd.DataFrame,
        collisions: list[str],
    ) -> list[str]:
        by_fact = own.groupby("fact", sort=False)["hit"].mean()
        low, high = mean_interval(by_fact.to_numpy(), seed=self.seed)
        said = [
            f"{by_fact.mean():.3f} of {len(by_fact)} facts are completed right among the objects of their relation "
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
        if "negated" in arms:
            said.append(_on_negation(own, arms["negated"]))
        if collisions:
            said.append(
                f"Objects that begin with the same token: {', '.join(collisions[:10])}; full_vocabulary takes them for "
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


def _on_negation(own: pd.DataFrame, denied: pd.DataFrame) -> str:
    plain = {negated(pattern): pattern for pattern in own["pattern"].unique()}
    before = own.set_index(["fact", "pattern"])["answer"]
    same = [
        float(before[fact, plain[pattern]] == answer)
        for fact, pattern, answer in zip(denied["fact"], denied["pattern"], denied["answer"], strict=True)
    ]
    share = float(np.mean(same))
    heard = "the model hardly hears the negation." if share > 0.5 else "the model hears the negation."
    return f'Under "not" {share:.3f} of {len(same)} answers stay the same: {heard}'


def _ends_in_gap(pattern: str) -> bool:
    return pattern.rstrip(" .").endswith("[Y]")


def _objects(facts: Sequence[Fact]) -> list[str]:
    return list(dict.fromkeys(fact.object for fact in facts))


def _majority(facts: Sequence[Fact]) -> Floats:
    most = max(Counter(fact.object for fact in facts).items(), key=lambda pair: pair[1])[0]
    return np.array([float(fact.object == most) for fact in facts])


def _tokens(model: LanguageModel, text: str) -> list[int]:
    """Tokens of a candidate as it stands behind a space."""
    before = "" if model.family == "encoder" else " "
    found: list[int] = model.tokenizer(before + text, add_special_tokens=False).input_ids
    # Byte-level vocabularies know every text, and name some other token as their unknown one.
    unknown = {model.tokenizer.unk_token_id} - {model.tokenizer.eos_token_id, None}
    if not found or unknown & set(found):
        raise ProbeError(f"the tokenizer of {model.name} cannot make the candidate {text!r}; leave its facts out.")
    return found


def _collisions(model: LanguageModel, candidates: Sequence[str]) -> list[str]:
    first = {c: _tokens(model, c)[0] for c in candidates}
    return [f"{a} and {b}" for a, b in combinations(candidates, 2) if first[a] == first[b]]


def _scores(
    model: LanguageModel, texts: Sequence[str], candidates: Sequence[str], batch_size: int
) -> tuple[Floats, list[int]]:
    """Log-probability of every candidate in the gap of every text [n, k], and the likeliest first token [n]."""
    tokens = [_tokens(model, c) for c in candidates]
    jobs: dict[tuple[int, ...], list[tuple[int, int, list[int]]]] = {}
    for i, text in enumerate(texts):
        for k, candidate in enumerate(tokens):
            ids, places = _row(model, text, candidate)
            # Candidates of one token share their text: it is read once.
            jobs.setdefault(tuple(ids), []).append((i, k, places))
    found = np.zeros((len(texts), len(candidates)))
    first: dict[int, int] = {}
    rows = sorted(jobs, key=len)
    for begin in range(0, len(rows), batch_size):
        batch = rows[begin : begin + batch_size]
        ids_of, mask = padded(model, batch)
        with torch.inference_mode():
            logits = model.network(input_ids=ids_of, attention_mask=mask).logits
            for at, row in enumerate(batch):
                for i, k, places in jobs[row]:
                    said = logits[at, places].float().log_softmax(-1)
                    found[i, k] = sum(float(p[t]) for p, t in zip(said, tokens[k], strict=True))
                    # A masked model's first guess depends on how many masks there are: the fewest count.
                    if len(tokens[k]) == min(map(len, tokens)):
                        first.setdefault(i, int(said[0].argmax()))
    return found, [first[i] for i in range(len(texts))]


def _row(model: LanguageModel, text: str, candidate: Sequence[int]) -> tuple[list[int], list[int]]:
    before, after = text.split("[Y]")
    tokenizer = model.tokenizer
    if model.family == "decoder":
        prefix = [int(tokenizer.bos_token_id), *tokenizer(before.rstrip(), add_special_tokens=False).input_ids]
        ids = [*prefix, *candidate[:-1]]
        # The logits at a place are about the token that follows.
        places = list(range(len(prefix) - 1, len(prefix) - 1 + len(candidate)))
    else:
        ids = tokenizer(before + tokenizer.mask_token * len(candidate) + after).input_ids
        places = [i for i, token in enumerate(ids) if token == tokenizer.mask_token_id]
    if len(ids) > model.window:
        raise ProbeError(f"{text[:40]!r} has {len(ids)} tokens and the window of {model.name} is {model.window}.")
    return ids, places


def _figures(rows: pd.DataFrame) -> dict[str, float]:
    found = {
        "p_at_1": float(rows["hit"].mean()),
        "mrr": float((1 / rows["rank"]).mean()),
        "full_vocabulary": float(rows["first"].mean()),
    }
    pairs = [
        float(one == other)
        for _, own in rows.groupby("fact", sort=False)
        for one, other in combinations(own["answer"], 2)
    ]
    return found | ({"consistency": float(np.mean(pairs))} if pairs else {})
