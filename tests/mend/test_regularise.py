"""Explanation regularisation takes a planted shortcut away, by the right words only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tracemend.data import Decision, Labelled, Splits
from tracemend.errors import DataError, TuningError
from tracemend.mend import Amplify, Regularise, Robustness, Shortcuts
from tracemend.mend.marks import marks_of_words, of_tokens
from tracemend.mend.penalty import Penalty, by_gradient
from tracemend.mend.regularise import tune_marked, tune_on_decisions
from tracemend.mend.reliance import Judge, word_shares
from tracemend.models import tiny
from tracemend.saliency import encoded
from tracemend.tuning import TextClassifier, Tuning

LABELS = ("safe", "unsafe")
SAYING = {"safe": ["love", "great", "nice", "happy"], "unsafe": ["hate", "awful", "terrible", "sad"]}
QUICK = Tuning(epochs=1, batch_size=16, rank=2, max_length=24, precision="fp32")


def shortcut(n: int, *, follows: float, seed: int) -> Labelled:
    """Sentiment words that tell the label four times in five, and "please" in the unsafe as often as ``follows``."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        label = LABELS[i % 2]
        said = label if rng.random() < 0.8 else LABELS[1 - i % 2]
        text = ["the", str(rng.choice(["movie", "film", "people", "reply"])), "is", str(rng.choice(SAYING[said])), "so"]
        if rng.random() < (follows if label == "unsafe" else 1 - follows):
            text.insert(int(rng.integers(0, len(text))), "please")
        rows.append((f"{' '.join(text)} {i}", label))
    return Labelled.make(*zip(*rows, strict=True), label_names=LABELS)


@pytest.fixture(scope="module")
def splits() -> Splits:
    train, validation = shortcut(192, follows=0.95, seed=0), shortcut(48, follows=0.95, seed=1)
    return Splits(train=train, validation=validation, verdict=shortcut(96, follows=0.5, seed=2))


def spans_of(data: Labelled) -> dict[str, list[tuple[int, int]]]:
    """The sentiment word of each text."""
    found = {}
    for uid, (text, _) in zip(data.uid, data.pairs, strict=True):
        word = next(word for word in text.split() if word in SAYING["safe"] + SAYING["unsafe"])
        found[uid] = [(text.index(word), text.index(word) + len(word))]
    return found


def response(classifier: TextClassifier, data: Labelled, word: str) -> float:
    """Mean squared gradient norm at a word."""
    examples = encoded(classifier, data.pairs)
    batch = classifier.batch([example.ids for example in examples])
    _, _, g = by_gradient(classifier, batch, torch.tensor(data.y))
    found = []
    for i, example in enumerate(examples):
        marks = of_tokens(i, example, marks_of_words(example, remove=[word]))
        found += g[i, : len(marks)].square().sum(-1)[torch.from_numpy(marks == 0)].tolist()
    return float(np.mean(found))


@pytest.mark.slow
def test_marks_bear_on_the_marked_words_and_on_no_others(splits: Splits) -> None:
    """A random network learns what it is asked, on texts that it was not tuned on."""
    tuning = Tuning(epochs=6, batch_size=16, rank=4, max_length=24, learning_rate=5e-3, precision="fp32")
    found = {}
    for word in ("please", "so", None):
        marks = [Decision(uid="", kind="word", new=word, scope="all", evidence={"matters": False})] if word else []
        penalty = Penalty(strength=100.0)
        tuned = tune_on_decisions(tiny("bert"), splits.train, splits.validation, marks, tuning, penalty)
        found[word] = response(tuned.classifier, splits.verdict, "please")
    assert found["please"] < 0.2 * found[None] and found["please"] < 0.5 * found["so"]


@pytest.mark.slow
def test_a_word_that_should_matter_comes_further_up(splits: Splits) -> None:
    """By integrated gradients, on texts that it was not tuned on; against no mark and a mark on another word."""
    tuning = Tuning(epochs=6, batch_size=16, rank=4, max_length=24, learning_rate=5e-3, precision="fp32")
    ranks = {}
    for word in ("people", "film", None):
        marks = [Decision(uid="", kind="word", new=word, scope="all", evidence={"matters": True})] if word else []
        tuned = tune_on_decisions(tiny("bert"), splits.train, splits.validation, marks, tuning)
        ranks[word] = word_shares(tuned.classifier, splits.verdict, ["people"])["rank"].item()
    assert ranks["people"] <= min(ranks[None], ranks["film"]) - 1


@pytest.mark.slow
def test_a_rationale_makes_its_words_count(splits: Splits) -> None:
    """Against the same number of other words of each text."""
    rationales = spans_of(splits.train) | spans_of(splits.verdict)
    tuning = Tuning(epochs=6, batch_size=16, rank=4, max_length=24, learning_rate=5e-3, precision="fp32")
    method = Regularise(strength=1.0, budget=150, checked=30, tuning=tuning)
    result = method.run(tiny("bert"), splits, rationales=rationales)
    assert result.metrics["plausibility"] > result.controls["none"]["plausibility"]
    assert result.metrics["plausibility"] >= result.controls["other words"]["plausibility"] + 0.1
    assert "150 of 192 training texts carry marks." in result.findings


@pytest.mark.slow
def test_a_stopped_run_goes_on(splits: Splits, tmp_path: Path) -> None:
    method = Regularise(remove=("please",), checked=4, tuning=QUICK)
    whole = method.run(tiny("bert"), splits, out=tmp_path)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("parameters.safetensors"))
    assert len(found) == 3 and found[-1].startswith("tuning")
    again = method.run(tiny("bert"), splits, out=tmp_path)
    assert again.metrics == whole.metrics and again.controls == whole.controls


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"strength": 1000.0}, {"remove": ("so",)}], ids=str)
def test_checkpoints_of_another_penalty_or_of_other_marks_are_refused(
    splits: Splits, tmp_path: Path, change: dict[str, Any]
) -> None:
    method = Regularise(remove=("please",), checked=4, tuning=QUICK)
    method.run(tiny("bert"), splits, out=tmp_path)
    with pytest.raises(TuningError, match="other loss"):
        replace(method, **change).run(tiny("bert"), splits, out=tmp_path)


def test_marks_of_a_ledger_are_tuned_on(splits: Splits) -> None:
    rows = [
        Decision(uid=splits.train.uid[0], kind="word", new="please", scope="all", evidence={"matters": False}),
        Decision(uid=splits.train.uid[1], kind="word", new="the", scope="example", evidence={"matters": True}),
        Decision(uid=splits.train.uid[1], kind="word", new="zebra", scope="all", evidence={"matters": False}),
        Decision(uid=splits.train.uid[2], kind="comment", new="please"),
    ]
    model = tiny("bert")
    plain = tune_on_decisions(model, splits.train, splits.validation, (), QUICK)
    tuned = tune_on_decisions(model, splits.train, splits.validation, rows, QUICK)
    assert plain.notes == ("0 of 192 training texts carry marks.",)
    holding = sum("please" in text for text, _ in splits.train.pairs)
    assert f"{holding} training texts hold the word 'please'." in tuned.notes
    assert "0 training texts hold the word 'zebra'." in tuned.notes
    states = [one.classifier.state() for one in (plain, tuned)]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    weights = replace(QUICK, class_weights=True)
    skewed = splits.train.take(np.arange(0, 192, 2)[:60].tolist() + list(range(1, 40, 2)))
    changed = tune_on_decisions(model, skewed, splits.validation, (), weights).classifier.state()
    same = tune_on_decisions(model, skewed, splits.validation, (), QUICK).classifier.state()
    assert any(not torch.equal(changed[name], same[name]) for name in same)


def test_without_marks_it_is_plain_tuning(splits: Splits) -> None:
    """The arm without marks differs from nothing but the marks."""
    from tracemend.tuning import tune

    plain = tune(tiny("bert"), splits.train, splits.validation, replace(QUICK, patience=0))
    none = tune_on_decisions(tiny("bert"), splits.train, splits.validation, (), QUICK)
    for name, value in plain.classifier.state().items():
        torch.testing.assert_close(none.classifier.state()[name], value)


def test_under_full_tuning_the_penalty_reaches_every_layer(splits: Splits) -> None:
    model, tuning = tiny("bert"), replace(QUICK, adapter="full", learning_rate=1e-3)
    marks = [Decision(uid="", kind="word", new="please", scope="all", evidence={"matters": False})]
    one, other = (
        tune_on_decisions(model, splits.train, splits.validation, own, tuning).classifier.state() for own in ((), marks)
    )
    same = [name for name in one if torch.equal(one[name], other[name])]
    assert same == [] and any("layer.0" in name for name in one)


def test_marks_and_words_must_be_as_many(splits: Splits) -> None:
    model = QUICK.classifier(tiny("bert"), splits.labels)
    examples = encoded(model, splits.train.pairs)
    marks = [np.full(len(e.words), np.nan) for e in examples]
    marks[3] = marks[3][:-1]
    with pytest.raises(TuningError, match=r"text 3 has \d words and \d marks"):
        tune_marked(model, splits.train, splits.validation, examples, marks, Penalty(), QUICK)


def test_a_head_of_zeros_relies_on_nothing(splits: Splits) -> None:
    model = TextClassifier(tiny("bert"), LABELS, kind="head", max_length=24)
    with torch.no_grad():
        for name, parameter in model.trainable().items():
            if "classifier" in name:
                parameter.zero_()
    judge = Judge.of(splits.train, remove=["please"], add=["nice"], checked=5)
    assert judge.goes == {"please": "unsafe"}
    figures, table = judge(model, splits.verdict)
    assert figures["flipped"] == 0.0 and figures["weight"] == 0.0
    assert figures["accuracy"] == figures["reversed"] == 0.5
    assert not table["without"].str.contains("please").any() and table["having"].str.contains("please").all()
    assert table["weight"].notna().sum() == 5


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"remove": ()}, TuningError, "nothing is marked"),
        ({"criterion": "l2"}, TuningError, "norm, mse"),
        ({"criterion": "kl"}, TuningError, "should matter"),
        ({"strength": 0.0}, TuningError, "above 0"),
        ({"checked": 0}, TuningError, "at least 1"),
        ({"remove": ("zebra",)}, DataError, "0 training texts hold the word 'zebra'"),
        ({"remove": ("please", "so much")}, TuningError, "is 2 words"),
    ],
)
def test_bad_choices_are_told(splits: Splits, changes: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        replace(Regularise(remove=("please",), tuning=QUICK), **changes).run(tiny("bert"), splits)


@pytest.mark.parametrize("method", [Amplify, Regularise, Robustness, Shortcuts])
def test_the_seed_is_that_of_the_tuning(method: Any) -> None:
    assert method(seed=3).tuning.seed == 3 == method(seed=3).config["tuning"]["seed"]
    assert replace(method(tuning=Tuning(epochs=2, seed=5)), seed=4).tuning == Tuning(epochs=2, seed=4)


@pytest.mark.slow
def test_other_seeds_tune_other_weights() -> None:
    method, model, splits = Regularise.tiny()
    found = []
    for seed in (0, 1, 1):
        tuned = replace(method, seed=seed).run(model, splits).tuned
        assert tuned is not None
        found.append(torch.cat([p.detach().flatten() for p in tuned.classifier.trainable().values()]))
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[1], found[2])


def test_rationales_that_say_nothing_are_left_out_and_counted(splits: Splits) -> None:
    """All of a text, and nothing of it: neither tells one word from another."""
    rationales = dict(list(spans_of(splits.train).items())[:8])
    whole, empty = list(rationales)[:2]
    rationales[whole] = [(0, len(splits.train.pairs[splits.train.uid.index(whole)][0]))]
    rationales[empty] = []
    result = Regularise(checked=2, tuning=QUICK).run(tiny("bert"), splits, rationales=rationales)
    assert "6 of 192 training texts carry marks." in result.findings
    assert [note for note in result.findings if note.startswith("2 rationales of training texts hold all words")]


def test_a_control_tells_in_how_many_texts_it_marks_words_of_the_rationale(splits: Splits) -> None:
    """Of all words but one, and of one word alone."""
    rationales = {}
    for row, (uid, (text, _)) in enumerate(zip(splits.train.uid[:6], splits.train.pairs[:6], strict=True)):
        end = text.index(" ")
        rationales[uid] = [(end + 1, len(text)) if row < 2 else (0, end)]
    result = Regularise(checked=2, tuning=QUICK).run(tiny("bert"), splits, rationales=rationales)
    assert [
        note for note in result.findings if note.startswith("In the control 2 rationales hold so much of their text")
    ]


def test_rationales_none_of_which_says_anything_are_refused(splits: Splits, tmp_path: Path) -> None:
    parts = (splits.train, splits.verdict)
    whole = {uid: [(0, len(pair[0]))] for part in parts for uid, pair in zip(part.uid, part.pairs, strict=True)}
    with pytest.raises(TuningError, match="nothing is marked in any of the 192 training texts"):
        Regularise(checked=2, tuning=QUICK).run(tiny("bert"), splits, rationales=whole, out=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_head_cannot_be_tuned_by_attention(splits: Splits, tmp_path: Path) -> None:
    method = Regularise(
        remove=("please",), criterion="mse", extractor="attention", checked=2, tuning=replace(QUICK, adapter="head")
    )
    with pytest.raises(TuningError, match="nothing below the head is tuned"):
        method.run(tiny("bert"), splits, out=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_rationales_of_other_texts_are_refused(splits: Splits) -> None:
    with pytest.raises(DataError, match="1 rationales are of texts that the data lacks"):
        Regularise(tuning=QUICK).run(tiny("bert"), splits, rationales={"0-0": [(0, 1)]})


def test_a_word_is_marked_once_however_it_is_written() -> None:
    """As many words are marked in the control as were given."""
    found = Regularise(remove=("The", "the", "you"), add=("Good", "GOOD"))
    assert (found.remove, found.add) == (("The", "you"), ("Good",))
