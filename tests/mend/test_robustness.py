"""Explanations of copies are compared as they should be, and tying words to their substitutes has a gradient."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.mend.test_penalty import classifier
from tests.mend.test_regularise import LABELS, shortcut
from tracemend.data import Labelled, Splits
from tracemend.errors import DataError, ModelError, TraceError, TuningError
from tracemend.mend import Robustness
from tracemend.mend.agreement import by_place, kendall, of_other_texts, overlap, word_at
from tracemend.mend.attack import Copy, at_random, attack, swapped
from tracemend.mend.penalty import by_gradient
from tracemend.mend.robustness import ADVERSARIAL, NONE, OTHERS, RANDOM
from tracemend.mend.synonyms import Synonyms, places_of, text_at
from tracemend.mend.tied import Adversary, _layout, aligned, tied_penalty, tune_tied
from tracemend.models import tiny
from tracemend.saliency import encoded
from tracemend.tuning import TextClassifier, Tuning

QUICK = Tuning(epochs=2, batch_size=16, rank=2, max_length=24, precision="fp32")
METHOD = Robustness(similarity=-1.0, apart=0.25, copies=2, checked=5, tuning=QUICK)
# "awful" and "bad" stand for each other, and "film" for "movie".
NEAR = Synonyms(
    {"awful": ("bad", "terrible"), "bad": ("awful",), "movie": ("film",), "film": ("movie", "reply")},
    ("awful", "bad", "terrible", "movie", "film", "reply"),
)


@pytest.fixture(scope="module")
def splits() -> Splits:
    train, validation = shortcut(96, follows=0.5, seed=0), shortcut(32, follows=0.5, seed=1)
    return Splits(train=train, validation=validation, verdict=shortcut(32, follows=0.5, seed=2))


def pair_of(model: TextClassifier) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[tuple[int, int, int, int]]]:
    """Attributions of a text and of its copy, with the one pair of words that is tied."""
    texts = encoded(model, [("what a bad movie", None)])
    copies = encoded(model, [("what a awful movie", None)])
    batch = model.batch([example.ids for example in [*texts, *copies]])
    _, x, g = by_gradient(model, batch, torch.tensor([1, 1]))
    of_text, words = _layout([*texts, *copies], batch["attention_mask"].shape[1])
    return (x * g).sum(-1), of_text, words, aligned(texts, copies, [(2,)], "replaced")


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_what_ties_words_has_a_gradient_in_every_layer_and_it_is_the_derivative(architecture: str) -> None:
    model = classifier(architecture)

    def loss() -> torch.Tensor:
        phi, of_text, words, pairs = pair_of(model)
        assert phi.requires_grad
        return tied_penalty(phi, of_text, words, pairs)

    value = loss()
    assert float(value.detach()) > 0
    value.backward()
    gradients = {name: p.grad for name, p in model.trainable().items() if p.grad is not None}
    reached = [name for name, g in gradients.items() if g.abs().max() > 0]
    assert {int(n.split(f"{word}.")[1].split(".")[0]) for word in ("layer", "h", "layers", "block")
            for n in reached if f".{word}." in n} >= {0, 1}  # fmt: skip
    if architecture == "t5":
        return  # its ReLUs have kinks, which a difference steps over
    name = max(gradients, key=lambda n: float(gradients[n].abs().max()))
    parameter, gradient = model.trainable()[name], gradients[name]
    place = np.unravel_index(int(gradient.abs().argmax()), gradient.shape)
    values = []
    for step in (1e-3, -1e-3):
        with torch.no_grad():
            parameter[place] += step
        values.append(float(loss().detach()))
        with torch.no_grad():
            parameter[place] -= step
    assert (values[0] - values[1]) / 2e-3 == pytest.approx(float(gradient[place]), rel=0.05)


def test_the_penalty_is_what_it_says() -> None:
    phi = torch.tensor([[3.0, -1.0, 6.0], [2.0, 2.0, 0.0]], requires_grad=True)
    of_text = torch.tensor([[True, True, False], [True, True, True]])
    words = torch.zeros(2, 2, 3)
    words[0, 0, 0] = words[0, 1, 1] = words[1, 0, 0] = words[1, 0, 1] = words[1, 1, 2] = 1.0
    # Shares of words: 3/4 and -1/4; 1 (two tokens) and 0.
    found = tied_penalty(phi, of_text, words, [(0, 0, 1, 0), (0, 1, 1, 1)])
    assert float(found.detach()) == pytest.approx((0.25 + 0.25) / 2)
    nothing = tied_penalty(phi, of_text, words, [])
    nothing.backward()
    assert float(nothing.detach()) == 0.0 and phi.grad is not None


@pytest.mark.slow
def test_tuning_ties_what_it_is_asked_to(splits: Splits) -> None:
    """On texts it was not tuned on, against the same copies with nothing tied."""
    tuning = Tuning(epochs=5, batch_size=16, rank=4, max_length=24, learning_rate=5e-3, precision="fp32")
    synonyms = Synonyms.make(tiny("bert"), splits.train, similarity=-1.0, apart=0.25)
    adversary = Adversary(synonyms=synonyms, copies=2)
    rng = np.random.default_rng(0)
    copies = [swapped(pair, synonyms, 0.3, rng) for pair in splits.verdict.pairs]
    made = [copy for copy in copies if copy is not None]
    assert len(made) == len(splits.verdict)
    gaps = {}
    for strength in (0.0, 30.0):
        model = tuning.classifier(tiny("bert"), splits.labels)
        tuned = tune_tied(model, splits.train, splits.validation, adversary, tuning, strength=strength)
        texts = encoded(tuned.classifier, splits.verdict.pairs)
        others = encoded(tuned.classifier, [copy.pair for copy in made])
        batch = model.batch([example.ids for example in [*texts, *others]])
        _, x, g = by_gradient(model, batch, torch.tensor(np.tile(splits.verdict.y, 2)))
        of_text, words = _layout([*texts, *others], batch["attention_mask"].shape[1])
        pairs = aligned(texts, others, [copy.places for copy in made], "replaced")
        gaps[strength] = float(tied_penalty((x * g).sum(-1), of_text, words, pairs).detach())
    assert gaps[30.0] < 0.6 * gaps[0.0]


def test_only_words_of_like_labels_stand_for_each_other() -> None:
    data = Labelled.make(
        ["good movie one", "good film two", "good movie x", "bad film three", "bad movie four", "bad film y"],
        ["safe"] * 3 + ["unsafe"] * 3,
        label_names=LABELS,
    )
    model = tiny("bert")
    found = Synonyms.make(model, data, similarity=-1.0, apart=0.3)
    assert "bad" not in found.of.get("good", ()) and "film" in found.of["movie"]
    assert "bad" in Synonyms.make(model, data, similarity=-1.0, apart=1.0).of["good"]
    assert all(word not in of for word, of in found.of.items()) and "one" not in found.of
    table = model.network.get_input_embeddings().weight.detach()
    ids = [model.tokenizer(word, add_special_tokens=False).input_ids for word in ("movie", "film")]
    cosine = float(torch.cosine_similarity(table[ids[0]].mean(0), table[ids[1]].mean(0), dim=0))
    assert "film" in Synonyms.make(model, data, similarity=cosine - 1e-4).of["movie"]
    with pytest.raises(DataError, match="has a substitute at a similarity of"):
        Synonyms.make(model, data, similarity=0.999, apart=0.3)
    with pytest.raises(TuningError, match=r"similarity is 1\.0"):
        Synonyms.make(model, data, similarity=1.0)
    with pytest.raises(TuningError, match="most 0"):
        Synonyms.make(model, data, most=0)


@given(st.lists(st.sampled_from(["a", "film", "Movie", "BAD", ",", "don't", "awful!", "3.5"]), min_size=1, max_size=8))
def test_a_copy_has_as_many_words_and_others_only_where_it_says(words: list[str]) -> None:
    pair = (" ".join(words), None)
    copy = swapped(pair, NEAR, 0.5, np.random.default_rng(0))
    before = [text_at(pair, place) for place in places_of(pair)]
    if copy is None:
        assert not {word.casefold() for word in before} & NEAR.of.keys()
        return
    after = [text_at(copy.pair, place) for place in places_of(copy.pair)]
    assert len(after) == len(before) and 1 <= len(copy.places) <= max(1, len(before) // 2)
    assert {k for k, both in enumerate(zip(before, after, strict=True)) if both[0] != both[1]} == set(copy.places)
    assert all(after[k].casefold() in NEAR.of[before[k].casefold()] for k in copy.places)
    assert all(after[k].istitle() == before[k].istitle() for k in copy.places)
    other = at_random(pair, copy, NEAR, np.random.default_rng(1))
    assert len(places_of(other.pair)) == len(before)


def test_replies_are_copied_too() -> None:
    copy = swapped(("so it goes", "a bad film"), NEAR, 1.0, np.random.default_rng(0))
    assert copy is not None and copy.places == (4, 5) and copy.pair[0] == "so it goes"
    assert copy.pair[1] in ("a awful movie", "a awful reply")


def by_words(weights: dict[str, float]) -> TextClassifier:
    """An encoder whose answers are replaced by a sum over words."""
    model = TextClassifier(tiny("bert"), LABELS, kind="head", max_length=24)

    def probabilities(pairs: list[tuple[str, str | None]], **options: object) -> np.ndarray:
        del options
        z = np.array([sum(weights.get(word, 0.0) for word in text.split()) for text, _ in pairs])
        p = 1 / (1 + np.exp(-z))
        return np.column_stack([1 - p, p]).astype(np.float32)

    model.probabilities = probabilities  # type: ignore[assignment,method-assign]
    return model


def test_an_attack_finds_what_there_is_and_nothing_else() -> None:
    model = by_words({"awful": 2.0, "bad": 1.0, "terrible": -3.0, "movie": 0.5, "film": 0.1, "what": 0.2})
    pairs = [("what awful movie", None), ("what bad movie", None), ("what a movie", None), ("what", None)]
    found = attack(model, pairs, np.ones(4, dtype=np.int64), NEAR, share=1.0)
    assert found[0] == Copy(("what terrible movie", None), (1,))
    assert found[1:] == [None, None, None]
    assert attack(model, [], np.ones(0, dtype=np.int64), NEAR, share=1.0) == []
    # With one word to replace it takes the one that counts most.
    short = attack(model, [("awful movie", None)], np.ones(1, dtype=np.int64), NEAR, share=0.1)
    assert short == [Copy(("terrible movie", None), (0,))]


def test_identical_copies_agree_entirely_and_other_texts_by_chance() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=12) for _ in range(400)]
    assert all(kendall(row, row) == 1.0 and overlap(row, row, 3) == 1.0 for row in rows)
    assert kendall(rows[0], -rows[0]) == -1.0
    tau, top = of_other_texts(rows, 3)
    assert abs(tau.mean()) < 0.05 and top.mean() == pytest.approx(3 / 12, abs=0.05)
    nan = float("nan")
    assert np.isnan(kendall(np.array([1.0, 2.0, nan]), np.array([1.0, 2.0, 3.0])))
    assert np.isnan(kendall(np.zeros(4), np.arange(4.0))) and np.isnan(overlap(rows[0][:3], rows[1][:3], 3))
    with pytest.raises(TraceError, match="12 and 11 words"):
        kendall(rows[0], rows[1][:11])
    with pytest.raises(TraceError, match="k is 0"):
        overlap(rows[0], rows[1], 0)


def test_words_are_aligned_by_place_not_by_token() -> None:
    """A substitute of more tokens moves no word; words that the model does not read have no weight."""
    model = TextClassifier(tiny("bert"), LABELS, kind="head", max_length=12)
    one, other = encoded(model, [("bad movie ok", None), ("cinematographic movie ok", None)])
    assert len(one.ids) != len(other.ids)
    weights = [np.where(e.read, np.arange(len(e.words), dtype=float), np.nan) for e in (one, other)]
    assert by_place(one, weights[0]).tolist() == [0.0, 1.0, 2.0] and word_at(one).tolist() == [0, 1, 2]
    cut = by_place(other, weights[1])
    assert len(cut) == 3 and np.isnan(cut[1:]).any()
    assert aligned([one], [other], [(1,)], "replaced") == []
    assert (0, 0, 1, 0) in aligned([one], [other], [(1,)], "all")


def test_a_run_says_what_it_found(splits: Splits) -> None:
    result = METHOD.run(tiny("bert"), replace(splits, train=splits.train.take(range(48))))
    assert set(result.controls) == {NONE, ADVERSARIAL, RANDOM, OTHERS}
    assert set(result.rows["arm"]) == {"found", NONE, ADVERSARIAL}
    swaps = result.rows[(result.rows["arm"] == "found") & (result.rows["kind"] == "swap")]
    kept = swaps[swaps["kept"].astype(bool)]
    assert result.metrics["tau"] == pytest.approx(kept["tau"].mean())
    assert result.metrics["attacks"] == ((result.rows["arm"] == "found") & (result.rows["kind"] == "attack")).sum()
    assert any("words of the training texts have a substitute" in note for note in result.findings)
    assert any("beside the arm 'none'" in note or "cannot be compared" in note for note in result.findings)


def test_no_successful_attack_is_told_and_has_no_tau(splits: Splits) -> None:
    """Of two texts no word has a substitute that would lower anything."""
    tuning = replace(QUICK, learning_rate=1e-9)
    same = Labelled.make(["please stop", "stop the movie"], ["safe", "unsafe"], label_names=LABELS)
    small = replace(splits, train=splits.train.take(range(32)), verdict=same)
    result = replace(METHOD, tuning=tuning, share=0.01).run(tiny("bert"), small)
    alone = result.rows[(result.rows["arm"] == "found") & (result.rows["kind"] == "attack")]
    assert result.metrics["attacks"] == len(alone)
    if alone.empty:
        assert np.isnan(result.metrics["tau_attacked"])
        assert any("No attack on the arm 'found' succeeded (n = 0)" in note for note in result.findings)


def test_a_stopped_tuning_goes_on_with_the_copies_of_an_unbroken_one(splits: Splits, tmp_path: Path) -> None:
    synonyms = Synonyms.make(tiny("bert"), splits.train, similarity=-1.0, apart=0.25)
    adversary = Adversary(synonyms=synonyms, copies=2, clean=0)

    def tuned() -> dict[str, torch.Tensor]:
        model = QUICK.classifier(tiny("bert"), splits.labels)
        done = tune_tied(model, splits.train, splits.validation, adversary, QUICK, strength=1.0, out=tmp_path)
        return done.classifier.state()

    whole = tuned()
    shutil.rmtree(tmp_path / "adapter-0002")
    for name, value in tuned().items():
        torch.testing.assert_close(value, whole[name])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tied": "some"}, "replaced, all"),
        ({"strength": 0.0}, "above 0"),
        ({"share": 0.0}, "share is 0.0"),
        ({"copies": 0}, "copies is 0"),
        ({"clean": 2}, "at least one epoch"),
        ({"similarity": 2.0}, "a cosine"),
    ],
)
def test_bad_choices_are_told(splits: Splits, changes: dict[str, object], said: str) -> None:
    with pytest.raises(TuningError, match=said):
        replace(METHOD, **changes).run(tiny("bert"), splits)


def test_texts_without_substitutes_and_models_without_second_derivative_are_told(splits: Splits) -> None:
    strange = Labelled.make([f"zzz {i}" for i in range(8)], list(splits.verdict.frame["label"][:8]), label_names=LABELS)
    with pytest.raises(DataError, match="no word of the 5 checked texts has a substitute"):
        METHOD.run(tiny("bert"), replace(splits, verdict=strange))
    model = tiny("llama")
    model.network.set_attn_implementation("sdpa")
    with pytest.raises(ModelError, match="eager"):
        METHOD.run(model, splits)
