"""Saliency by input times gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tracemend.saliency.inputs import Absent, Batch, baseline, score
from tracemend.saliency.method import Saliency, Weighed
from tracemend.tuning import TextClassifier


@dataclass(frozen=True, kw_only=True)
class InputXGradient(Saliency):
    r"""What each word adds to the output, were it linear in the embeddings.

    .. math:: w_t = \sum_d e_{td} \, \partial f / \partial e_{td}

    for the embedding :math:`e_t` of token t (Shrikumar et al. 2017), with its sign.

    Example:
        >>> InputXGradient().run(classifier, [("what an awful film", None)]).words(0)
    """

    name = "saliency.input-x-gradient"

    absent: Absent = "zero"

    def tokens(self, classifier: TextClassifier, batch: Batch) -> Weighed:
        """The inner product of embedding and gradient at each token [batch, seq]."""
        embedded = batch.embedded.clone().requires_grad_()
        output = score(classifier, embedded, batch.mask, batch.targets, self.output)
        (gradient,) = torch.autograd.grad(output.sum(), embedded)
        return ((batch.embedded - baseline(classifier, batch, self.absent)) * gradient).sum(-1), {}
