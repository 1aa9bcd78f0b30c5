"""Many linear classifiers at once: as near to the least objective whatever the number of examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tracemend.neurons.classifier import fit


@pytest.mark.parametrize("n", [512, 513, 528])
def test_no_example_weighs_more_where_the_batches_do_not_come_out_even(n):
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=n)
    x = (rng.normal(size=(3, 64))[y] + 6 * rng.normal(size=(n, 64))).astype(np.float32)
    x = (x - x.mean(0)) / x.std(0)
    peer = LogisticRegression(C=1 / (2 * 0.01 * n), max_iter=1000, tol=1e-8).fit(x, y)
    weight, bias = fit(torch.from_numpy(x)[None], y[None], 3, l1=0.0, l2=0.01)

    def objective(w, b):
        said = torch.from_numpy(x @ w + b).log_softmax(-1).numpy()
        return -said[np.arange(n), y].mean() + 0.01 * np.square(w).sum()

    found, least = objective(weight[0, 0].numpy(), bias[0, 0].numpy()), objective(peer.coef_.T, peer.intercept_)
    assert least - 1e-5 < found < least + 0.002
