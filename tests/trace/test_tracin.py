"""TracIn is what its formula says, its sign is what its definition says, and it leaves the classifier alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tracemend.data import Labelled
from tracemend.errors import TraceError
from tracemend.models import tiny
from tracemend.trace import TracIn, flipped_factor, per_example_gradients, relabel_gain, self_influence
from tracemend.trace.gradients.layout import Block
from tracemend.trace.scores import aggregate
from tracemend.tuning import TextClassifier, Tuned, Tuning, tune

Make = Callable[..., TextClassifier]


@pytest.fixture
def tuned(data: Labelled) -> Tuned:
    tuning = Tuning(adapter="lora", epochs=3, batch_size=3, rank=2, max_length=32, patience=0, precision="fp32")
    return tune(tiny("bert"), data, data, tuning)


def explicit(tuned: Tuned, data: Labelled, queries: Labelled, adam: bool = False, cosine: bool = False) -> np.ndarray:
    """The formula, written out over the batch-1 reference."""
    total = np.zeros((len(data), len(queries)))
    for checkpoint in tuned.checkpoints:
        tuned.classifier.restore(checkpoint.load_state())
        g = per_example_gradients(tuned.classifier, data, method="loop")
        q = per_example_gradients(tuned.classifier, queries, method="loop")
        d = np.ones(g.grads.shape[1])
        if adam:
            moments = checkpoint.second_moments()
            v = np.concatenate([moments[b.name].numpy().ravel() for b in g.layout]) / (1 - 0.999**checkpoint.step)
            d = 1 / (np.sqrt(v) + 1e-8)
        for i, a in enumerate(g.grads.double().numpy()):
            for j, b in enumerate(q.grads.double().numpy()):
                scale = np.sqrt((a * d * a).sum() * (b * d * b).sum()) if cosine else 1.0
                total[i, j] += checkpoint.lr_sum * (a * d * b).sum() / scale
    return total


@pytest.mark.parametrize("adam", [False, True])
@pytest.mark.parametrize("cosine", [False, True])
def test_scores_are_the_formula(tuned: Tuned, data: Labelled, adam: bool, cosine: bool) -> None:
    queries = data.take([1, 2, 4])
    config = TracIn(normalise_train=cosine, normalise_query=cosine, optimizer="adam" if adam else "sgd", batch_size=3)
    found = config.influence(tuned.classifier, data, queries, checkpoints=tuned.checkpoints)
    expected = explicit(tuned, data, queries, adam=adam, cosine=cosine)
    np.testing.assert_allclose(found.scores, expected, rtol=2e-3, atol=1e-4 * np.abs(expected).max())
    assert len(tuned.checkpoints) == 3


def test_projected_gradients_give_the_scores_on_average_and_need_no_room_for_the_whole(
    make: Make, data: Labelled
) -> None:
    classifier = make("bert", "full")
    whole = TracIn(normalise_train=False).influence(classifier, data, data.take([1, 2, 4]))
    close, far = (
        TracIn(normalise_train=False, project=width).influence(classifier, data, data.take([1, 2, 4]))
        for width in (16, 1)
    )
    assert np.corrcoef(whole.scores.ravel(), close.scores.ravel())[0, 1] > 0.95
    assert np.abs(close.scores - whole.scores).mean() < np.abs(far.scores - whole.scores).mean()
    assert per_example_gradients(classifier, data, project=4).grads.shape[1] < whole_width(classifier, data) / 2
    with pytest.raises(TraceError, match="projected gradients have none"):
        TracIn(project=4, optimizer="adam").influence(classifier, data, data)


def whole_width(classifier: TextClassifier, data: Labelled) -> int:
    return int(per_example_gradients(classifier, data).grads.shape[1])


def test_each_side_is_normalised_on_its_own(make: Make, data: Labelled) -> None:
    classifier = make("bert", "lora")
    norms = per_example_gradients(classifier, data).norms

    def scores(train: bool, query: bool) -> np.ndarray:
        return TracIn(normalise_train=train, normalise_query=query).influence(classifier, data, data).scores

    plain = scores(False, False)
    np.testing.assert_allclose(scores(True, False), plain / norms[:, None], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scores(False, True), plain / norms[None, :], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.diag(scores(True, True)), 1.0, atol=1e-5)


def test_self_influence_is_the_diagonal_of_plain_products(tuned: Tuned, data: Labelled) -> None:
    config = TracIn(normalise_train=False, normalise_query=False)
    found = config.influence(tuned.classifier, data, data, checkpoints=tuned.checkpoints)
    np.testing.assert_allclose(np.diag(found.scores), found.self_influence, rtol=1e-3)
    alone = self_influence(tuned.classifier, data, checkpoints=tuned.checkpoints)
    np.testing.assert_allclose(alone, found.self_influence, rtol=1e-3)


def test_a_step_on_an_opponent_raises_the_loss_of_the_query_and_one_away_from_it_lowers_it(
    make: Make, data: Labelled
) -> None:
    classifier = make("llama", "prompt")
    config = TracIn(normalise_train=False, normalise_query=False)
    found = config.influence(classifier, data, data)
    query = 1
    opponent = int(found.scores[:, query].argmin())
    assert found.scores[opponent, query] < 0
    gradient = per_example_gradients(classifier, data.take([opponent]))
    rate = 1e-2 / float(gradient.norms[0])
    before = classifier.state()

    def loss_after(step: float) -> float:
        classifier.restore(before)
        with torch.no_grad():
            for block in gradient.layout:
                parameter = classifier.trainable()[block.name]
                parameter.sub_(step * gradient.grads[0, block.columns].reshape(block.shape))
        return float(per_example_gradients(classifier, data.take([query])).losses[0])

    start = float(found.query_losses[query])
    assert loss_after(rate) > start > loss_after(-rate)
    change = (loss_after(rate) - loss_after(-rate)) / 2
    assert change == pytest.approx(-rate * found.scores[opponent, query], rel=0.05)


def test_the_classifier_is_the_same_afterwards(tuned: Tuned, data: Labelled) -> None:
    before = tuned.classifier.state()
    TracIn().influence(tuned.classifier, data, data, checkpoints=tuned.checkpoints)
    assert all(torch.equal(before[name], p) for name, p in tuned.classifier.state().items())


def test_products_are_of_views_and_not_of_copies() -> None:
    """An index of all columns would copy every gradient, beyond the memory that was found to be there."""
    blocks = [Block("b", (3,), 0, "one"), Block("a", (2,), 3, "one"), Block("c", (1,), 5, "two")]
    apart = [*blocks, Block("d", (2,), 6, "one")]
    assert TracIn()._columns(blocks) == [slice(None)]
    assert TracIn(aggregate="mean")._columns(blocks) == [slice(0, 5), slice(5, 6)]
    one, two = TracIn(aggregate="mean")._columns(apart)
    assert isinstance(one, torch.Tensor) and one.tolist() == [0, 1, 2, 3, 4, 6, 7]
    assert two == slice(5, 6)


@pytest.mark.parametrize("how", ["mean", "rank", "vote"])
def test_groups_join_to_bounded_scores_that_agree_with_the_whole(make: Make, data: Labelled, how: str) -> None:
    classifier = make("bert", "lora")
    whole = TracIn().influence(classifier, data, data).scores
    found = TracIn(aggregate=how, top=2).influence(classifier, data, data).scores
    assert found.shape == whole.shape
    assert np.abs(found).max() <= 1 + 1e-5
    assert np.corrcoef(found.ravel(), whole.ravel())[0, 1] > 0.5


def test_examples_that_do_nothing_have_no_vote() -> None:
    none = np.zeros((3, 6))
    assert not aggregate(none, "vote", top=2).any()
    assert aggregate(np.array([[3.0, 0, 0, 0, 0, -2]]), "vote", top=2).tolist() == [1, 0, 0, 0, 0, -1]


def test_parts_restrict_the_parameters(make: Make, data: Labelled) -> None:
    classifier = make("bert", "prompt")
    gradients = per_example_gradients(classifier, data).only(["prompt"]).grads
    unit = gradients / gradients.norm(dim=1, keepdim=True)
    found = TracIn(parts=("prompt",)).influence(classifier, data, data)
    np.testing.assert_allclose(found.scores, (unit @ unit.T).numpy(), atol=1e-5)


def test_adam_needs_checkpoints_with_moments_of_the_rows(make: Make, data: Labelled) -> None:
    with pytest.raises(TraceError, match="give checkpoints"):
        TracIn(optimizer="adam").influence(make("bert", "lora"), data, data)
    tuning = Tuning(adapter="p-tuning", epochs=1, virtual_tokens=2, max_length=32, precision="fp32")
    tuned = tune(tiny("bert"), data, data, tuning)
    with pytest.raises(TraceError, match="need optimizer='sgd'"):
        TracIn(optimizer="adam").influence(tuned.classifier, data, data, checkpoints=tuned.checkpoints)


def test_the_gradient_under_the_other_label_is_a_multiple(make: Make, data: Labelled) -> None:
    classifier = make("bert", "lora")
    gradients = per_example_gradients(classifier, data)
    flip = {"safe": "unsafe", "unsafe": "safe"}
    other = data.relabelled({u: flip[label] for u, label in zip(data.uid, data.frame["label"], strict=True)})
    expected = per_example_gradients(classifier, other).grads
    found = gradients.grads * torch.as_tensor(flipped_factor(gradients))[:, None].float()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_relabelling_gains_the_removal_and_the_other_label(make: Make, data: Labelled) -> None:
    classifier = make("bert", "lora")
    plain = TracIn(normalise_train=False, normalise_query=False)
    given = plain.influence(classifier, data, data)
    flip = {"safe": "unsafe", "unsafe": "safe"}
    other = data.relabelled({u: flip[label] for u, label in zip(data.uid, data.frame["label"], strict=True)})
    flipped = plain.influence(classifier, other, data)
    np.testing.assert_allclose(
        relabel_gain(given.scores, given.losses), flipped.scores - given.scores, rtol=1e-2, atol=1e-4
    )


def test_more_labels_have_no_flipped_gradient(make: Make) -> None:
    labels = ("a", "b", "c")
    data = Labelled.make(["good", "bad", "sad film"], labels, label_names=labels)
    with pytest.raises(TraceError, match="2 labels only, here are 3"):
        flipped_factor(per_example_gradients(make("bert", "head", labels), data))


def test_tables_name_proponents_and_opponents(make: Make, data: Labelled) -> None:
    found = TracIn().influence(make("bert", "lora"), data, data.take([1]))
    best = found.proponents(0, top=3)
    assert list(best.columns) == ["rank", "uid", "text", "reply", "label", "score"]
    assert best["uid"][0] == data.uid[1]  # the query is in the training set: its own strongest proponent
    assert best["score"].is_monotonic_decreasing
    worst = found.opponents(data.uid[1], top=3)
    assert worst["score"][0] == found.scores.min()
    with pytest.raises(TraceError, match="no query has the uid"):
        found.opponents("nobody")
    with pytest.raises(TraceError, match="counted from 0"):
        found.proponents(1)
