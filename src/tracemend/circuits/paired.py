"""Two runs of one decoder that differ in a word or two: what patching starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tracemend.arrays import Floats
from tracemend.circuits.circuit import layers_of
from tracemend.circuits.tokens import ids_of, token_of
from tracemend.errors import CircuitError
from tracemend.evaluate.resampling import few, jackknife
from tracemend.models import LanguageModel, Replay, capture

# What a block writes: site below ``blocks.{i}.`` by the name that tables use.
WRITES = {"attention": "hook_attn_out", "mlp": "hook_mlp_out", "heads": "attn.hook_z"}


@dataclass(frozen=True, eq=False)
class PairedRuns:
    """Clean and corrupted run of one pair of prompts.

    Attributes:
        clean: the run on the clean prompt.
        corrupted: the run on the corrupted one.
        kept: activations of the clean run by site, ``blocks.{i}.hook_attn_out`` and the like, [1, pos, ...].
        lost: those of the corrupted run.
        answer: the token that should follow.
        foil: the token that follows the corrupted prompt.
        places: positions by class: ``changed`` (the tokens differ), ``between``, ``last``. Tokens before the first
            difference are the same in both runs, in every layer, and in no class.
    """

    clean: Replay
    corrupted: Replay
    kept: Mapping[str, Tensor]
    lost: Mapping[str, Tensor]
    answer: int
    foil: int
    places: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, model: LanguageModel, row: Mapping[str, str], at: object) -> PairedRuns:
        """Run both prompts of a row of :class:`tracemend.data.prompts.PromptPairs`.

        Raises:
            CircuitError: prompts of different length or the same prompt twice; an answer of several tokens.
        """
        ids = [ids_of(model, row[side]) for side in ("clean", "corrupted")]
        if ids[0].shape != ids[1].shape:
            raise CircuitError(
                f"row {at}: the clean prompt has {ids[0].shape[1]} tokens and the corrupted one {ids[1].shape[1]} for "
                f"{model.name}; they must have as many. Replace words by others of as many tokens."
            )
        changed = (ids[0][0] != ids[1][0]).nonzero().flatten().tolist()
        if not changed:
            raise CircuitError(f"row {at}: clean and corrupted prompt are the same; there is nothing to patch.")
        tokens = [token_of(model, row["clean"], row[word]) for word in ("answer", "foil")]
        if tokens[0] == tokens[1]:
            raise CircuitError(f"row {at}: answer and foil are the same token.")
        names = [f"blocks.{i}.{name}" for i in range(layers_of(model)) for name in WRITES.values()]
        with capture(model, names) as kept:
            clean = Replay(model, ids[0])
        with capture(model, names) as lost:
            corrupted = Replay(model, ids[1])
        last = ids[0].shape[1] - 1
        between = [i for i in range(changed[0], last) if i not in changed]
        places = {"changed": [i for i in changed if i != last], "between": between, "last": [last]}
        answer, foil = tokens
        return cls(clean, corrupted, dict(kept), dict(lost), answer, foil, places)

    def difference(self, logits: Tensor) -> Tensor:
        """Logit of the answer less that of the foil, over the last dimension."""
        return logits[..., self.answer] - logits[..., self.foil]

    @property
    def ends(self) -> tuple[float, float]:
        """The difference at the end of the clean and of the corrupted prompt."""
        return (
            float(self.difference(self.clean.logits[0, -1])),
            float(self.difference(self.corrupted.logits[0, -1])),
        )


def check_gap(clean: Floats, corrupted: Floats, floor: float, name: str) -> None:
    """Refuse pairs between which the model makes no difference.

    Raises:
        CircuitError: the mean difference between the two runs is below ``floor``; the message gives it.
    """
    gap = float(np.mean(clean - corrupted))
    if not gap >= floor:
        raise CircuitError(
            f"{name} does not do this task: the answer leads the foil by {np.mean(clean):.2f} logits after the clean "
            f"prompts and by {np.mean(corrupted):.2f} after the corrupted ones, a gap of {gap:.2f} where at least "
            f"{floor:g} is expected. What is not done has no circuit; give another task or model."
        )


def ratio_intervals(changes: Floats, gaps: Floats, *, draws: int, seed: int, level: float = 0.95) -> Floats:
    """Effects and their intervals over pairs: Σ change / Σ gap, [3, sites]: effect, low, high.

    Percentiles of pairs drawn anew; of few pairs Student's by the jackknife (:mod:`tracemend.evaluate.resampling`), NaN
    where an effect hangs on one pair.

    Args:
        changes: [pairs, sites]; NaN where a pair has no such site.
        gaps: clean less corrupted, [pairs].
        draws: resamples of the pairs.
        seed: of the resampling.
        level: of the intervals.
    """
    there = np.isfinite(changes)
    filled, weights = np.where(there, changes, 0.0), np.where(there, gaps[:, None], 0.0)

    def effects(counts: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = (counts @ filled) / (counts @ weights)
        return found

    effect, pairs = effects(np.ones((1, len(gaps))))[0], np.arange(len(gaps))
    if few(pairs):
        low, high = jackknife(effects, pairs, level=level, bounds=(-np.inf, np.inf))
        return np.stack([effect, *(np.where(np.isfinite(end), end, np.nan) for end in (low, high))])
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(gaps), np.full(len(gaps), 1 / len(gaps)), size=draws).astype(float)
    return np.stack([effect, *np.nanquantile(effects(counts), [(1 - level) / 2, (1 + level) / 2], axis=0)])


def sign_flip_p(changes: Floats, *, draws: int, seed: int) -> Floats:
    """Permutation p of every site against no effect, corrected for having looked at all of them, [sites].

    The signs of the pairs' changes are flipped at random; p is how often the largest of all sites is then as large as
    this one (Westfall and Young 1993). It cannot fall below 2 / 2^pairs.

    Args:
        changes: [pairs, sites]; NaN counts as 0.
        draws: flips.
        seed: of the flips.
    """
    filled = np.nan_to_num(changes)
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], size=(draws, len(filled)))
    largest = np.abs(signs @ filled).max(axis=1)
    # Rounding must not tell a flip of all signs from none.
    own = np.abs(filled.sum(0)) * (1 - 1e-9)
    return np.asarray((1 + (largest[:, None] >= own).sum(0)) / (1 + draws))
