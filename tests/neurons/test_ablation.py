"""Units taken away: the right ones cost, the model stays as it was, and bad input is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.neurons.planted import SITE, UNIT, planted_unit
from tracemend.data import Labelled, Splits
from tracemend.errors import DataError, ModelError, NeuronError, TracemendError
from tracemend.models import tiny
from tracemend.models.language_model import fingerprint_of
from tracemend.neurons import Ablation, ClassifierAblation
from tracemend.neurons.ablate import word_subject
from tracemend.neurons.ablate_classifier import TextSubject
from tracemend.neurons.dose import Measured, dose_response, given_first
from tracemend.neurons.interventions import Intervention, Moved, Places
from tracemend.neurons.texts import two_parts
from tracemend.progress import Progress
from tracemend.tuning import TextClassifier


@pytest.fixture(scope="module")
def planted():
    return planted_unit()


def everywhere():
    inside = torch.ones(2, 3, dtype=torch.bool)
    inside[1, 2] = False
    return Places(inside, torch.tensor([[0, 1, -1], [1, 0, 0]]))


def intervention(how, **options):
    bank = torch.arange(12.0).reshape(4, 3)
    return Intervention.of(how, bank, torch.tensor([0, 0, 1, 1]), 2, beta=2.0, seed=0, **options)


def test_each_intervention_does_what_it_says():
    h = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
    places, units = everywhere(), np.array([2, 0])
    zero, mean, resampled, moved = (
        intervention(how).edit(units, places)(h.clone()) for how in ("zero", "mean", "resample", "translate")
    )
    for found in (zero, mean, resampled, moved):
        assert torch.equal(found[1, 2], h[1, 2]) and torch.equal(found[..., 1], h[..., 1])
    assert not zero[0][:, [0, 2]].any()
    assert torch.allclose(mean[0][:, [0, 2]], torch.tensor([[4.5, 6.5]]).expand(3, 2))
    # Units taken together come from one place.
    assert torch.allclose(resampled[0, :, 2] - resampled[0, :, 0], torch.full((3,), 2.0), atol=1e-5)
    # From label 0 to 1 each mean rises by 6; the first unit by twice that, the second by once.
    assert torch.allclose((moved - h)[0, 0], torch.tensor([6.0, 0.0, 12.0]), atol=1e-5)
    assert torch.allclose((moved - h)[0, 1], torch.tensor([-6.0, 0.0, -12.0]), atol=1e-5)
    assert torch.equal(moved[0, 2], h[0, 2])


def test_random_units_are_moved_as_far_as_the_first_would_be():
    h = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
    places = everywhere()
    first = intervention("mean").edit(np.array([2]), places)(h.clone()) - h
    like = intervention("mean").edit(np.array([1]), places, like=np.array([2]))(h.clone()) - h
    assert torch.allclose(first.norm(dim=-1), like.norm(dim=-1), atol=1e-5)
    assert like[0, :, 1].abs().min() > 0 and not like[..., 2].any()


def test_units_that_do_not_move_cannot_be_moved_as_far():
    """Silent units, as behind a ReLU: two of three random units are, and the finding says so."""
    silent = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    silent[..., :2] = 0

    class Silent:
        y, groups = np.array([0, 1]), [0, 1]

        def measure(self, found=None, units=None, like=None):
            moved = Moved()
            if found is not None:
                found.edit(units, everywhere(), like=like, moved=moved)(silent.clone())
            return Measured(np.zeros(2), np.zeros(2, dtype=np.int64), np.zeros(1), moved.share)

    def said(how, order):
        doses = dose_response(Silent(), intervention(how), np.array(order), sizes=[1], at=1, draws=60, seed=0)
        rows = doses.rows.set_index("arm")["moved"]
        return " ".join(doses.findings), rows["same norm"] / rows["first"]

    findings, reached = said("zero", [2, 1, 0])
    assert 0.1 < reached < 0.6
    assert (
        f"random units moved only {reached:.0%} as far" in findings and f"moved only {reached:.0%} as far +" in findings
    )
    findings, reached = said("mean", [2, 1, 0])
    assert reached == pytest.approx(1) and "random units moved as far" in findings and "only" not in findings


def test_the_planted_unit_carries_the_property(planted):
    model, bank, _ = planted
    before = fingerprint_of(model.network)
    method = replace(Ablation.tiny()[0], site=SITE, sizes=(1, 10), at=10)
    found = method.run(model, bank)
    assert found.facts["order"][0] == UNIT
    assert found.metrics["loss_rise"] > 2 * found.controls["last"]["loss_rise"]
    assert found.metrics["loss_rise"] > 2 * found.controls["random"]["loss_rise"]
    assert fingerprint_of(model.network) == before
    assert "language_rise" not in found.metrics and any("not measured" in said for said in found.findings)
    # One unit alone writes the other label.
    written = replace(method, how="translate", order="probeless", sizes=(1,), at=1).run(model, bank)
    assert written.metrics["to_target"] > 0.9 and written.controls["last"]["to_target"] < 0.1
    assert written.controls["random"]["to_target"] < 0.1


def test_what_is_read_later_is_reached_through_the_network(planted):
    model, bank, _ = planted
    method = replace(Ablation.tiny()[0], site=SITE, sizes=(1, 20), at=20, order="probeless")
    here, later = (replace(method, read=read).run(model, bank) for read in ("", "blocks.1.hook_resid_post"))
    assert later.facts["read"] == "blocks.1.hook_resid_post"
    assert later.metrics["loss_rise"] != here.metrics["loss_rise"]
    # Through the network and from what was kept must be one thing where they read the same.
    assert replace(method, read=SITE).run(model, bank).metrics == here.metrics


def test_units_are_taken_at_all_words_and_translated_at_those_asked_about(planted):
    """Of a sentence with words that are not of the test: a later site must not read there what was taken."""
    model, bank, _ = planted
    method = replace(Ablation.tiny()[0], site=SITE, test_items=20)
    words, seen, _ = method.read_units(model, bank, Progress(), untrained=False)
    test = words.parts["test"]
    asked = {name: getattr(test, name)[::2] for name in ("sentence", "word", "form", "y", "control")}
    words = replace(words, parts={**words.parts, "test": replace(test, **asked)})
    subject = word_subject(model, words, seen, SITE, method.pooling, read="blocks.1.hook_resid_post")
    batch = list(range(len(test.sentences)))
    places = subject._places(batch)
    of_words = [int(sum(unit >= 0 for unit in subject._unit[i])) for i in batch]
    assert places.inside.sum(1).tolist() == of_words
    labelled = places.label >= 0
    assert labelled.sum() == len(test) // 2 < places.inside.sum() and not (labelled & ~places.inside).any()
    h = torch.ones(*places.inside.shape, 32)
    bank, y = torch.arange(64.0).reshape(2, 32), torch.tensor([0, 1])
    for how, expected in (("zero", places.inside), ("translate", labelled)):
        taken = Intervention.of(how, bank, y, words.classes, beta=1.0, seed=0).edit(np.array([3]), places)(h.clone())
        assert torch.equal(taken[..., 3] != 1, expected)


@pytest.mark.parametrize("how", ["zero", "mean", "resample", "translate"])
def test_a_decoders_words_are_measured(how):
    method, model, data = Ablation.tiny()
    found = replace(method, how=how).run(model, data)
    assert np.isfinite(found.metrics["language_rise"])
    assert found.rows["language_loss"].notna().all() and found.facts["whole"]["language_loss"] > 0
    assert ("to_target" in found.metrics) == (how == "translate")


def test_a_unit_that_a_classifier_needs_is_found():
    """A label that hangs on one word, and a head that hangs on one unit."""
    method, classifier, data = ClassifierAblation.tiny()
    site = "blocks.1.hook_resid_post"
    unit = 7
    with torch.no_grad():
        weight = classifier.network.base_model.model.classifier.modules_to_save["default"].weight
        weight.zero_()
        weight[0, unit], weight[1, unit] = 3.0, -3.0
    found = replace(method, site=site, sizes=(1,), at=1).run(classifier, data)
    assert found.facts["order"][0] == unit
    assert abs(found.metrics["loss_rise"]) > 10 * abs(found.controls["last"]["loss_rise"])
    assert found.facts["driving"][0]["unit"] == unit and len(found.facts["driving"][0]["texts"]) == 3


@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
@pytest.mark.parametrize("kind", ["lora", "prompt"])
def test_every_family_and_virtual_tokens(architecture, kind):
    method, _, data = ClassifierAblation.tiny()
    classifier = TextClassifier(tiny(architecture), data.labels, kind=kind, virtual_tokens=4, rank=2)
    state = {name: value.clone() for name, value in classifier.network.state_dict().items()}
    found = replace(method, sizes=(2,), at=2, draws=1).run(classifier, data)
    assert ("language_rise" in found.metrics) == (architecture == "gpt2" and kind == "lora")
    assert all(torch.equal(value, state[name]) for name, value in classifier.network.state_dict().items())


def test_splits_weigh_on_train_and_measure_validation():
    method, classifier, data = ClassifierAblation.tiny()
    parts = [data.take(range(i, 40, 4)) for i in range(4)]
    found = method.run(classifier, Splits(*parts))
    assert found.facts["n_weighing"] == len(parts[0]) and found.facts["n_test"] == len(parts[1])
    uids = {text["uid"] for unit in found.facts["driving"] for text in unit["texts"]}
    assert uids <= set(parts[0].uid)


def test_no_group_is_in_both_halves_and_intervals_resample_whole_groups():
    _, classifier, data = ClassifierAblation.tiny()
    names = [f"author {i // 8}" if i < 32 else None for i in range(40)]
    grouped = Labelled.make([text for text, _ in data.pairs], data.frame["label"], groups=names)
    parts = two_parts("the method", classifier, grouped, texts=100, seed=0)
    uids, groups = ([set(part.frame[column].dropna()) for part in parts] for column in ("uid", "group"))
    assert not groups[0] & groups[1] and not uids[0] & uids[1]
    assert [abs(len(part) - 20) <= 4 for part in parts] == [True, True] and groups[0] and groups[1]
    assert len(set(TextSubject(classifier, grouped, "blocks.1.mlp.hook_post", 8).groups)) == 4 + 8
    few = two_parts("the method", classifier, grouped, texts=5, seed=0)
    assert [len(part) for part in few] == [5, 5] and not set(few[0].uid) & set(few[1].uid)


def test_texts_of_one_group_are_refused():
    method, classifier, data = ClassifierAblation.tiny()
    one = Labelled.make([text for text, _ in data.pairs], data.frame["label"], groups=["author"] * len(data))
    with pytest.raises(DataError, match=r"of one group, which cannot be divided.*give texts of more groups"):
        method.run(classifier, one)


def test_nothing_taken_changes_nothing():
    _, classifier, data = ClassifierAblation.tiny()
    subject = TextSubject(classifier, data, "blocks.1.mlp.hook_post", 8)
    whole = subject.measure()
    none = Intervention.of("mean", torch.zeros(2, 64), torch.tensor([0, 1]), 2, beta=1.0, seed=0)
    same = subject.measure(none, np.zeros(0, dtype=np.int64))
    np.testing.assert_array_equal(whole.loss, same.loss)
    assert same.moved == 0


@pytest.mark.parametrize(
    "options",
    [
        {"units": (64,)},
        {"units": (1, 1)},
        {"sizes": (99,), "at": 99},
        {"at": 3},
        {"draws": 0},
        {"beta": 0.0},
        {"how": "means"},
        {"site": "blocks.1.attn.hook_pattern"},
        {"site": "blocks.9.hook_resid_post"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [Ablation, ClassifierAblation])
def test_bad_settings_are_refused(kind, options):
    method, model, data = kind.tiny()
    with pytest.raises(TracemendError) as caught:
        replace(method, **{"site": "blocks.1.mlp.hook_post", **options}).run(model, data)
    assert len(str(caught.value)) > 40


@pytest.mark.parametrize("options", [{"order": "lineal"}, {"sentences": 0}], ids=str)
def test_bad_settings_of_words_are_refused(options):
    method, model, data = Ablation.tiny()
    with pytest.raises(NeuronError):
        replace(method, **options).run(model, data)


def test_a_site_that_is_read_only_is_refused():
    _, _, data = ClassifierAblation.tiny()
    gpt2 = TextClassifier(tiny("gpt2"), data.labels, rank=2)
    method = ClassifierAblation(site="blocks.1.hook_resid_mid", sizes=(2,), at=2)
    with pytest.raises((NeuronError, ModelError), match="read but not"):
        method.run(gpt2, data)


def test_other_labels_and_few_texts_are_refused():
    method, classifier, data = ClassifierAblation.tiny()
    with pytest.raises(NeuronError, match="labels are"):
        method.run(classifier, Labelled.make(["a", "b"] * 4, ["x", "y"] * 4))
    with pytest.raises(DataError, match="at least 4"):
        method.run(classifier, data.take([0, 1]))
    with pytest.raises(NeuronError, match="no place"):
        Intervention.of("translate", torch.zeros(2, 3), torch.tensor([0, 0]), 2, beta=1.0, seed=0)


def test_given_units_come_first():
    assert given_first((3, 1), np.array([0, 1, 2, 3]), 4).tolist() == [3, 1, 0, 2]


def test_a_classifiers_fingerprint_is_of_what_was_tuned():
    _, classifier, _ = ClassifierAblation.tiny()
    before = classifier.fingerprint
    assert ClassifierAblation.tiny()[1].fingerprint == before
    with torch.no_grad():
        next(iter(classifier.trainable().values())).add_(1.0)
    assert classifier.fingerprint != before
