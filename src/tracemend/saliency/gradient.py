"""Saliency by the gradient's length."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tracemend.saliency.inputs import Batch, score
from tracemend.saliency.method import Saliency, Weighed
from tracemend.tuning import TextClassifier


@dataclass(frozen=True, kw_only=True)
class Gradient(Saliency):
    r"""How strongly the output answers to a small change of each word.

    .. math:: w_t = \left\| \partial f / \partial e_t \right\|_2

    for the embedding :math:`e_t` of token t (Simonyan et al. 2014; Li et al. 2016). It has no sign: a word that
    speaks against the label weighs as much as one that speaks for it.

    Example:
        >>> Gradient().run(classifier, [("what an awful film", None)]).words(0)
    """

    name = "saliency.gradient"

    def tokens(self, classifier: TextClassifier, batch: Batch) -> Weighed:
        """The length of the gradient at each token [batch, seq]."""
        embedded = batch.embedded.clone().requires_grad_()
        output = score(classifier, embedded, batch.mask, batch.targets, self.output)
        (gradient,) = torch.autograd.grad(output.sum(), embedded)
        return gradient.norm(dim=-1), {}
