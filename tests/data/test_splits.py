import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.data import Labelled, corrupt, make_splits, sample
from tracemend.data.duplicates import cluster, contents, near_duplicates
from tracemend.errors import DataError

WORDS = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet", "kilo", "lima"]


def words(rng, length):
    return " ".join(rng.choice(WORDS, size=length))


def jaccard(one, other):
    a, b = ({t[i : i + 5] for i in range(max(1, len(t) - 4))} for t in (one, other))
    return len(a & b) / len(a | b)


def everything(splits):
    parts = {"train": splits.train, "validation": splits.validation, "verdict": splits.verdict, "test": splits.test}
    return {name: part for name, part in parts.items() if part is not None}


def messy(seed, n=120, groups=30):
    """Random texts with repeats, near-repeats and groups."""
    rng = np.random.default_rng(seed)
    texts = [words(rng, rng.integers(1, 14)) for _ in range(n)]
    for row in rng.choice(n, size=n // 4, replace=False):
        texts[row] = texts[rng.integers(n)] + rng.choice(["", "!", " x"])
    owners = [f"g{g}" if g < groups else None for g in rng.integers(0, groups * 3, size=n)]
    return Labelled.make(texts, rng.choice(["bad", "good"], size=n), groups=owners)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_nothing_crosses_made_splits(seed):
    data = messy(seed)
    splits = make_splits(data, seed=seed)
    parts = everything(splits)
    assert sorted(uid for part in parts.values() for uid in part.uid) == sorted(data.uid)
    named = list(parts.items())
    for i, (_, one) in enumerate(named):
        for _, other in named[i + 1 :]:
            assert not (set(one.frame["group"]) - {None}) & (set(other.frame["group"]) - {None})
            for a in contents(one):
                assert all(jaccard(a, b) <= 0.8 for b in contents(other))
    assert len({(part.labels, part.positive) for part in parts.values()}) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abc ", max_size=30), max_size=30), st.sampled_from([0.3, 0.5, 0.8]))
def test_near_duplicates_are_exact(texts, threshold):
    texts = list(dict.fromkeys(texts))
    brute = {
        (i, j) for i in range(len(texts)) for j in range(i + 1, len(texts)) if jaccard(texts[i], texts[j]) > threshold
    }
    assert {tuple(pair) for pair in near_duplicates(texts, threshold).tolist()} == brute


@pytest.mark.slow
def test_shares_and_strata_are_kept():
    rng = np.random.default_rng(0)
    texts = [words(rng, 20) for _ in range(1000)]
    data = Labelled.make(texts, ["bad"] * 200 + ["good"] * 800)
    splits = make_splits(data, seed=3)
    for part, size in zip(everything(splits).values(), (550, 150, 150, 150), strict=True):
        assert len(part) == pytest.approx(size, abs=2)
        assert part.y.mean() == pytest.approx(0.8, abs=0.01)
    assert splits.fingerprints == make_splits(data, seed=3).fingerprints
    assert splits.fingerprints != make_splits(data, seed=4).fingerprints
    assert "train 550, validation 150" in splits.notes[0]
    assert make_splits(data, test_share=0).test is None


@pytest.mark.slow
def test_five_thousand_rows_with_templates_take_seconds():
    rng = np.random.default_rng(0)
    made = ["".join(rng.choice(list("abcdefghijklmno"), size=6)) for _ in range(3000)]
    texts = [f"I really think that {' '.join(rng.choice(made, size=12))} is the best of all" for _ in range(5000)]
    began = time.perf_counter()
    cluster(Labelled.make(texts, ["a", "b"] * 2500))
    assert time.perf_counter() - began < 10


def test_duplicates_and_conflicts_are_noted():
    rng = np.random.default_rng(0)
    texts = [words(rng, 12) for _ in range(60)]
    data = Labelled.make([*texts, texts[0].upper(), texts[1] + "!"], ["a", "b"] * 31)
    labels = list(data.frame["label"])
    labels[60] = "b"
    notes = " ".join(make_splits(Labelled.make(data.frame["text"], labels)).notes)
    assert "1 rows repeat another and 1 pairs are near-duplicates" in notes
    assert "1 texts occur with different labels" in notes


def test_made_parts_carry_the_truth():
    rng = np.random.default_rng(0)
    data = corrupt(Labelled.make([words(rng, 12) for _ in range(200)], ["a", "b"] * 100), rate=0.3)
    splits = make_splits(data)
    assert splits.train.wrong.any()
    assert not any(part.wrong.any() for name, part in everything(splits).items() if name != "train")
    assert any("true labels" in note for note in splits.notes)
    assert make_splits(data, trusted="label").verdict.wrong.any()


def given_parts(seed=0, n=60):
    rng = np.random.default_rng(seed)
    texts = [words(rng, 12) for _ in range(n)]
    labels = ["a", "b"] * (n // 2)
    cut = n // 2
    return Labelled.make(texts[:cut], labels[:cut]), Labelled.make(texts[cut:], labels[cut:])


def test_a_given_validation_is_halved_and_train_is_left_alone():
    train, validation = given_parts()
    splits = make_splits(train, validation=validation)
    assert splits.train.uid == train.uid
    assert splits.test is None
    assert sorted(splits.validation.uid + splits.verdict.uid) == sorted(validation.uid)
    assert abs(len(splits.validation) - len(splits.verdict)) <= 2


def test_a_given_test_leaves_validation_to_be_made():
    train, test = given_parts()
    splits = make_splits(train, test=test)
    assert splits.test is not None and splits.test.uid == test.uid
    assert len(splits.train) + len(splits.validation) + len(splits.verdict) == len(train)


def test_a_label_that_training_lacks():
    train, validation = given_parts()
    labels = ["c", *validation.frame["label"][1:]]
    with pytest.raises(DataError, match=r"label 'c' \(1 rows of the validation\).*not one of: a, b"):
        make_splits(train, validation=Labelled.make(validation.frame["text"], labels))


def test_texts_that_cross_given_parts():
    train, validation = given_parts()
    both = Labelled.make([*train.frame["text"], validation.frame["text"][0]], [*train.frame["label"], "a"])
    with pytest.raises(DataError, match=r"share texts: 1 rows \(1 of train\).*--fix-splits"):
        make_splits(both, validation=validation)
    splits = make_splits(both, validation=validation, fix=True)
    assert splits.train.uid == train.uid
    assert any("Dropped 1 rows (1 of train)" in note for note in splits.notes)


def test_groups_that_cross_given_parts():
    train, validation = given_parts()
    train = Labelled.make(train.frame["text"], train.frame["label"], groups=["ann", "bob"] + [None] * 28)
    test = Labelled.make(validation.frame["text"], validation.frame["label"], groups=[None] * 29 + ["ann"])
    with pytest.raises(DataError, match=r"share groups: 1 rows \(1 of train\).*'ann'"):
        make_splits(train, test=test)
    splits = make_splits(train, test=test, fix=True)
    assert "ann" not in set(splits.train.frame["group"])
    assert splits.test is not None and splits.test.uid == test.uid


def test_near_duplicates_that_cross_given_parts_are_noted_and_can_be_dropped():
    train, validation = given_parts()
    near = Labelled.make([*train.frame["text"], validation.frame["text"][0] + "!"], [*train.frame["label"], "a"])
    assert any("near-duplicates of rows in a later part" in n for n in make_splits(near, validation=validation).notes)
    assert len(make_splits(near, validation=validation, fix=True).train) == len(train)


def test_nothing_left_after_fixing():
    train, _ = given_parts()
    with pytest.raises(DataError, match="nothing is left"):
        make_splits(train, validation=train, fix=True)


def test_too_few_of_a_label():
    rng = np.random.default_rng(0)
    data = Labelled.make([words(rng, 12) for _ in range(60)], ["a"] * 57 + ["b"] * 3)
    with pytest.raises(DataError, match=r"of label 'b' \(3 in all\), at least 2 are needed"):
        make_splits(data)


@pytest.mark.parametrize("seed", range(5))
def test_as_many_of_a_label_as_the_message_asks_for_are_enough(seed):
    rng = np.random.default_rng(seed)
    texts = [words(rng, 12) for _ in range(80)]
    with pytest.raises(DataError) as caught:
        make_splits(Labelled.make(texts[:63], ["a"] * 60 + ["b"] * 3), seed=seed)
    asked = int(str(caught.value).split("(at least ")[1].split()[0])
    splits = make_splits(Labelled.make(texts[: 60 + asked], ["a"] * 60 + ["b"] * asked), seed=seed)
    assert all((part.frame["label"] == "b").sum() >= 2 for part in splits.parts.values())


@pytest.mark.parametrize("config", [{"validation_share": 0}, {"test_share": 0.8}, {"verdict_share": 1}])
def test_shares_out_of_range(config):
    with pytest.raises(DataError, match="share"):
        make_splits(messy(0), **config)


def test_unknown_trust():
    with pytest.raises(DataError, match="did you mean 'truth'"):
        make_splits(messy(0), trusted="thruth")


def test_sample_is_stratified_and_seeded():
    rng = np.random.default_rng(0)
    data = Labelled.make([words(rng, 12) for _ in range(100)], ["a"] * 20 + ["b"] * 80)
    part = sample(data, 50, seed=1)
    assert part.frame["label"].value_counts().to_dict() == {"a": 10, "b": 40}
    assert part.uid == sample(data, 50, seed=1).uid != sample(data, 50, seed=2).uid
    with pytest.raises(DataError, match="from 1 to 100"):
        sample(data, 101)


@pytest.mark.parametrize(("checked", "other", "said"), [(0.5, 0.1, True), (0.1, 0.1, False), (0.2, 0.4, False)])
def test_checked_rows_that_were_not_drawn_at_random_are_noted(checked, other, said):
    """Wrong labels at random even the training labels out, so the other way round is no sign of them."""

    def part(n, share, name):
        labels = ["rare" if i < share * n else "common" for i in range(n)]
        return Labelled.make([f"{name} {i} {hash((name, i))}" for i in range(n)], labels)

    splits = make_splits(part(300, other, "train"), validation=part(200, checked, "checked"))
    assert any("drawn at random" in note for note in splits.notes) == said
