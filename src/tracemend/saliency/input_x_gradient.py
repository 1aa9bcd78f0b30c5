"""Saliency by input times gradient."""

from __future__ import annotations

from dataclasses import dataclass

from tracemend.saliency.gradient import ByGradient
from tracemend.saliency.inputs import Batch
from tracemend.saliency.method import Weighed
from tracemend.tuning import TextClassifier


@dataclass(frozen=True, kw_only=True)
class InputXGradient(ByGradient):
    r"""What each word adds to the output, were it linear in the vectors of its tokens.

    .. math:: w_t = \sum_d e_{td} \, \partial f / \partial e_{td}

    for the vector :math:`e_t` of token t (Shrikumar et al. 2017), with its sign.

    Example:
        >>> InputXGradient().run(classifier, [("what an awful film", None)]).words(0)
    """

    name = "saliency.input-x-gradient"

    def tokens(self, classifier: TextClassifier, batch: Batch) -> Weighed:
        """The inner product of vector and gradient at each token [batch, seq]."""
        vectors, gradient = self.gradient(classifier, batch)
        return (vectors * gradient).sum(-1), {}
