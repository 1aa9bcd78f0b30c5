"""Prompts that are searched for: what they find of a model's knowledge, and what they learn from the facts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from torch import Tensor

from tracemend.arrays import Floats
from tracemend.data import Fact, Facts
from tracemend.errors import ProbeError
from tracemend.evaluate import mean_interval
from tracemend.methods import Method
from tracemend.models import LanguageModel, tiny
from tracemend.models.likelihood import check_likelihood
from tracemend.models.tokens import word_tokens
from tracemend.probing.cloze import _objects
from tracemend.probing.gap_scores import ends_in_gap, gap_scores, tokens_of
from tracemend.probing.mined import mined_patterns
from tracemend.probing.prompt_vectors import batched, typed_scores
from tracemend.probing.result import ProbeResult, compared
from tracemend.probing.searches import continuous, discrete, nearest
from tracemend.probing.untrained import untrained
from tracemend.progress import Progress

FIRST, PARAPHRASE, MINED, DISCRETE, CONTINUOUS = "first_pattern", "paraphrase", "mined", "discrete", "continuous"
# In the order of the table; patterns are mined only where there are texts.
SEARCHES = (FIRST, PARAPHRASE, MINED, DISCRETE, CONTINUOUS)
# Wordings that were there before the facts were seen.
_GIVEN = (FIRST, PARAPHRASE)
NOTHING_MINED = "(no pattern was mined)"
_FEWEST = 6


@dataclass(frozen=True, eq=False)
class _Divided:
    """The facts of one relation in three parts, and what is asked of them."""

    train: list[Fact]
    dev: list[Fact]
    test: list[Fact]
    candidates: list[str]
    patterns: tuple[str, ...]
    texts: tuple[str, ...]

    @property
    def relation(self) -> str:
        return self.test[0].relation

    def shuffled(self, seed: int) -> _Divided:
        """With the objects of train and dev in another order; test stays."""
        both = [*self.train, *self.dev]
        order = np.random.default_rng(seed).permutation(len(both))
        told = [fact._replace(object=both[k].object) for fact, k in zip(both, order, strict=True)]
        n = len(self.train)
        return replace(self, train=told[:n], dev=told[n:])


@dataclass(frozen=True, kw_only=True)
class PromptSearch(Method[ProbeResult]):
    r"""Facts that a model completes after a search for the prompt, beside the same search where nothing is known.

    The facts of a relation are divided: given and mined patterns are chosen on train and dev together, tokens are
    searched on train alone, vectors are trained on train and taken at the step of least loss on dev; all are judged on
    test, by the share of facts whose object is the most probable among the objects of the relation (typed P@1).
    Metrics, means over the test facts:

    - ``first_pattern``: the relation's first pattern, without a search;
    - ``paraphrase``: the pattern, of all given ones, with the highest P@1 on train and dev (as LPAQA chooses among
      mined and paraphrased ones; Jiang et al. 2020, arXiv 1911.12543);
    - ``mined``, where the facts come with texts: likewise among patterns mined from sentences that hold subject and
      object of a train fact, see :func:`tracemend.probing.mined.mined_patterns`; a relation of which nothing can be
      mined answers no fact;
    - ``discrete``: tokens between subject and object, found by their gradient (AutoPrompt; Shin et al. 2020,
      arXiv 2010.15980), see :func:`tracemend.probing.searches.discrete`;
    - ``continuous``: vectors in their place (OptiPrompt; Zhong et al. 2021, arXiv 2104.05240), see
      :func:`tracemend.probing.searches.continuous`.

    Both searches begin with the words of a pattern. A search sees objects, and a prompt can learn which are frequent
    without any knowledge in the model. So, after Zhong et al. 2021, the same searches are made where there is none:

    - ``random_weights``: on the same network untrained; the mean over ``random_models`` of them;
    - ``shuffled_facts``: on the model, with the objects of train and dev in another order: what the prompt found there
      answers, the search for it did not have to learn. Of ``first_pattern`` and ``paraphrase`` it is NaN: nothing was
      searched, so that it would be the model itself;
    - ``majority``: the most frequent object of train and dev.

    ``facts`` holds ``hard``, the same shares of the test facts that neither random weights nor the most frequent object
    answer right, whatever the search: these alone know nothing of the subject.

    Attributes:
        relations: which; the first five with a usable pattern if none are named.
        facts: of each relation at most, at random.
        steps: slots that the discrete search tries.
        candidates: tokens whose loss it takes at each.
        vector_steps: of Adam in the continuous search.
        learning_rate: of Adam.
        slots: of the prompt at most; a shorter pattern has as many as its tokens.
        mined: patterns of each relation that are mined at most.
        batch_size: texts of a forward pass.
        random_models: how many untrained networks.

    Raises:
        ModelError: the model gives no probabilities of words.
        ProbeError: data that are no facts, too few of them, or no pattern of a relation that a decoder can use.

    Example:
        >>> found = PromptSearch(relations=("P36",)).run(load("smollm2"), read_facts("pararel"))
        >>> found.table()  # beside the searches that know nothing
    """

    name = "probing.prompt-search"
    inputs: ClassVar[str] = "Facts"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "gradients"})
    at_least: ClassVar = dict.fromkeys(
        ("facts", "steps", "candidates", "vector_steps", "slots", "mined", "batch_size", "random_models"), 1
    )

    relations: tuple[str, ...] = ()
    facts: int = 60
    steps: int = 20
    candidates: int = 10
    vector_steps: int = 30
    learning_rate: float = 0.01
    slots: int = 5
    mined: int = 10
    batch_size: int = 16
    random_models: int = 2

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> ProbeResult:
        """Search.

        Args:
            model: a :class:`LanguageModel` that gives probabilities of words.
            data: :class:`Facts`.
        """
        began = time.perf_counter()
        if not isinstance(model, LanguageModel):
            raise ProbeError(f"{self.name} takes a LanguageModel, not {type(model).__name__}; load one first.")
        if not isinstance(data, Facts):
            raise ProbeError(f"{self.name} takes Facts, not {type(data).__name__}; read them with read_facts.")
        self._check()
        check_likelihood(model)
        divided = self._divided(model, data)
        fresh = list(untrained(model, self.random_models, seed=self.seed))
        rows = []
        for one in progress.track(divided, task=f"search with {model.name}"):
            found = self._searched(model, one)
            blind = {
                "random_weights": [self._searched(blank, one) for blank in fresh],
                "shuffled_facts": [self._searched(model, one.shuffled(self.seed))],
            }
            rows += self._rows(one, found, blind)
        table = pd.DataFrame(rows)
        arms = ("random_weights", "shuffled_facts", "majority")
        hits = {arm: self._means(table, arm) for arm in ("hit", *arms)}
        return ProbeResult(
            metrics=hits["hit"],
            controls={arm: hits[arm] for arm in arms},
            config=self.config,
            rows=self._table(table),
            findings=self._findings(table),
            facts={"facts": int(table["fact"].nunique()), "relations": [one.relation for one in divided],
                   "hard": self._means(_hard(table), "hit"),
                   "hard_facts": int(_hard(table)["fact"].nunique()),
                   "model": model.name, "model_fingerprint": model.fingerprint,
                   "seconds": round(time.perf_counter() - began, 1)},
        )  # fmt: skip

    def _divided(self, model: LanguageModel, data: Facts) -> list[_Divided]:
        usable = {
            relation: tuple(p for p in data.patterns[relation] if model.family == "encoder" or ends_in_gap(p))
            for relation in data.relations
        }
        named = self.relations or tuple(r for r in data.relations if any(map(_between, usable[r])))[:5]
        if not named:
            raise ProbeError(f"no relation of {data.name} has a pattern from [X] to [Y]; a search begins with one.")
        chosen = data.of(named).sample(self.facts, seed=self.seed)
        found = []
        for relation in chosen.relations:
            # The words to begin a search with stand between subject and object.
            if not any(map(_between, usable[relation])):
                raise ProbeError(
                    f"no pattern of {relation} begins with [X] and ends in [Y], so that there is nothing to begin a "
                    "search with; name other relations."
                )
            own = [fact for fact in chosen.facts if fact.relation == relation]
            if len(own) < _FEWEST:
                raise ProbeError(
                    f"{relation} has {len(own)} facts; a search needs {_FEWEST}, to be divided into train, dev and "
                    "test."
                )
            order = np.random.default_rng([self.seed, len(own)]).permutation(len(own))
            n, m = len(own) // 2, len(own) // 6
            train, dev, test = ([own[i] for i in part] for part in np.split(order, [n, n + m]))
            found.append(_Divided(train, dev, test, _objects(own), usable[relation], data.texts))
        return found

    def _searched(self, model: LanguageModel, of: _Divided) -> dict[str, tuple[str, Floats]]:
        """Each search's prompt, and whether each test fact is right [n]."""
        both = [*of.train, *of.dev]
        found = {
            FIRST: (of.patterns[0], self._asked(model, of.patterns[0], of.test, of.candidates)),
            PARAPHRASE: self._best(model, of.patterns, both, of),
        }
        if of.texts:
            both_ways = model.family == "encoder"
            mined = mined_patterns(of.train, of.texts, most=self.mined, both_ways=both_ways)
            found[MINED] = self._best(model, mined, both, of)
        table = model.network.get_input_embeddings().weight.detach()
        words = next(text for text in map(_between, of.patterns) if text)
        start = word_tokens(model, words)[: self.slots]
        rows = {
            name: batched(
                model,
                [f.subject for f in part],
                [tokens_of(model, f.object) for f in part],
                len(start),
                self.batch_size,
            )
            for name, part in (("train", of.train), ("dev", of.dev))
        }
        tokens, _ = discrete(model, start, rows["train"], steps=self.steps, candidates=self.candidates)
        vectors, _ = continuous(
            model, table[start], rows["train"], rows["dev"], steps=self.vector_steps, learning_rate=self.learning_rate
        )
        for name, prompt, named in (
            (DISCRETE, table[tokens], tokens),
            (CONTINUOUS, vectors, nearest(model, vectors)),
        ):
            found[name] = (f"[X] {_text(model, named)} [Y]", self._hits(model, prompt, of))
        return found

    def _best(
        self, model: LanguageModel, patterns: Sequence[str], known: Sequence[Fact], of: _Divided
    ) -> tuple[str, Floats]:
        """The pattern that is best on the known facts, and what it answers of test."""
        if not patterns:
            return NOTHING_MINED, np.zeros(len(of.test))
        told = [float(np.mean(self._asked(model, pattern, known, of.candidates))) for pattern in patterns]
        best = patterns[int(np.argmax(told))]
        return best, self._asked(model, best, of.test, of.candidates)

    def _asked(self, model: LanguageModel, pattern: str, facts: Sequence[Fact], candidates: list[str]) -> Floats:
        scores, _ = gap_scores(model, [pattern.replace("[X]", f.subject) for f in facts], candidates, self.batch_size)
        return _right(scores, facts, candidates)

    def _hits(self, model: LanguageModel, prompt: Tensor, of: _Divided) -> Floats:
        tokens = [tokens_of(model, candidate) for candidate in of.candidates]
        scores = typed_scores(model, prompt, [f.subject for f in of.test], tokens, self.batch_size)
        return _right(scores, of.test, of.candidates)

    def _rows(
        self,
        of: _Divided,
        found: Mapping[str, tuple[str, Floats]],
        blind: Mapping[str, Sequence[Mapping[str, tuple[str, Floats]]]],
    ) -> list[dict[str, Any]]:
        """One a search and test fact."""
        most = Counter(fact.object for fact in [*of.train, *of.dev]).most_common(1)[0][0]
        return [
            {
                "relation": of.relation,
                "search": search,
                "prompt": found[search][0],
                "fact": "\t".join(fact),
                "candidates": len(of.candidates),
                "hit": float(found[search][1][k]),
                **{arm: _blind(arm, search, [own[search][1][k] for own in of_arm]) for arm, of_arm in blind.items()},
                "majority": float(fact.object == most),
            }
            for search in found
            for k, fact in enumerate(of.test)
        ]

    def _table(self, rows: pd.DataFrame) -> pd.DataFrame:
        """One row a relation and search."""
        arms = ["hit", "random_weights", "shuffled_facts", "majority"]
        keys = ["relation", "search", "prompt", "candidates"]
        found = rows.groupby(keys, sort=False)[arms].mean().reset_index()
        facts = rows.groupby(keys, sort=False)["fact"].nunique().reset_index(drop=True)
        return found.rename(columns={"hit": "p_at_1"}).assign(facts=facts)

    def _means(self, rows: pd.DataFrame, arm: str) -> dict[str, float]:
        return {str(search): float(of.mean()) for search, of in rows.groupby("search", sort=False)[arm]}

    def _findings(self, rows: pd.DataFrame) -> list[str]:
        of = {str(search): own.set_index("fact") for search, own in rows.groupby("search", sort=False)}
        said = []
        names = {
            "random_weights": "the same search on random weights",
            "shuffled_facts": "the same search on shuffled facts",
            "majority": "the most frequent object",
        }
        for search in (s for s in (MINED, DISCRETE, CONTINUOUS) if s in of):
            for arm, name in names.items():
                said.append(self._said(f"the {search} search", name, of[search]["hit"] - of[search][arm]))
        for search in (s for s in SEARCHES[1:] if s in of):
            gap = of[search]["hit"] - of[FIRST]["hit"].reindex(of[search].index)
            said.append(self._said(f"the {search} search", "the first pattern", gap))
        without = rows[rows["prompt"] == NOTHING_MINED]["relation"].unique()
        if len(without):
            said.append(f"No text holds subject and object of a training fact of {', '.join(without)}, so that nothing "
                        "was mined there.")  # fmt: skip
        hard = _hard(rows)
        n = int(hard["fact"].nunique())
        shares = ", ".join(f"{search} {value:.3f}" for search, value in self._means(hard, "hit").items())
        said.append(
            f"{n} of {len(of[FIRST])} test facts are hard: neither random weights nor the most frequent object answer "
            "them." + (f" Of these: {shares}." if n else "")
        )
        return said

    def _said(self, what: str, control: str, gap: pd.Series[float]) -> str:
        low, high = mean_interval(gap.to_numpy(), seed=self.seed)
        return compared(what, control, float(gap.mean()), float(low), float(high))

    def _check(self) -> None:
        if not 0 < self.learning_rate < np.inf:
            raise ProbeError(f"learning_rate is {self.learning_rate}; it must be above 0, such as 0.01.")

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """One relation of twelve facts, and a tiny decoder."""
        subjects = ("my", "your", "this", "that", "he", "she", "it", "we", "they", "you", "people", "film")
        objects = ("good", "bad", "sad")
        facts = tuple(Fact("is", subject, objects[i % 3]) for i, subject in enumerate(subjects))
        patterns = {"is": ("[X] is very [Y].", "[X] was a [Y]")}
        return cls(steps=2, candidates=2, vector_steps=2), tiny("gpt2"), Facts(facts=facts, patterns=patterns)


def _between(pattern: str) -> str:
    """The words between subject and object, of a pattern that holds nothing else; else nothing."""
    if not pattern.startswith("[X]") or not ends_in_gap(pattern):
        return ""
    return pattern.removeprefix("[X]").rstrip(" .").removesuffix("[Y]").strip()


def _text(model: LanguageModel, tokens: Sequence[int]) -> str:
    return " ".join(str(model.tokenizer.decode(list(tokens))).split())


def _right(scores: Floats, facts: Sequence[Fact], candidates: Sequence[str]) -> Floats:
    """1 where the fact's object has the highest score, ties counting as right as in the cloze probe [n]."""
    own = np.array([row[candidates.index(fact.object)] for row, fact in zip(scores, facts, strict=True)])
    found: Floats = np.asarray((scores <= own[:, None]).all(axis=1), dtype=np.float64)
    return found


def _blind(arm: str, search: str, hits: Sequence[float]) -> float:
    """The mean of an arm; shuffled facts leave a given pattern as it is, which is no control then."""
    return float("nan") if arm == "shuffled_facts" and search in _GIVEN else float(np.mean(hits))


def _hard(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of facts that are answered neither by random weights nor by the most frequent object, by any search.

    A prompt from shuffled facts runs on the trained model: what it answers the model may know.
    """
    easy = rows[["random_weights", "majority"]].max(axis=1).groupby(rows["fact"]).max()
    return rows[rows["fact"].map(easy) == 0]
