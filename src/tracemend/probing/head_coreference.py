"""Attention heads as resolvers of pronouns: does one head look from a pronoun to whom it stands for?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from tracemend.arrays import Floats
from tracemend.data import Pronoun, Pronouns
from tracemend.errors import ProbeError
from tracemend.evaluate import mean_interval
from tracemend.methods import Method
from tracemend.models import LanguageModel
from tracemend.probing.by_group import documents
from tracemend.probing.coreference import CoreferenceProbe, by_first_mention, by_recency, usable
from tracemend.probing.head_maps import head_name, word_attention
from tracemend.probing.mention_places import by_place
from tracemend.probing.result import ProbeResult, compared
from tracemend.probing.untrained import untrained
from tracemend.progress import Progress

# Longer texts cost the square of their length.
_LONGEST = 120
_WAYS = ("pronoun to name", "name to pronoun")
# Texts whose maps are in memory at once.
_CHUNK = 32


@dataclass(frozen=True, kw_only=True)
class HeadCoreference(Method[ProbeResult]):
    """How well single attention heads tell whom a pronoun stands for (after Clark et al. 2019, arXiv 1906.04341).

    A head's guess is the candidate to whose words the pronoun's words attend most in the mean, or which attends most to
    the pronoun; both ways are tried for every head. The head and its way are chosen on train (on dev too where
    train has fewer than ``choosing_examples``), and judged on test, since the best of some hundred guesses is good by
    luck. Examples with exactly one right candidate count.

    Metrics, shares of pronouns: ``best_head``, the chosen one; ``median_head``, what half of all heads and ways reach.
    Controls in the same units: ``random_weights``, the same network untrained, with its own best head, the mean over
    ``random_models`` of them; ``recency``, the candidate nearest to the pronoun; ``first_mention``, the earliest one;
    ``places``, a regression on where the candidates stand, learnt from the examples that the head is chosen on.

    Attributes:
        choosing_examples: at most, whole documents at random.
        test_examples: at most, whole documents at random.
        random_models: how many untrained networks.

    Raises:
        ProbeError: other data, or a part without usable examples of up to 120 words.
        ModelError: the model was loaded without attention patterns.

    Example:
        >>> found = HeadCoreference().run(load("minilm"), read_gap("gap"))
        >>> found.table()  # each head beside the same head of an untrained network
    """

    name = "probing.head-coreference"
    inputs: ClassVar[str] = "Pronouns"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder"})
    at_least: ClassVar = {"choosing_examples": 1, "test_examples": 1, "random_models": 1}

    choosing_examples: int = 400
    test_examples: int = 400
    random_models: int = 2

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> ProbeResult:
        """Probe.

        Args:
            model: a :class:`LanguageModel`; its weights are not touched.
            data: :class:`Pronouns` with parts train and test; without any part they are made.
        """
        began = time.perf_counter()
        if not isinstance(model, LanguageModel):
            raise ProbeError(f"{self.name} takes a LanguageModel, not {type(model).__name__}; load one first.")
        if not isinstance(data, Pronouns):
            raise ProbeError(f"{self.name} takes Pronouns, not {type(data).__name__}; read them with read_pronouns.")
        short = [e for e in data.examples if len(e.words) <= _LONGEST]
        if not short:
            raise ProbeError(f"{data.name} has no text of up to {_LONGEST} words; give shorter ones.")
        parts, left_out = usable(
            Pronouns(examples=tuple(short), name=data.name),
            train=self.choosing_examples, test=self.test_examples, seed=self.seed,
        )  # fmt: skip
        choosing, test = [*parts["train"], *parts["dev"]][: self.choosing_examples], parts["test"]
        own = [self._hits(model, of, progress) for of in (choosing, test)]
        fresh = [
            [self._hits(one, of, progress) for of in (choosing, test)]
            for one in untrained(model, self.random_models, seed=self.seed)
        ]
        best = int(own[0].mean(1).argmax())
        hits = own[1][best]
        its = np.mean([of_test[chosen.mean(1).argmax()] for chosen, of_test in fresh], axis=0)
        arms = {"random_weights": its, "recency": by_recency(test), "first_mention": by_first_mention(test),
                "places": by_place(choosing, test)}  # fmt: skip
        heads, number = int(model.config.num_attention_heads), len(own[1]) // 2
        table = pd.DataFrame(
            {"head": [head_name(k % number, heads) for k in range(2 * number)],
             "way": [_WAYS[k // number] for k in range(2 * number)],
             "choosing_accuracy": own[0].mean(1), "accuracy": own[1].mean(1),
             "random_weights": np.mean([of_test.mean(1) for _, of_test in fresh], axis=0)}
        )  # fmt: skip
        groups = documents(test)
        low, high = mean_interval(hits, groups, seed=self.seed)
        name = f"head {head_name(best % number, heads)} ({_WAYS[best // number]})"
        said = [
            f"{name}, chosen on {len(choosing)} other pronouns, picks the right name for {hits.mean():.3f} of "
            f"{len(test)} ({low:.3f} to {high:.3f})."
        ]
        for arm, values in arms.items():
            gap = hits - values
            ends = mean_interval(gap, groups, seed=self.seed)
            said.append(compared(name, arm.replace("_", " "), float(gap.mean()), float(ends[0]), float(ends[1])))
        medians = {"best_head": float(hits.mean()), "median_head": float(np.median(own[1].mean(1)))}
        controls = {arm: {"best_head": float(values.mean())} for arm, values in arms.items()}
        controls["random_weights"]["median_head"] = float(np.mean([np.median(of_test.mean(1)) for _, of_test in fresh]))
        return ProbeResult(
            metrics=medians,
            controls=controls,
            config=self.config,
            rows=table.iloc[np.argsort(-table["choosing_accuracy"].to_numpy(), kind="stable")].reset_index(drop=True),
            findings=said,
            facts={"heads": number, "n_choosing": len(choosing), "n_test": len(test),
                   "left_out": left_out + len(data) - len(short), "model": model.name,
                   "model_fingerprint": model.fingerprint, "seconds": round(time.perf_counter() - began, 1)},
        )  # fmt: skip

    def _hits(self, model: LanguageModel, examples: Sequence[Pronoun], progress: Progress) -> Floats:
        """1 where a head's guess is right [2 heads, n]: pronoun to name, then name to pronoun."""
        found = []
        for begin in range(0, len(examples), _CHUNK):
            part = examples[begin : begin + _CHUNK]
            maps = word_attention(model, [e.words for e in part], progress=progress)
            found += [guessed(seen, example) for seen, example in zip(maps, part, strict=True)]
        together: Floats = np.stack(found, axis=1).astype(np.float64)
        return together

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """The made-up sentences of :class:`CoreferenceProbe`, and a tiny encoder."""
        _, model, data = CoreferenceProbe.tiny()
        return cls(), model, data


def guessed(attention: Tensor, example: Pronoun) -> npt.NDArray[np.bool_]:
    """Whether each head's guess is right [2 heads], from attention between words [heads, t, t].

    A head that gives all candidates nothing, as a decoder's to a name behind the pronoun, has no guess.
    """
    begin, end = example.pronoun
    right = example.right[0]
    found = []
    for way in (attention, attention.transpose(1, 2)):
        given = np.stack([way[:, begin:end, a:b].mean((1, 2)).numpy() for a, b in example.candidates], axis=1)
        found.append((given.argmax(axis=1) == right) & (given.max(axis=1) > 0))
    return np.concatenate(found)
