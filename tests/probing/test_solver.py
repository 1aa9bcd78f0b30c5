"""The solver against scikit-learn, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tracemend.errors import ProbeError
from tracemend.probing.codelength import online_codelength
from tracemend.probing.solver import Solver


def blobs(n=600, d=10, classes=3, layers=2, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    centres = rng.normal(size=(layers, classes, d))
    x = centres[:, y] + spread * rng.normal(size=(layers, n, d))
    return torch.from_numpy(x.astype(np.float32)), y


def test_it_reaches_scikit_learns_optimum():
    # With noise all through, the optimum is inside and both must find the same one.
    x, y = blobs(spread=2.0)
    x = x * torch.tensor([1.0, 100.0])[:, None, None] + 3.0
    found = Solver(c=0.05, epochs=1500, batch_size=600).fit(x[:, :400], y[None, :400], 3)
    said = found.log_probabilities(x[:, 400:])[:, 0].exp().numpy()
    for layer in range(2):
        scaler = StandardScaler().fit(x[layer, :400])
        peer = LogisticRegression(C=0.05, max_iter=1000, tol=1e-8).fit(scaler.transform(x[layer, :400]), y[:400])
        np.testing.assert_allclose(said[layer], peer.predict_proba(scaler.transform(x[layer, 400:])), atol=5e-3)


@pytest.mark.parametrize("n", [256, 257, 264, 300])
def test_no_example_weighs_more_where_the_batches_do_not_come_out_even(n):
    x, y = blobs(n=n, d=64, layers=1, spread=6.0)
    scaled = StandardScaler().fit_transform(x[0])
    peer = LogisticRegression(C=0.1, max_iter=1000, tol=1e-8).fit(scaled, y)
    probes = Solver().fit(x, y[None], 3)

    def objective(said, weight):
        return -said[np.arange(n), y].mean() + np.square(weight).sum() / (2 * 0.1 * n)

    found = objective(probes.log_probabilities(x)[0, 0].numpy(), probes.network.weight[0].numpy())
    least = objective(peer.predict_log_proba(scaled), peer.coef_)
    assert least - 1e-5 < found < least + 0.002


def test_problems_do_not_touch_one_another():
    x, y = blobs()
    other = np.random.default_rng(5).permutation(y)
    both = Solver().fit(x, np.stack([y, other]), 3).log_probabilities(x)
    alone = Solver().fit(x[1:], y[None], 3).log_probabilities(x[1:])
    torch.testing.assert_close(both[1:, :1], alone, atol=1e-4, rtol=1e-3)


def test_a_hidden_layer_learns_what_a_linear_probe_cannot():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(1, 800, 2)).astype(np.float32)
    y = (plane[0, :, 0] * plane[0, :, 1] > 0).astype(np.int64)
    x = torch.from_numpy(plane)
    accuracy = {h: float((Solver(hidden=h, c=10).fit(x, y[None], 2).predict(x)[0, 0] == y).mean()) for h in (0, 32)}
    assert accuracy[0] < 0.65 and accuracy[32] > 0.93


def test_a_direction_in_which_nothing_varies_says_nothing():
    x, y = blobs()
    x[:, :, 0] = 5.0
    assert Solver().fit(x, y[None], 3).log_probabilities(x).isfinite().all()


@pytest.mark.parametrize(
    ("x", "y", "classes", "word"),
    [
        (torch.zeros(2, 3, 4), np.zeros((1, 5), int), 2, "shape"),
        (torch.zeros(2, 0, 4), np.zeros((1, 0), int), 2, "shape"),
        (torch.zeros(2, 3, 4), np.array([[0, 1, 2]]), 2, "needs two"),
        (torch.zeros(2, 3, 4), np.zeros((1, 3), int), 1, "needs two"),
        (torch.full((2, 3, 4), torch.nan), np.array([[0, 1, 0]]), 2, "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(x, y, classes, word):
    with pytest.raises(ProbeError, match=word):
        Solver().fit(x, y, classes)


@pytest.mark.slow
def test_codelength_tells_labels_from_noise():
    x, y = blobs(n=1000, classes=4, layers=1, spread=0.5)
    noise = np.random.default_rng(3).permutation(y)
    bits = online_codelength(x, np.stack([y, noise]), 4, solver=Solver(c=0.01))[0]
    uniform = 1000 * 2
    assert uniform / bits[0] > 2
    assert 0.8 < uniform / bits[1] < 1.05
    again = online_codelength(x, np.stack([y, noise]), 4, solver=Solver(c=0.01))[0]
    np.testing.assert_array_equal(bits, again)
    with pytest.raises(ProbeError, match="at least 200"):
        online_codelength(x[:, :150], y[None, :150], 4, solver=Solver())
