"""The probability of one's own label, by which losses rank, is cleanlab's self-confidence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.oracles.conftest import assert_close
from tracemend.data import Labelled
from tracemend.trace import out_of_fold_probabilities, per_example_gradients
from tracemend.tuning import Tuned

rank = pytest.importorskip("cleanlab.rank", reason="cleanlab is the oracle here")


@pytest.mark.slow
def test_losses_of_the_gradient_pass_rank_as_cleanlab_does(tuned: Callable[[str], Tuned], data: Labelled) -> None:
    classifier = tuned("lora").classifier
    found = per_example_gradients(classifier, data)
    theirs = rank.get_label_quality_scores(data.y, classifier.probabilities(data.pairs), method="self_confidence")
    assert_close(torch.as_tensor(found.probability), torch.as_tensor(theirs))


def test_out_of_fold_losses_rank_as_cleanlab_does() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 4, generator=generator).numpy()
    y = (features[:, 0] + 0.5 * features[:, 1] > 0).astype(int)
    y[:6] = 1 - y[:6]
    p = out_of_fold_probabilities(features, y, 2, folds=5, seed=0)
    own = p[range(60), y]
    assert_close(torch.as_tensor(own), torch.as_tensor(rank.get_label_quality_scores(y, p, method="self_confidence")))
    # Six labels are wrong: both say so of most of them.
    worst = rank.order_label_issues(torch.ones(60, dtype=torch.bool).numpy(), y, p, rank_by="self_confidence")[:6]
    assert list(own.argsort(kind="stable")[:6]) == list(worst)
    assert len(set(worst) & set(range(6))) >= 3
