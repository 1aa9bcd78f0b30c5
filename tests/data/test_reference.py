import pytest

from tracemend.data import REFERENCES, available, corrupt, make_splits, reference
from tracemend.errors import DataError

FACTS = {
    "surge-toxicity": (1000, "Toxic", 501),
    "hate_stormfront": (2392, "hate", 1196),
    "openai-moderation": (1680, "flagged", 522),
    "sst2": (9613, "positive", None),
    "diasafety": (11206, "Unsafe", None),
    "diasafety-category": (11206, "Offending User", 1521),
    "hatemoji": (5912, "hateful", None),
    "convabuse": (4185, "abusive", 339 + 110 + 128),
    "uci_sentiment_sentences": (3000, "positive", 1500),
    "hatecheck": (3728, "hateful", 2563),
}


def needed(name):
    if not available(name):
        pytest.skip(f"the reference set {name} is not here (TRACEMEND_DATA)")
    return reference(name)


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_counts(name):
    data = needed(name)
    size, positive, positives = FACTS[name]
    assert (len(data), data.positive) == (size, positive)
    if positives is not None:
        assert (data.frame["label"] == positive).sum() == positives


@pytest.mark.parametrize("name", ["hatemoji", "diasafety"])
def test_groups_join_twins_and_contexts_across_published_parts(name):
    frame = needed(name).frame
    assert (frame.groupby("group")["part"].nunique() > 1).any()
    if name == "hatemoji":
        group_of = dict(zip(frame["entry_id"], frame["group"], strict=True))
        assert all(group_of[a] == group_of[b] for a, b in zip(frame["entry_id"], frame["matched_id"], strict=True))


def test_convabuse_votes_are_real_noise():
    data = needed("convabuse")
    noisy = corrupt(data, kind="annotator", votes=[f"annotator_{n}" for n in range(1, 9)])
    assert 0.03 < noisy.wrong.mean() < 0.07


def test_hatecheck_votes_are_real_noise():
    data = needed("hatecheck")
    noisy = corrupt(data, kind="annotator", votes=[f"annotator_{n}" for n in range(1, 11)])
    assert 0.01 < noisy.wrong.mean() < 0.08


def test_splits_of_surge():
    splits = make_splits(needed("surge-toxicity"))
    assert len(splits.train) == 550


def test_absent_and_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACEMEND_DATA", str(tmp_path))
    assert not available("sst2")
    with pytest.raises(DataError, match="TRACEMEND_DATA"):
        reference("sst2")
    with pytest.raises(DataError, match="did you mean 'sst2'"):
        reference("sst-2")
