"""Saliency by the gradient: what the three gradient methods share, and its length alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tracemend.saliency.inputs import Batch, Entry, OfVectors
from tracemend.saliency.method import Saliency, Weighed
from tracemend.tuning import TextClassifier


@dataclass(frozen=True, kw_only=True)
class ByGradient(Saliency):
    """Base of the methods that take gradients of the vectors of tokens.

    Attributes:
        entry: where the vectors enter the model: ``block`` (its first block, for architectures whose sites are known)
            or ``embedding``, see :class:`tracemend.saliency.inputs.OfVectors`.
    """

    entry: Entry = "block"

    def function(self, classifier: TextClassifier) -> OfVectors:
        """The output as a function of vectors."""
        return OfVectors(classifier, self.output, self.entry)

    def gradient(self, classifier: TextClassifier, batch: Batch) -> tuple[Tensor, Tensor]:
        """The vectors of the batch, and the output's gradient to each [batch, seq, D]."""
        function = self.function(classifier)
        vectors = function.vectors(batch.ids, batch.mask).requires_grad_()
        output = function(vectors, batch.ids, batch.mask, batch.targets)
        (gradient,) = torch.autograd.grad(output.sum(), vectors)
        return vectors.detach(), gradient


@dataclass(frozen=True, kw_only=True)
class Gradient(ByGradient):
    r"""How strongly the output answers to a small change of each word.

    .. math:: w_t = \left\| \partial f / \partial e_t \right\|_2

    for the vector :math:`e_t` of token t (Simonyan et al. 2014; Li et al. 2016). It has no sign: a word that speaks
    against the label weighs as much as one that speaks for it.

    Example:
        >>> Gradient().run(classifier, [("what an awful film", None)]).words(0)
    """

    name = "saliency.gradient"

    def tokens(self, classifier: TextClassifier, batch: Batch) -> Weighed:
        """The length of the gradient at each token [batch, seq]."""
        return self.gradient(classifier, batch)[1].norm(dim=-1), {}
