"""What the clean validation set says of training labels, in the kernel of the gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tracemend.data import Labelled
from tracemend.errors import TraceError
from tracemend.trace import TracIn, head_inputs, label_free, trusted_probabilities
from tracemend.tuning import TextClassifier

Make = Callable[..., TextClassifier]


def flipped(data: Labelled) -> Labelled:
    return data.relabelled({uid: data.labels[1 - y] for uid, y in zip(data.uid, data.y, strict=True)})


@pytest.mark.parametrize(("n", "width", "labels"), [(40, 5, 2), (25, 60, 2), (60, 8, 3)])
def test_the_kernel_fit_is_the_fit_on_features(n: int, width: int, labels: int) -> None:
    """The representer theorem: with fewer features than examples, and with more."""
    rng = np.random.default_rng(width)
    centres = rng.normal(size=(labels, width))
    y = np.arange(n) % labels
    trusted = centres[y] + rng.normal(size=(n, width))
    others = rng.normal(size=(30, width)) + centres[rng.integers(0, labels, 30)]
    found = trusted_probabilities(others @ trusted.T, trusted @ trusted.T, y, labels)
    exact: Any = LogisticRegression(C=10.0, max_iter=5000, tol=1e-8).fit(trusted, y)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-9)
    np.testing.assert_allclose(found, exact.predict_proba(others), atol=2e-2)  # the solver's own tolerance


def test_a_label_that_the_trusted_set_lacks_has_no_probability() -> None:
    features = np.random.default_rng(0).normal(size=(20, 4))
    found = trusted_probabilities(features @ features.T, features @ features.T, np.arange(20) % 2 * 2, 3)
    assert (found[:, 1] == 0).all() and np.allclose(found.sum(axis=1), 1)


def test_one_label_cannot_judge() -> None:
    with pytest.raises(TraceError, match="has one label only"):
        trusted_probabilities(np.ones((3, 2)), np.eye(2), np.zeros(2, dtype=np.int64), 2)


@pytest.mark.parametrize(
    ("architecture", "kind"), [("bert", "lora"), ("bert", "head"), ("gpt2", "prompt"), ("t5", "ia3")]
)
def test_the_label_is_taken_out_of_the_kernel(make: Make, data: Labelled, architecture: str, kind: str) -> None:
    classifier = make(architecture, kind)
    queries = data.take(range(4))

    def kernel(rows: Labelled, columns: Labelled) -> np.ndarray[Any, Any]:
        found = TracIn().influence(classifier, rows, columns).scores
        return np.asarray(label_free(found, rows.y, columns.y))

    given = kernel(data, queries)
    assert np.abs(given).max() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(kernel(flipped(data), queries), given, atol=1e-4)
    np.testing.assert_allclose(kernel(data, flipped(queries)), given, atol=1e-4)
    # Without taking it out, the flip turns the sign.
    plain, turned = (TracIn().influence(classifier, d, queries).scores for d in (data, flipped(data)))
    np.testing.assert_allclose(turned, -plain, atol=1e-4)
    among = kernel(queries, queries)
    np.testing.assert_allclose(np.diag(among), 1, atol=1e-4)
    assert np.linalg.eigvalsh(among.astype(float)).min() > -1e-4


@pytest.mark.parametrize("labels", [("safe", "unsafe"), ("safe", "unsafe", "odd")])
def test_head_inputs_are_what_the_head_reads(make: Make, data: Labelled, labels: tuple[str, ...]) -> None:
    classifier = make("bert", "prompt", labels)
    data = Labelled.make(data.frame["text"], data.frame["label"], replies=data.frame["reply"], label_names=labels)
    found = head_inputs(classifier, data, batch_size=3)
    read: list[torch.Tensor] = []
    hooks = [  # PEFT keeps the head it was given beside the one it trains; only one of them is called
        module.register_forward_pre_hook(lambda module, args: read.append(args[0].detach()))
        for module in classifier.network.modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == len(labels)
    ]
    for row in classifier.encode(data.pairs)[0]:
        classifier.logits(classifier.batch([row]))
    for hook in hooks:
        hook.remove()
    inputs = torch.cat([torch.cat(read), torch.ones(len(data), 1)], dim=1)  # the bias reads a one
    expected = torch.nn.functional.normalize(inputs).numpy()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)
    np.testing.assert_allclose(head_inputs(classifier, flipped(data)), found, atol=1e-4)


def test_a_model_that_classifies_by_words_has_no_head(make: Make, data: Labelled) -> None:
    with pytest.raises(TraceError, match="classifies by words and has no head; use embeddings"):
        head_inputs(make("gpt2", "lora"), data)
