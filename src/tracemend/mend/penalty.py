"""Penalties on what a classifier decides by, with a gradient that reaches every trainable parameter.

Attributions are taken at the stream that enters the first block (in BERT-like encoders, behind the layer norm of the
embeddings: before it, scaling an embedding changes nothing, so that a product of embedding and gradient nearly vanishes
whatever the model does).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from tracemend.errors import ModelError, TuningError, did_you_mean
from tracemend.fields import check_fields
from tracemend.mend.extractor import (
    LEARNED,
    LearnedExtractor,
    comprehensiveness_loss,
    first_tokens,
    logits_of_part,
    plausibility_loss,
    share_of_step,
    sufficiency_loss,
)
from tracemend.models import capture
from tracemend.models.attention import read_attention
from tracemend.models.sites import trunk
from tracemend.saliency import AttentionWeights
from tracemend.saliency.inputs import output_of
from tracemend.tuning import TextClassifier

Criterion = Literal["norm", "mse", "mae", "huber", "bce", "kl", "order"]
Extractor = Literal["gradient", "attention", "shared", "separate"]

_ENTRY = "blocks.0.hook_resid_pre"
_TINY = 1e-6


def by_gradient(classifier: TextClassifier, batch: Mapping[str, Tensor], y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [batch, C]; the stream x that enters the first block; the gradient g of y's log-odds to it.

    x and g are [batch, seq, D], of the tokens of the texts, and both have a graph to the trainable parameters: the
    second derivative is what a penalty on attributions needs, and what attribution libraries do not keep.

    Raises:
        ModelError: the model's attention has no second derivative (``sdpa``), or no sites are known for it.
    """
    check_differentiable(classifier.network)
    with capture(classifier.network, [_ENTRY], grad=True) as seen:
        logits = classifier.logits(batch)
    (gradient,) = torch.autograd.grad(output_of(logits, y, "log-odds").sum(), seen[_ENTRY], create_graph=True)
    length = batch["attention_mask"].shape[1]
    # Virtual tokens come first.
    return logits, seen[_ENTRY][:, -length:], gradient[:, -length:]


def check_differentiable(network: Any) -> None:
    """Refuse a model whose attributions have no gradient.

    Raises:
        ModelError: its attention has no second derivative (``sdpa``), or no sites are known for it.
    """
    kind = trunk(network).config._attn_implementation
    if kind != "eager":
        raise ModelError(
            f"the model's attention is {kind!r}, whose backward pass has no derivative of its own; load it with "
            'tracemend.models.load(name, attention="eager").'
        )


def by_attention(classifier: TextClassifier, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits [batch, C], and what of the answer's attention in the last layer is at each token [batch, seq].

    The weights are those of :class:`tracemend.saliency.AttentionWeights`, in the graph of the same pass.

    Raises:
        ModelError: the model's attention keeps no patterns (``sdpa``), or no sites are known for it.
        TuningError: the weights depend on nothing that is tuned.
    """
    found: list[Tensor] = []
    patterns = read_attention(classifier.network, lambda: found.append(classifier.logits(batch)), grad=True)
    phi = AttentionWeights().of_patterns(classifier, batch["attention_mask"], patterns)
    if not phi.requires_grad:
        raise TuningError(
            f"with the adapter {classifier.kind} the attention depends on nothing that is tuned, so that marks cannot "
            "change it; choose the adapter lora or full, or the extractor gradient."
        )
    return found[0], phi


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """What is added to the loss of a batch whose texts carry marks.

    Attributes:
        criterion: ``norm`` of the gradient (:func:`norm_penalty`), or a published one (:func:`share_penalty`).
        extractor: what the published criteria compare with the marks: input x ``gradient``, ``attention``, or the
            scores of a head that is learned, on hidden states ``shared`` with the classifier or on ``separate`` ones,
            see :mod:`tracemend.mend.extractor`.
        strength: the factor lambda.
        comprehensiveness: of a learned extractor, the factor of what the label loses without its first tokens.
        sufficiency: likewise, of what it loses with them alone.
    """

    criterion: Criterion = "norm"
    extractor: Extractor = "gradient"
    strength: float = 10.0
    comprehensiveness: float = 0.0
    sufficiency: float = 0.0

    def check(self, *, remove: bool, add: bool) -> None:
        """Refuse what can have no effect on marks of these kinds.

        Raises:
            TuningError: the criterion does not fit the marks or the extractor, or a value is not one of those there
                are.
        """
        check_fields(self, TuningError, at_least={})
        if not 0 < self.strength < math.inf:
            raise TuningError(f"strength is {self.strength}; it must be above 0, such as 10.")
        if self.criterion == "norm" and self.extractor != "gradient":
            raise TuningError(
                f"the criterion norm is of gradients; with the extractor {self.extractor} choose bce, mse or another."
            )
        faithful = (self.comprehensiveness, self.sufficiency)
        if not all(0 <= factor < math.inf for factor in faithful):
            raise TuningError(
                f"comprehensiveness is {faithful[0]} and sufficiency {faithful[1]}; both are factors, 0 or above."
            )
        if any(faithful) and self.extractor not in LEARNED:
            raise TuningError(
                "comprehensiveness and sufficiency are losses of a learned extractor; choose shared or separate."
            )
        if self.extractor == "separate" and not any(faithful):
            raise TuningError(
                "a separate extractor shares nothing with the classifier, which marks then cannot change; give "
                "comprehensiveness or sufficiency a factor, such as 0.5."
            )
        if self.criterion == "kl" and not add:
            raise TuningError("the criterion kl needs words that should matter; name words to add, or choose norm.")
        if self.criterion == "order" and not (add and remove):
            raise TuningError("the criterion order needs words to remove and words to add; name both, or choose norm.")

    def check_classifier(self, classifier: TextClassifier) -> None:
        """Refuse a classifier that the penalty cannot change.

        Raises:
            TuningError: its attention depends on nothing that is tuned.
        """
        if self.extractor == "attention" and classifier.kind == "head":
            raise TuningError(
                "with the adapter head nothing below the head is tuned, so that marks cannot change the attention; "
                "choose the adapter lora, prompt or full, or the extractor gradient."
            )

    def __call__(
        self,
        classifier: TextClassifier,
        batch: Mapping[str, Tensor],
        y: Tensor,
        targets: Tensor,
        of_text: Tensor,
        *,
        learned: LearnedExtractor | None = None,
        step: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Logits [batch, C] and the penalty times the strength, of the same pass; see :func:`norm_penalty`.

        Args:
            classifier: that is tuned.
            batch: its inputs.
            y: classes [batch].
            targets: 0, 1, or NaN where a token has no mark [batch, seq].
            of_text: which tokens are of the user's text [batch, seq].
            learned: the extractor, where it is a learned one.
            step: of the tuning, of which the share of tokens depends that a learned extractor takes for the reason.

        Raises:
            TuningError: the extractor is a learned one, and was not given.
        """
        if self.extractor in LEARNED:
            if learned is None:
                raise TuningError(f"the extractor {self.extractor} is learned; give it, as LearnedExtractor.of does.")
            return self._learned(learned, classifier, batch, y, targets, of_text, step)
        if self.extractor == "attention":
            logits, phi = by_attention(classifier, batch)
            return logits, self.strength * share_penalty(self.criterion, phi, targets, of_text)
        logits, x, g = by_gradient(classifier, batch, y)
        if self.criterion == "norm":
            return logits, self.strength * norm_penalty(g, targets, of_text)
        return logits, self.strength * share_penalty(self.criterion, (x * g).sum(-1), targets, of_text)

    def _learned(
        self,
        learned: LearnedExtractor,
        classifier: TextClassifier,
        batch: Mapping[str, Tensor],
        y: Tensor,
        targets: Tensor,
        of_text: Tensor,
        step: int,
    ) -> tuple[Tensor, Tensor]:
        logits, scores = learned(classifier, batch)
        if self.criterion in ("kl", "order"):
            found = self.strength * share_penalty(self.criterion, scores, targets, of_text)
        else:
            found = self.strength * plausibility_loss(self.criterion, scores, targets)
        if self.comprehensiveness or self.sufficiency:
            first = first_tokens(scores, of_text, share_of_step(step))
            if self.comprehensiveness:
                without = logits_of_part(classifier, batch, 1 - first, of_text)
                found = found + self.comprehensiveness * comprehensiveness_loss(logits, without, y)
            if self.sufficiency:
                alone = logits_of_part(classifier, batch, first, of_text)
                found = found + self.sufficiency * sufficiency_loss(logits, alone, y)
        return logits, found


def norm_penalty(g: Tensor, targets: Tensor, of_text: Tensor) -> Tensor:
    r"""How strongly the output responds to tokens that should not matter, and too little to those that should.

    .. math:: \tfrac{1}{|R|} \sum_{t \in R} \|g_t\|^2 + \tfrac{1}{B} \sum_b
        \left(1 - \max_{t \in A_b} \|g_t\| / \max_{u \in T_b} \|g_u\|\right)^2

    over the tokens R of the batch that should not matter (Ross et al. 2017), and over its B texts with tokens
    :math:`A_b` that should matter among all their tokens :math:`T_b`: this part is 0 once one of them is the first.

    Args:
        g: gradients at the tokens [batch, seq, D].
        targets: 0, 1, or NaN where a token has no mark [batch, seq].
        of_text: which tokens are of the user's text [batch, seq].
    """
    away, wanted = targets == 0, targets == 1
    found = g.square().sum(-1)[away].sum() / away.sum().clamp(min=1)
    rows = wanted.any(-1)
    if not bool(rows.any()):
        return found
    # The root of zero has no slope.
    norms = g[rows].square().sum(-1).clamp(min=_TINY**2).sqrt()
    first = norms.masked_fill(~wanted[rows], 0.0).amax(-1) / norms.masked_fill(~of_text[rows], 0.0).amax(-1)
    return found + (1 - first).square().mean()


def share_penalty(criterion: Criterion, phi: Tensor, targets: Tensor, of_text: Tensor) -> Tensor:
    r"""How far attributions are from the marks, by the published criteria: a mean over the marked tokens.

    They compare the share :math:`s_t = \phi_t / \sum_u |\phi_u|` of a token's attribution with its target r:
    ``mse``, ``mae``, ``huber`` of s - r; ``bce`` of \|s\| as the probability of r; ``kl`` of the targets, as a
    distribution, from softmax over :math:`\phi`; ``order``: of tokens that should matter,
    :math:`\min(0, s_t - \max_{u: r = 0} s_u)^2` (after Joshi et al. 2022, who divide by that maximum, whatever its
    sign). A signed sum can be driven to 0 while the model goes on using the word: this is why none is the default.

    Args:
        criterion: any but ``norm``.
        phi: attributions [batch, seq].
        targets: 0, 1, or NaN where a token has no mark [batch, seq].
        of_text: which tokens are of the user's text [batch, seq].

    Raises:
        TuningError: no such criterion.
    """
    known = [name for name in get_args(Criterion) if name != "norm"]
    if criterion not in known:
        raise TuningError(f"criterion {criterion!r} is {did_you_mean(criterion, known)}")
    marked, wanted = ~targets.isnan(), targets.nan_to_num()
    if criterion == "kl":
        return _kl(phi, wanted, of_text)
    whole = (phi.abs() * of_text).sum(-1, keepdim=True).clamp(min=_TINY)
    if criterion == "order":
        return _order(phi, marked, wanted, whole)
    found, r = (phi / whole)[marked], wanted[marked]
    if criterion == "bce":
        return functional.binary_cross_entropy(found.abs().clamp(_TINY, 1 - _TINY), r)
    if criterion == "mse":
        return functional.mse_loss(found, r)
    return functional.l1_loss(found, r) if criterion == "mae" else functional.huber_loss(found, r)


def _kl(phi: Tensor, wanted: Tensor, of_text: Tensor) -> Tensor:
    """Of the rows that have a token that should matter: the others give no distribution."""
    rows = wanted.sum(-1) > 0
    if not bool(rows.any()):
        return phi.sum() * 0.0
    found = phi.masked_fill(~of_text, -torch.inf)[rows].log_softmax(-1)
    aim = wanted[rows] / wanted[rows].sum(-1, keepdim=True)
    return (torch.xlogy(aim, aim) - aim * found.masked_fill(aim == 0, 0.0)).sum(-1).mean()


def _order(phi: Tensor, marked: Tensor, wanted: Tensor, whole: Tensor) -> Tensor:
    """Of the rows that have tokens of both kinds."""
    good, bad = marked & (wanted == 1), marked & (wanted == 0)
    rows = good.any(-1) & bad.any(-1)
    if not bool(rows.any()):
        return phi.sum() * 0.0
    share = (phi / whole)[rows]
    highest = share.masked_fill(~bad[rows], -torch.inf).amax(-1, keepdim=True)
    return (share - highest).clamp(max=0).square()[good[rows]].mean()
