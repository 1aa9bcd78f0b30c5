"""Detectors rank what they say they rank; the contract test covers the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trace.conftest import made, shaken
from tracemend.data import Labelled, Splits
from tracemend.errors import TraceError
from tracemend.methods import registry
from tracemend.models import tiny
from tracemend.progress import Progress
from tracemend.trace import DataInf, EkFac, TracIn, per_example_gradients, score
from tracemend.trace.detectors import (
    ConfidentLearning,
    DataInfInfluence,
    Detector,
    EkFacInfluence,
    Em,
    Gbair,
    Loss,
    MeanInfluence,
    OutlierGradients,
    OutOfFoldLoss,
    RandomOrder,
    SelfInfluence,
    SimiFeat,
    Similarity,
    Subject,
    Suspicion,
    TrustedModel,
)
from tracemend.trace.detectors.simifeat import local_posterior
from tracemend.trace.scoring import HeldQueries
from tracemend.trace.store import GradientStore
from tracemend.tuning import Checkpoint, TextClassifier, Tuned, Tuning, tune

ALL = [kind for kind in registry().values() if issubclass(kind, Detector)]


@pytest.fixture(scope="module")
def case() -> tuple[TextClassifier, Splits]:
    return made()


@pytest.fixture(scope="module")
def subject(case: tuple[TextClassifier, Splits]) -> Subject:
    return Subject(case[0], (), case[1])


def in_order(kind: Detector, subject: Subject, column: str = "score") -> np.ndarray:
    """A column of the table in the order of the data."""
    table = kind.run(subject, subject.splits).table()
    return table.set_index("uid").loc[subject.splits.train.uid, column].to_numpy()


@pytest.mark.parametrize("kind", ALL)
def test_the_table_has_every_example_once_the_most_suspicious_first(kind: type[Detector], subject: Subject) -> None:
    table = kind().run(subject, subject.splits).table()
    assert sorted(table["uid"]) == sorted(subject.splits.train.uid)
    assert table["score"].is_monotonic_decreasing
    assert table["probability"].between(0, 1).all()
    assert (table["suggested"] != table["label"]).all()
    assert table["evidence"].str.len().gt(0).all()


def test_the_loss_is_the_classifiers(case: tuple[TextClassifier, Splits]) -> None:
    classifier, splits = case
    table = Loss().run(classifier, splits).table().set_index("uid").loc[splits.train.uid]
    p = classifier.probabilities(splits.train.pairs)
    np.testing.assert_allclose(table["score"], -np.log(p[np.arange(len(p)), splits.train.y]), rtol=1e-4)


def test_without_truth_there_are_figures_all_the_same(case: tuple[TextClassifier, Splits]) -> None:
    classifier, splits = case
    train = splits.train
    blind = splits.with_train(type(train)(train.frame.assign(truth=None), train.labels, train.positive))
    found = Loss(share=0.2).run(classifier, blind)
    assert set(found.metrics) == set(found.controls) == {"denied"}
    assert found.metrics["denied"] > found.controls["denied"]  # what the model denies has the highest loss


def test_a_tuned_model_is_traced_over_its_checkpoints(case: tuple[TextClassifier, Splits]) -> None:
    _, splits = case
    tuning = Tuning(adapter="head", epochs=2, max_length=24, patience=0, precision="fp32")
    tuned = tune(tiny("bert"), splits.train, splits.validation, tuning)
    assert isinstance(tuned, Tuned)
    over_all = SelfInfluence().run(tuned, splits).table()
    last = SelfInfluence().run(tuned.classifier, splits).table()
    assert not np.allclose(over_all["score"], last["score"])


def test_out_of_fold_loss_finds_flips_that_the_text_gives_away(case: tuple[TextClassifier, Splits]) -> None:
    classifier, splits = case
    found = OutOfFoldLoss().run(classifier, splits)
    assert found.metrics["detection_ap"] > found.controls["detection_ap"]


@pytest.mark.parametrize("before", [MeanInfluence(project=2), MeanInfluence(), Gbair()], ids=repr)
def test_self_influence_does_not_depend_on_what_ran_before(subject: Subject, before: Detector) -> None:
    alone, after = (Subject(subject.classifier, (), subject.splits) for _ in range(2))
    before.run(after, after.splits)
    np.testing.assert_allclose(in_order(SelfInfluence(), after), in_order(SelfInfluence(), alone), rtol=1e-4)


def test_self_influence_takes_what_whole_gradients_found_on_the_way(subject: Subject) -> None:
    fresh = Subject(subject.classifier, (), subject.splits)
    found = fresh.influence(TracIn(normalise_train=False))
    assert fresh.own_influence() is found.self_influence


def test_gbair_needs_errors(case: tuple[TextClassifier, Splits]) -> None:
    classifier, splits = case
    right = classifier.predict(splits.validation.pairs).argmax(axis=1) == splits.validation.y
    easy = Splits(train=splits.train, validation=splits.validation.take(np.flatnonzero(right)), verdict=splits.verdict)
    with pytest.raises(TraceError, match="none is misclassified"):
        Gbair().run(classifier, easy)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_out_of_range_is_refused(case: tuple[TextClassifier, Splits], share: float) -> None:
    with pytest.raises(TraceError, match="share is"):
        RandomOrder(share=share).run(*case)


def test_an_untuned_model_is_refused(case: tuple[TextClassifier, Splits]) -> None:
    with pytest.raises(TraceError, match="tune one first"):
        RandomOrder().run(tiny("bert"), case[1])


@dataclass(frozen=True, kw_only=True)
class Given(Detector):
    """Scores that a test gives."""

    scores: tuple[float, ...] = ()
    wrong: tuple[float, ...] = ()

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        n = len(subject.splits.train)
        wrong = np.array(self.wrong) if self.wrong else None
        return Suspicion(np.array(self.scores or [0.0] * n), ["given"] * n, wrong=wrong)


def test_probabilities_are_monotone_in_the_score_and_ties_share_one(subject: Subject) -> None:
    table = Given(scores=tuple(i // 5 for i in range(24))).run(subject, subject.splits).table()
    assert table["probability"].is_monotonic_decreasing
    assert (table.groupby("score")["probability"].nunique() == 1).all()
    assert table["probability"].nunique() > 1


def test_scores_that_all_tie_keep_the_order_of_the_data_and_share_one_probability(subject: Subject) -> None:
    found = Given().run(subject, subject.splits)
    assert list(found.table()["uid"]) == subject.splits.train.uid
    assert found.table()["probability"].nunique() == 1
    assert found.metrics["detection_ap"] == pytest.approx(found.controls["detection_ap"])


def test_a_detectors_own_probability_stands(subject: Subject) -> None:
    own = tuple(np.linspace(0.1, 0.9, 24))
    found = Given(scores=tuple(range(24)), wrong=own).run(subject, subject.splits)
    assert list(found.table()["probability"]) == list(own[::-1])


def test_the_brier_score_is_that_of_the_probabilities(subject: Subject) -> None:
    truth = subject.splits.train.wrong
    perfect = Given(scores=tuple(truth.astype(float)), wrong=tuple(truth.astype(float))).run(subject, subject.splits)
    assert perfect.metrics["brier"] == 0
    assert perfect.controls["brier"] == pytest.approx(truth.mean() * (1 - truth.mean()))


def test_no_brier_score_of_probabilities_that_are_none(subject: Subject) -> None:
    told = subject.splits.validation
    one = replace(subject.splits, validation=told.take(np.flatnonzero(told.y == 0)))
    assert "brier" not in Loss().run(subject.classifier, one).metrics
    with pytest.raises(TraceError, match="there is none; give --valid"):
        Similarity().run(subject.classifier, replace(subject.splits, validation=told.take([])))


def test_outlier_norms_are_those_of_the_gradients(subject: Subject) -> None:
    whole = per_example_gradients(subject.classifier, subject.splits.train, parts=("head",)).grads.double()
    for rule, order in (("l1", 1), ("l2", 2)):
        found = OutlierGradients(rule=rule).suspicion(subject, Progress()).scores
        assert found == pytest.approx(torch.linalg.vector_norm(whole, order, dim=1).numpy())
    assert len(OutlierGradients(rule="l2", project=64).suspicion(subject, Progress()).scores) == len(whole)


@pytest.mark.parametrize("kind", [Loss, OutOfFoldLoss, TrustedModel, Em])
def test_validation_labels_that_are_not_trusted_give_no_probability(kind: type[Detector], subject: Subject) -> None:
    unchecked = Subject(subject.classifier, (), subject.splits, trusted=False)
    found, trusted = kind().run(unchecked, subject.splits), kind().run(subject, subject.splits)
    assert found.table()["probability"].isna().all() and list(found.table()) == list(trusted.table())
    assert list(found.table()["uid"]) == list(trusted.table()["uid"])
    assert "brier" in trusted.metrics and "brier" not in {*found.metrics, *found.controls}
    assert "--valid FILE" in found.findings[0] and not any("--valid" in said for said in trusted.findings)
    assert ("takes the validation labels to be right" in found.findings[0]) == ("validation" in kind.capabilities)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_refused_by_name(subject: Subject, bad: float) -> None:
    with pytest.raises(
        TraceError, match=f"gives {bad} for 1 of 24 scores .*{subject.splits.train.uid[3]}.*cannot be ranked"
    ):
        Given(scores=(0.0, 1.0, 2.0, bad, *[0.0] * 20)).run(subject, subject.splits)


def test_a_subject_of_other_splits_is_refused(subject: Subject) -> None:
    with pytest.raises(TraceError, match="other splits"):
        RandomOrder().run(subject, made()[1])


def relabelled(splits: Splits, labels: list[str], names: tuple[str, ...] | None = None) -> Splits:
    train = Labelled.make(splits.train.frame["text"], labels, label_names=names or splits.labels)
    clean = splits.validation
    if names:
        clean = Labelled.make(clean.frame["text"], clean.frame["label"], label_names=names)
    return Splits(train=train, validation=clean, verdict=clean)


def outcome(kind: type[Detector], classifier: TextClassifier, splits: Splits) -> str | None:
    """Run it; the message where it refuses."""
    try:
        table = kind().run(classifier, splits).table()
    except TraceError as error:
        return str(error)
    assert len(table) == len(splits.train) and np.isfinite(table["score"]).all()
    return None


@pytest.mark.parametrize("kind", ALL)
def test_one_label_only_is_ranked_or_refused_with_a_remedy(
    kind: type[Detector], case: tuple[TextClassifier, Splits]
) -> None:
    classifier, splits = case
    message = outcome(kind, classifier, relabelled(splits, ["safe"] * 24))
    refused = kind in (OutOfFoldLoss, ConfidentLearning)
    assert message is None or (refused and "two labels at least" in message)
    assert refused == (message is not None)


@pytest.mark.parametrize("kind", ALL)
def test_a_label_with_one_example_is_ranked_or_refused_with_a_remedy(
    kind: type[Detector], case: tuple[TextClassifier, Splits]
) -> None:
    classifier, splits = case
    message = outcome(kind, classifier, relabelled(splits, ["unsafe"] + ["safe"] * 23))
    refused = kind in (OutOfFoldLoss, ConfidentLearning)
    assert message is None or (refused and "at least two of each label" in message)
    assert refused == (message is not None)


def test_other_labels_than_the_models_and_too_few_are_refused(case: tuple[TextClassifier, Splits]) -> None:
    classifier, splits = case
    three = relabelled(splits, list(splits.train.frame["label"]), ("safe", "unsafe", "unsure"))
    with pytest.raises(TraceError, match=r"safe, unsafe, unsure.* must be the same"):
        RandomOrder().run(classifier, three)
    single = Labelled.make(["a", "b"], ["safe", "safe"], label_names=("safe",))
    lone = TextClassifier(tiny("bert"), ("safe",), kind="head", max_length=16)
    with pytest.raises(TraceError, match="1 labels; a label can be wrong only"):
        RandomOrder().run(lone, Splits(train=single, validation=single, verdict=single))
    with pytest.raises(TraceError, match="0 training examples"):
        RandomOrder().run(classifier, splits.with_train(splits.train.take([])))


def test_confident_learning_puts_the_pruned_first_and_finds_flips(subject: Subject) -> None:
    found = ConfidentLearning().run(subject, subject.splits)
    assert found.metrics["detection_ap"] > found.controls["detection_ap"]
    table = found.table()
    marked = table["evidence"].str.contains("confident joint")
    assert (marked == (table["score"] >= 1)).all() and marked.any()
    plain = ConfidentLearning(prune=False, quality="self-confidence").run(subject, subject.splits).table()
    loss = OutOfFoldLoss().run(subject, subject.splits).table()
    assert list(plain["uid"]) == list(loss["uid"])  # one less the probability ranks as minus its logarithm


def test_simifeat_finds_a_label_that_its_neighbours_deny() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(6)[rng.integers(0, 2, 60)]
    features = centres + 0.1 * rng.normal(size=(60, 6))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    y = centres[:, 1].astype(np.int64)
    y[:3] = 1 - y[:3]
    p, neighbours = local_posterior(features, y, 2, k=10)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert set(np.argsort(p[np.arange(60), y])[:3]) == {0, 1, 2}
    assert not (neighbours == np.arange(60)[:, None]).any()
    # By hand: the neighbours' similarities, and the nearest one's once more for the example itself.
    near = np.argsort(-(features @ features[5]), kind="stable")[1:11]
    weight = features[near] @ features[5]
    own = weight[y[near] == y[5]].sum() + weight[0]
    assert p[5, y[5]] == pytest.approx(own / (weight.sum() + weight[0]))


def test_simifeat_takes_any_number_of_neighbours_and_any_similarity() -> None:
    against = np.array([[1.0, 0.0], [-1.0, 0.0]])
    p, neighbours = local_posterior(against, np.array([0, 1]), 2, k=10)
    assert neighbours.shape == (2, 1) and p[[0, 1], [0, 1]].tolist() == [1.0, 1.0]
    with pytest.raises(TraceError, match="expected at least 1 and 2"):
        local_posterior(against, np.array([0, 1]), 2, k=0)
    with pytest.raises(TraceError, match="expected at least 1 and 2"):
        local_posterior(against[:1], np.array([0]), 2)


def test_votes_of_neighbours_are_the_lead_of_the_other_label(subject: Subject) -> None:
    rank, vote = in_order(SimiFeat(), subject), in_order(SimiFeat(rule="vote"), subject)
    np.testing.assert_allclose(vote, 1 - 2 * np.exp(-rank), atol=1e-12)  # two labels


@pytest.mark.parametrize(
    ("detector", "changes", "message"),
    [
        (SimiFeat, {"rule": "votes"}, "did you mean 'vote'"),
        (OutlierGradients, {"rule": "l3"}, "forest, l1, l2"),
        (OutlierGradients, {"trees": 0}, "at least 1"),
        (OutlierGradients, {"parts": ("heads",)}, "did you mean 'head'"),
        (MeanInfluence, {"kernel": "cosin"}, "did you mean 'cosine'"),
        (ConfidentLearning, {"quality": "margin"}, "self-confidence, normalised-margin"),
        (DataInfInfluence, {"damping": 0}, "must be positive"),
        (EkFacInfluence, {"damping": -1}, "must be positive"),
    ],
)
def test_a_wrong_choice_is_named_with_the_right_ones(
    subject: Subject, detector: type[Detector], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TraceError, match=message):
        detector(**changes).run(subject, subject.splits)


def test_kernels_divide_by_the_norms_of_the_sides_they_name(subject: Subject) -> None:
    g = per_example_gradients(subject.classifier, subject.splits.train).grads.double().numpy()
    q = per_example_gradients(subject.classifier, subject.splits.validation).grads.double().numpy()
    norm_g, norm_q = (np.linalg.norm(x, axis=1, keepdims=True) for x in (g, q))
    expected = {"dot": g @ q.T, "renormalised": (g / norm_g) @ q.T, "cosine": (g / norm_g) @ (q / norm_q).T}
    for kernel, products in expected.items():
        found = in_order(MeanInfluence(kernel=kernel), subject)
        np.testing.assert_allclose(found, -products.mean(axis=1), rtol=1e-3, atol=1e-5 * np.abs(products).max())


def test_norms_of_gradients_rank_as_computed_by_hand(subject: Subject) -> None:
    found = per_example_gradients(subject.classifier, subject.splits.train)
    head = found.only(("head",)).grads.abs().sum(dim=1).numpy()
    np.testing.assert_allclose(in_order(OutlierGradients(rule="l1"), subject), head, rtol=1e-4)
    prompt = found.only(("prompt",)).grads.norm(dim=1).numpy()
    np.testing.assert_allclose(in_order(OutlierGradients(rule="l2", parts=("prompt",)), subject), prompt, rtol=1e-4)


def test_the_forest_isolates_what_lies_far_out(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracemend.trace.detectors import outlier_gradients

    found = per_example_gradients(subject.classifier, subject.splits.train)
    found.grads[5] = 10 * found.grads.abs().max()
    monkeypatch.setattr(outlier_gradients, "per_example_gradients", lambda *_, **__: found)
    assert in_order(OutlierGradients(), subject).argmax() == 5


@pytest.mark.parametrize(("detector", "how"), [(DataInfInfluence(), DataInf()), (EkFacInfluence(), EkFac())])
@pytest.mark.parametrize(
    "adapter",
    ["lora", *(pytest.param(k, marks=pytest.mark.slow) for k in ("prompt", "head", "ia3", "prefix", "p-tuning"))],
)
def test_curvature_scores_are_those_of_the_store(
    detector: Detector, how: DataInf | EkFac, adapter: str, case: tuple[TextClassifier, Splits], tmp_path: Path
) -> None:
    splits = case[1]
    classifier = shaken(
        TextClassifier(tiny("bert"), splits.labels, kind=adapter, virtual_tokens=2, rank=2, max_length=16)
    )
    before = classifier.state()
    found = in_order(detector, Subject(classifier, (), splits))
    assert all((before[name] == v).all() for name, v in classifier.state().items())
    state = Checkpoint(step=1, lr_sum=1.0, state=before, moments={})
    store = GradientStore.build(tmp_path / "store", classifier, splits.train, [state], dtype="float32")
    queries = per_example_gradients(classifier, splits.validation, method=store.manifest["way"], compact=True)
    expected = -score(store, HeldQueries([queries]), how).mean
    assert expected.std() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_curvature_needs_a_validation_set(case: tuple[TextClassifier, Splits]) -> None:
    classifier, splits = case
    none = Splits(train=splits.train, validation=splits.validation.take([]), verdict=splits.verdict)
    with pytest.raises(TraceError, match="validation set is empty"):
        DataInfInfluence().run(classifier, none)
