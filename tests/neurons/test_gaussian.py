"""Greedy Gaussian probing: the same choices as the loop, faster, and what it says of nothing."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from tracemend.data import Sentence, Treebank
from tracemend.errors import NeuronError
from tracemend.models import tiny
from tracemend.neurons import GaussianRanking
from tracemend.neurons.gaussian import Gaussians, greedy
from tracemend.neurons.words import tiny_treebank


def planted(n=500, d=40, classes=3, seed=0):
    """Correlated units; unit 7 tells all classes apart, 3 and 11 a little, the others nothing."""
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    x = rng.normal(size=(n, d)) @ (np.eye(d) + 0.1 * rng.normal(size=(d, d)))
    x[:, 7] += 4.0 * y
    x[:, 3] += 1.0 * (y == 1)
    x[:, 11] += 0.8 * (y == 2)
    x = (x - x.mean(0)) / x.std(0)
    return torch.from_numpy(x).float(), y


def by_loop(gaussians, x, y, dims):
    """Candidate by candidate: each time the density of the whole subset anew."""
    chosen: list[int] = []
    scores: list[float] = []
    for _ in range(dims):
        best, at = -np.inf, -1
        for j in range(x.shape[1]):
            if j in chosen:
                continue
            subset = [*chosen, j]
            log = torch.stack(
                [
                    torch.distributions.MultivariateNormal(mean[subset], covariance[subset][:, subset]).log_prob(
                        x[:, subset].double()
                    )
                    for mean, covariance in zip(gaussians.mean, gaussians.covariance, strict=True)
                ],
                dim=-1,
            )
            score = float((log + gaussians.log_prior).log_softmax(-1)[range(len(y)), y].mean())
            if score > best:
                best, at = score, j
        chosen.append(at)
        scores.append(float(best))
    return chosen, np.array(scores)


def test_it_chooses_what_the_loop_chooses_and_is_ten_times_as_fast():
    x, y = planted()
    fitted = Gaussians.fit(x, y, 3)
    began = time.process_time()
    slow, scores = by_loop(fitted, x, y, 20)
    middle = time.process_time()
    fast = greedy(fitted, x, y, 20, alive=np.arange(40))
    end = time.process_time()
    assert fast.order[:20].tolist() == slow
    assert fast.order[0] == 7
    first = float(fitted.log_prior[y].mean())
    np.testing.assert_allclose(first + np.cumsum(fast.gains) * np.log(2), scores, atol=1e-9)
    assert sorted(fast.order.tolist()) == list(range(40))
    assert middle - began > 10 * (end - middle)


def test_nested_probabilities_are_those_of_each_subset():
    x, y = planted(n=200, d=12)
    fitted = Gaussians.fit(x, y, 3)
    order = np.array([7, 3, 0])
    found = fitted.nested(x[:5], order)
    for k in (1, 2, 3):
        subset = order[:k].tolist()
        log = torch.stack(
            [
                torch.distributions.MultivariateNormal(m[subset], s[subset][:, subset]).log_prob(x[:5, subset].double())
                for m, s in zip(fitted.mean, fitted.covariance, strict=True)
            ],
            dim=-1,
        )
        torch.testing.assert_close(found[k - 1], (log + fitted.log_prior).log_softmax(-1))


def test_the_published_covariance_fails_where_a_class_is_small_and_the_mean_does_not():
    rng = np.random.default_rng(1)
    d, y = 400, np.repeat([0, 1], 60)
    x = rng.normal(size=(240, d))
    x[:, 5] += 3.5 * np.tile(y, 2)
    train, test = torch.from_numpy(x[:120]).float(), torch.from_numpy(x[120:]).float()
    bits = {}
    for covariance in ("mean", "map"):
        log = Gaussians.fit(train, y, 2, covariance=covariance).nested(test, np.array([5, *range(20, 24)]))
        bits[covariance] = 1 + float(log[-1][range(120), y].mean()) / np.log(2)
    assert bits["mean"] > 0.3 > 0 > bits["map"]


def test_dead_units_are_named_and_never_chosen():
    model = tiny("bert")
    with torch.no_grad():
        model.network.encoder.layer[1].output.LayerNorm.weight[3] = 0.0
    found = replace(GaussianRanking.tiny()[0], dims=20).run(model, tiny_treebank())
    assert found.facts["dead"] == [3]
    assert 3 not in set(found.table()["unit"])
    assert any("never vary" in said for said in found.findings)


@pytest.mark.parametrize(
    "options", [{"dims": 500}, {"at": 9, "dims": 3}, {"task": "Nummer"}, {"covariance": "full"}, {"fewest": 10_000},
                {"site": "blocks.1.attn.hook_pattern"}, {"train_items": 0}],
    ids=str,
)  # fmt: skip
def test_bad_settings_are_refused(options):
    method, model, data = GaussianRanking.tiny()
    with pytest.raises(NeuronError) as caught:
        replace(method, **options).run(model, data)
    assert len(str(caught.value)) > 30


def test_one_label_is_refused():
    words = ("the", "a", "my")
    bank = Treebank(
        sentences=tuple(
            Sentence(words=words, tags={"upos": ("DET",) * 3}, id=str(i), document=str(i)) for i in range(20)
        )
    )
    with pytest.raises(NeuronError, match="two or more"):
        GaussianRanking(fewest=2).run(tiny("bert"), bank)


@pytest.mark.parametrize("site", ["blocks.0.mlp.hook_post", "blocks.1.attn.hook_z"])
def test_any_site_of_any_family(site):
    found = replace(GaussianRanking.tiny()[0], site=site).run(tiny("t5"), tiny_treebank())
    assert found.facts["units"] == (64 if "mlp" in site else 32)
