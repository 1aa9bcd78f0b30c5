"""Saliency by attention: the last layer's, traced back through all layers, or rolled out."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from tracemend.errors import TraceError
from tracemend.models.attention import Attention, back_trace, down_decoder, read_attention, rollout
from tracemend.saliency.inputs import Batch
from tracemend.saliency.method import Saliency, Weighed
from tracemend.tuning import TextClassifier


@dataclass(frozen=True, kw_only=True)
class _OfAttention(Saliency):
    """What these have in common: patterns of one forward pass, traced from where the classifier reads its answer.

    A pooled encoder reads the mean over all its positions, a decoder its last token, an encoder-decoder the first
    position of its decoder. Weight that ends on virtual tokens is nobody's: it is left out, and the weights of a text's
    tokens do not add up to 1. The weights are the same for every label.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder"})

    def tokens(self, classifier: TextClassifier, batch: Batch) -> Weighed:
        """The share of the answer's attention at each token [batch, seq]."""
        with torch.no_grad():
            inputs = {"input_ids": batch.ids, "attention_mask": batch.mask}
            found = read_attention(classifier.network, lambda: classifier.logits(inputs))
        return self.of_patterns(classifier, batch.mask, found), {}

    def of_patterns(self, classifier: TextClassifier, mask: Tensor, attention: Attention) -> Tensor:
        """The share of the answer's attention at each token [batch, seq], from the patterns of a pass with this mask.

        What the patterns depend on, it depends on too, where they are in a graph.
        """
        found = replace(attention, layers=[_of_sequence(pattern) for pattern in attention.layers])
        traced = self.traced(found, self._start(classifier, mask, found))
        return traced[:, -mask.shape[1] :] * mask

    @abstractmethod
    def traced(self, attention: Attention, start: Tensor) -> Tensor:
        """From the positions of the top layer [batch, pos] to those of the input [batch, pos]."""

    @property
    def passing(self) -> float:
        """The share of what a layer holds that does not come by its attention."""
        return 0.0

    def _start(self, classifier: TextClassifier, mask: Tensor, attention: Attention) -> Tensor:
        """How much of the answer each position of the top layer holds [batch, pos]."""
        if attention.cross:
            seq = attention.layers[0].shape[-1]
            cross = replace(attention, cross=[pattern[..., -seq:] for pattern in attention.cross])
            return down_decoder(cross, residual=self.passing)
        virtual = attention.layers[0].shape[-1] - mask.shape[1]
        held = torch.nn.functional.pad(mask, (virtual, 0), value=1).to(attention.layers[0].dtype)
        if classifier.language_model.family == "encoder":
            return held / held.sum(1, keepdim=True)
        last = held.sum(1).long() - 1
        return torch.nn.functional.one_hot(last, held.shape[1]).to(held.dtype)


@dataclass(frozen=True, kw_only=True)
class AttentionWeights(_OfAttention):
    r"""What the classifier's answer attends to in the last layer, or traced back through all layers.

    .. math:: w = \tfrac{1}{H} \sum_h s A_{Lh}

    for the start s (see :func:`tracemend.models.attention.rollout`). With ``back`` each head's attention is traced on
    to the input, :func:`tracemend.models.attention.back_trace` (Wu, Nguyen & Ong 2020). Whether attention explains is
    in dispute (Jain & Wallace 2019): read its faithfulness before its words.

    Attributes:
        back: trace through all layers in place of the last alone.

    Example:
        >>> AttentionWeights(back=True).run(classifier, [("what an awful film", None)]).words(0)
    """

    name = "saliency.attention"

    back: bool = False

    def traced(self, attention: Attention, start: Tensor) -> Tensor:
        """Through the last layer, or through all."""
        return back_trace(attention.layers if self.back else attention.layers[-1:], start)


@dataclass(frozen=True, kw_only=True)
class Rollout(_OfAttention):
    """The answer's attention rolled out through all layers and their residual streams.

    The formula is that of :func:`tracemend.models.attention.rollout` (Abnar & Zuidema 2020).

    Attributes:
        residual: share of a position that its residual stream brings.

    Example:
        >>> Rollout().run(classifier, [("what an awful film", None)]).words(0)
    """

    name = "saliency.rollout"

    residual: float = 0.5

    @property
    def passing(self) -> float:
        """The residual stream's share."""
        return self.residual

    def traced(self, attention: Attention, start: Tensor) -> Tensor:
        """Through all layers."""
        return rollout(attention.layers, start, residual=self.residual)

    def _check(self, classifier: TextClassifier) -> None:
        super()._check(classifier)
        if not 0 <= self.residual < 1:
            raise TraceError(f"residual is {self.residual}; expected a number from 0 to below 1.")


def _of_sequence(pattern: Tensor) -> Tensor:
    """Without the keys of a tuned prefix, which come first: what goes to them leaves the sequence."""
    return pattern[..., -pattern.shape[-2] :]
