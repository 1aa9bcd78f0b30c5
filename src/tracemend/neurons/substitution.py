"""What a network makes of simulated activations in place of a unit's own: ablation scoring of explanations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tracemend.arrays import Floats
from tracemend.errors import NeuronError
from tracemend.models import LanguageModel, align, edit
from tracemend.models.representations import padded
from tracemend.models.sites import site
from tracemend.neurons.units import reading

# Excerpts of a pass: of a decoder every token has a probability for every word of its vocabulary.
_BATCH = 8
# Activations that vary less are rounding.
_STILL = 1e-12


def calibrated(simulated: Floats, known: Floats, true: Floats) -> Floats:
    """Simulated activations in the unit's own scale: the line that fits best on other text (Bills et al. 2023).

    Args:
        simulated: what is to be put on the scale [n].
        known: the same simulation on text whose activations are known [m].
        true: these activations [m]; where the simulation does not vary, their mean is all that is said.

    Example:
        >>> calibrated(np.array([3.0]), np.array([0.0, 1.0]), np.array([1.0, 3.0]))
        array([7.])
    """
    spread = float(known.var())
    slope = 0.0 if spread < _STILL else float(((known - known.mean()) * (true - true.mean())).mean()) / spread
    found: Floats = true.mean() + slope * (simulated - known.mean())
    return found


class Substitution:
    """How far a network's output moves when a unit's activations on words are replaced.

    Of a decoder the output is the probabilities of the next token, and the distance Jensen-Shannon divergence in bits;
    of other networks, which have no head here, it is the last layer's state, and the distance its squared length.

    Args:
        model: it is left as it was.
        name: the site of the units.

    Raises:
        NeuronError: a site that can be read only.
    """

    def __init__(self, model: LanguageModel, name: str) -> None:
        if not site(model, name).editable:
            raise NeuronError(
                f"{name} can be read but not written, so that no activation can be put there; set ablated to 0, or "
                "take another site, such as blocks.1.mlp.hook_post."
            )
        self.model, self.name = model, name

    @torch.no_grad()
    def distances(self, excerpts: Sequence[Sequence[str]], unit: int, values: Mapping[str, Floats]) -> dict[str, float]:
        """Mean distance over tokens between what the network gives as it is and with other activations.

        Args:
            excerpts: words of each.
            unit: whose activations are replaced; all tokens of a word get the word's value.
            values: by name, an activation for every word of the excerpts, one excerpt after another.
        """
        aligned = align(self.model, excerpts)
        starts = np.cumsum([0, *(len(words) for words in excerpts)])
        total, tokens = dict.fromkeys(values, 0.0), 0
        for begin in range(0, len(excerpts), _BATCH):
            batch = list(range(begin, min(begin + _BATCH, len(excerpts))))
            ids, mask = padded(self.model, [aligned.ids[i] for i in batch])
            before = self._output(ids, mask)
            # The word of each token, counted over all excerpts; -1 where it is in none.
            word = torch.full(ids.shape, -1)
            for at, i in enumerate(batch):
                own = torch.from_numpy(aligned.unit[i])
                word[at, : len(own)] = torch.where(own >= 0, own + int(starts[i]), own)
            for name, of in values.items():
                table = torch.from_numpy(np.ascontiguousarray(of, dtype=np.float32))
                with edit(self.model, {self.name: partial(_put, unit=unit, table=table, word=word)}):
                    after = self._output(ids, mask)
                total[name] += float((self._distance(before, after) * mask).sum())
            tokens += int(mask.sum())
        return {name: found / max(tokens, 1) for name, found in total.items()}

    def score(
        self, excerpts: Sequence[Sequence[str]], unit: int, values: Mapping[str, Floats], mean: float
    ) -> dict[str, float]:
        """Ablation scores: 1 where the output is as it was, 0 where it is no nearer than with the unit's mean.

            score = 1 - mean distance with these activations / mean distance with the unit at its mean

        Args:
            excerpts: words of each, which the explanation was not made from.
            unit: which.
            values: as :meth:`distances` takes them.
            mean: of the unit on other text.

        Returns:
            By name; NaN where the mean in place of the unit changes nothing that could be measured.
        """
        words = sum(len(words) for words in excerpts)
        found = self.distances(excerpts, unit, {**values, "": np.full(words, mean)})
        worst = found.pop("")
        return {name: 1 - of / worst if worst > _STILL else float("nan") for name, of in found.items()}

    def _output(self, ids: Tensor, mask: Tensor) -> Tensor:
        if self.model.family == "decoder":
            found: Tensor = self.model.network(input_ids=ids, attention_mask=mask).logits.float().log_softmax(-1)
        else:
            found = reading(self.model)(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return found

    def _distance(self, one: Tensor, other: Tensor) -> Tensor:
        if self.model.family != "decoder":
            return (one - other).square().sum(-1)
        middle = torch.logaddexp(one, other) - np.log(2)
        apart = (one.exp() * (one - middle) + other.exp() * (other - middle)).sum(-1)
        bits: Tensor = apart.clamp_min(0) / (2 * np.log(2))
        return bits


def _put(old: Tensor, unit: int, table: Tensor, word: Tensor) -> Tensor:
    """The unit at the values of its tokens' words; where a token is in no word it stays."""
    flat = old.flatten(2)
    inside = (word >= 0).to(flat.device)
    put = table.to(flat)[word.clamp_min(0).to(flat.device)]
    flat[..., unit] = torch.where(inside, put, flat[..., unit])
    return flat.reshape(old.shape)
