"""TCAV: right on a planted direction, silent where there is none, with bad input refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.concepts import Tcav, TcavResult
from tracemend.concepts.run import classifier_of
from tracemend.concepts.states import site_of, states
from tracemend.concepts.tcav import _scored, tiny_concepts
from tracemend.concepts.tcav_result import _of_pairs, as_far, corrected
from tracemend.concepts.vectors import against, at_random, permutation_p, vector
from tracemend.data import Concepts
from tracemend.errors import ConceptError
from tracemend.models import capture, edit, tiny
from tracemend.tuning import TextClassifier

PAIRS = [("you are terrible and i hate this film", None), ("good movie", None), ("why", "thanks, great people")]


def untuned(architecture: str, kind: str = "lora") -> TextClassifier:
    return TextClassifier(tiny(architecture), ("bad", "good"), kind=kind, virtual_tokens=3, max_length=48)


@pytest.fixture(scope="module")
def praised() -> TextClassifier:
    """A tiny encoder whose head says good along the direction of praise in its last layer."""
    classifier = untuned("bert", "head")
    data = tiny_concepts()
    both = [(text, None) for text in (*data.sets["praise"], *data.random)]
    hidden = states(classifier, both, [2]).mean[0].numpy().astype(np.float64)
    normal, accuracy = vector(hidden[:24], hidden[24:], np.random.default_rng(0))
    assert accuracy > 0.7
    head = classifier.network.base_model.classifier.modules_to_save["default"]
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(np.stack([-normal, normal])).float())
    return classifier


@pytest.mark.parametrize("kind", ["lora", "prompt", "prefix", "head"])
@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_states_are_means_over_the_text_and_slopes_are_those_of_the_answer(architecture, kind):
    if kind == "head" and architecture != "bert":
        pytest.skip("a head is of encoders")
    classifier = untuned(architecture, kind)
    found = states(classifier, PAIRS, [1, 2], target=1, batch_size=2)
    row, place = classifier.encode(PAIRS[:1])[0][0], classifier.places(PAIRS[:1])[0]
    own = [i for i, of in enumerate(place) if of is not None]
    with torch.no_grad(), capture(classifier.network, [site_of(2)]) as seen:
        logits = classifier.logits(classifier.batch([row]))
    length = classifier.batch([row])["input_ids"].shape[1]
    expected = seen[site_of(2)][0, -length:][own].mean(0)
    torch.testing.assert_close(found.mean[1, 0], expected, rtol=1e-4, atol=1e-5)
    assert int(found.answer[0]) == int(logits.argmax())
    # Moving every token of the text along v changes the log-odds by the slope.
    direction = torch.nn.functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(0)), dim=0)
    step, odds = 1e-2, []
    for sign in (-1, 1):

        def moved(old: torch.Tensor, sign: int = sign) -> torch.Tensor:
            new = old.clone()
            for i in own:
                new[:, old.shape[1] - length + i] += sign * step * direction
            return new

        with torch.no_grad(), edit(classifier.network, {site_of(1): moved}):
            values = classifier.logits(classifier.batch([row]))[0].double()
        odds.append(float(values[1] - values[0]))
    slope = (odds[1] - odds[0]) / (2 * step)
    assert found.gradient is not None
    assert float(found.gradient[0, 0] @ direction) == pytest.approx(slope, rel=0.05, abs=2e-3)


def test_no_parameter_gets_a_gradient():
    classifier = untuned("bert")
    states(classifier, PAIRS, [1], target=0)
    assert all(p.grad is None for p in classifier.network.parameters())


@pytest.mark.slow
def test_a_planted_concept_is_found_and_its_opposite_is_not(praised):
    found = Tcav(at=2, layers=(2,), examples=20, random_concepts=2).run(praised, tiny_concepts())
    row = found.rows[(found.rows["concept"] == "praise") & (found.rows["against"] == "random")].iloc[0]
    assert row["score"] > 0.9 and row["significant"]
    against_blame = found.rows[(found.rows["concept"] == "blame") & (found.rows["against"] == "praise")].iloc[0]
    assert against_blame["score"] < 0.2
    assert 0.2 < found.controls["random_vectors"]["score praise"] < 0.8
    # At the last layer of a pooled head the slope is the same for every text.
    assert set(found.draws["score"]) <= {0.0, 1.0}
    assert found.examples.groupby("concept")["alignment"].apply(lambda of: of.is_monotonic_decreasing).all()


@pytest.mark.slow
def test_a_concept_that_has_nothing_to_do_with_the_answer_is_seldom_shown():
    """Random sets that lie no farther off than chance would let a third of such concepts pass."""
    shown = 0
    for seed in range(16):
        rng = np.random.default_rng(seed)
        answer, way = (one / np.linalg.norm(one) for one in rng.normal(size=(2, 32)))
        hidden = np.concatenate([rng.normal(size=(40, 32)) + 4 * way, rng.normal(size=(200, 32))])
        method = Tcav(relative=False, examples=40, seed=seed)
        found = method._vectors(hidden, {"named": np.arange(40), "": np.arange(40, 240)}, 40)
        slopes = answer + rng.normal(size=(60, 32)) / (2 * np.sqrt(32))
        table = corrected(pd.DataFrame(method._rows(1, _scored(found, slopes))), 20)
        shown += bool(table["shown"].item())
    assert shown <= 2


def test_a_concept_is_counted_with_the_random_ones():
    assert as_far(0.5, [0.1] * 20) == pytest.approx(1 / 21) and as_far(-0.5, [0.1] * 2) == pytest.approx(1 / 3)
    assert as_far(0.1, [0.1, 0.3, 0.0]) == pytest.approx(3 / 4)


@pytest.mark.slow
def test_an_untrained_network_shows_nothing():
    """The sheet's control: a head that learnt nothing, over a network that learnt nothing."""
    found = Tcav(at=1, layers=(1,), examples=20).run(untuned("bert", "head"), tiny_concepts())
    assert not found.rows["shown"].any(), found.rows[["concept", "layer", "p_holm", "beyond"]]
    assert found.metrics["shown"] == 0.0 and found.rows["significant"].any()
    # Nor does the control, another such network, which every result has beside it.
    untrained = found.controls["random_weights"]
    assert set(untrained) == set(found.metrics) and untrained["shown"] == 0.0
    assert untrained["score praise"] != found.metrics["score praise"]


def test_what_parts_two_concepts_is_said_once_a_pair():
    def row(concept: str, against: str, slope: float, shown: bool) -> dict[str, Any]:
        return {"concept": concept, "against": against, "layer": 2, "score": 0.9, "slope": slope, "beyond": 0.05,
                "shown": shown}  # fmt: skip

    relative = [row("bad", "good", -0.5, True), row("good", "bad", 0.4, True), row("good", "red", 0.1, False)]
    said = _of_pairs(pd.DataFrame([*relative, row("red", "good", float("nan"), False) | {"score": float("nan")}]))
    assert len(said) == 2 and said[0].startswith("From bad to good, layer 2: the answer moves") and "0.4" in said[0]
    assert said[1].startswith("From red to good, layer 2: no effect shown")
    many = [row(f"a{i}", f"b{i}", 0.1, i < 3) for i in range(12)]
    assert _of_pairs(pd.DataFrame(many)) == ["Of 12 pairs of concepts 3 are shown to move the answer."]
    assert _of_pairs(pd.DataFrame(many).head(0)) == []


@pytest.mark.slow
def test_few_random_concepts_show_nothing_and_it_is_said(praised):
    found = Tcav(at=2, layers=(2,), examples=20, random_concepts=2).run(praised, tiny_concepts())
    assert found.rows["significant"].any() and not found.rows["shown"].any()
    assert any("With 2 random concepts nothing can be shown" in line for line in found.findings)
    enough = corrected(pd.DataFrame({"against": ["random"], "concept": ["x"], "layer": [1], "p": [0.001],
                                     "beyond": [0.04]}), 20)  # fmt: skip
    assert enough["shown"].all()


@pytest.mark.slow
def test_a_result_comes_back_with_its_draws(praised, tmp_path):
    found = Tcav(at=2, layers=(2,), examples=20, random_concepts=2).run(praised, tiny_concepts())
    back = TcavResult.load(found.save(tmp_path))
    assert back.draws.equals(found.draws) and back.examples.equals(found.examples)
    assert back.findings == list(found.findings)
    counts = found.draws.groupby("kind").size().to_dict()
    assert counts == {"concept": 40, "random": 20, "random concept": 40, "random pair": 40, "relative": 40}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
def test_an_untuned_model_that_writes_is_asked_by_its_words(architecture):
    classifier, called, print_of = classifier_of(None, tiny(architecture), ["bad", "good"])
    data = replace(tiny_concepts(), labels=None)
    assert isinstance(classifier, TextClassifier)
    # What it answers most often: no label is given, so the texts are those with the answer.
    most = classifier.labels[int(np.bincount(classifier.predict(data.texts).argmax(1)).argmax())]
    found = Tcav(at=1, layers=(1,), examples=20, random_concepts=2, label=most).run(classifier, data)
    assert found.rows["accuracy"].max() > 0.7
    assert called == f"tiny-{architecture}" and len(print_of) == 16


@given(st.integers(20, 40), st.integers(60, 90), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_draws_never_share_a_text(size, pool, seed):
    rng = np.random.default_rng(seed)
    rows = np.arange(pool + 40)
    fixed = rng.choice(rows, 40, replace=False)
    for draw in (at_random(rows, size), against(fixed, rows, size)):
        one, other = draw(rng)
        assert len(set(one) | set(other)) == 2 * size
    one, _ = against(fixed, rows, size)(rng)
    assert set(one) <= set(fixed)


def test_the_permutation_is_exact_where_it_can_be_counted():
    # Of the 20 ways to deal 3 and 3, two lie as far apart as these.
    assert permutation_p(np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])) == pytest.approx(0.1, abs=0.01)
    assert permutation_p(np.ones(20), np.ones(20)) == 1.0


def few(n: int) -> Concepts:
    data = tiny_concepts()
    return replace(data, sets={"praise": data.sets["praise"][:n]})


@pytest.mark.parametrize(
    ("options", "data", "said"),
    [
        ({}, lambda: few(19), "19 different examples"),
        (
            {},
            lambda: replace(tiny_concepts(), sets={"x": tiny_concepts().random[:30]}),
            "30 examples of 'x' stand among",
        ),
        ({}, lambda: replace(tiny_concepts(), random=tiny_concepts().random[:30]), "30 different random texts"),
        ({}, lambda: replace(tiny_concepts(), labels=("bad",) * 30), "0 of 30 texts are labelled 'good'"),
        (
            {},
            lambda: replace(
                tiny_concepts(),
                sets={
                    "x": tiny_concepts().sets["praise"],
                    "y": (*tiny_concepts().sets["blame"], tiny_concepts().sets["praise"][3].upper()),
                },
            ),
            "is an example of 'x' and of 'y'",
        ),
        ({"sets": 19}, tiny_concepts, "sets is 19"),
        ({"examples": 10}, tiny_concepts, "examples is 10"),
        ({"label": "goood"}, tiny_concepts, "did you mean 'good'"),
        ({"layers": (3,)}, tiny_concepts, "layers 1 to 2"),
    ],
)
def test_bad_input_is_refused(options, data, said):
    method, model, _ = Tcav.tiny()
    with pytest.raises(ConceptError, match=said):
        replace(method, **options).run(model, data())


def test_the_last_layer_of_a_decoder_is_none_to_test():
    """It answers at the end of its prompt, so nothing that the last layer writes over the text counts."""
    classifier = TextClassifier(tiny("llama"), ("bad", "good"), kind="lora", max_length=60)
    found = Tcav(examples=20, random_concepts=2).run(classifier, tiny_concepts())
    assert set(found.rows["layer"]) == {1}
    with pytest.raises(ConceptError, match=r"layers 1 to 1 .* nor the last"):
        Tcav(layers=(2,)).run(classifier, tiny_concepts())


def test_a_concept_that_is_not_there_gets_no_score():
    method, model, data = Tcav.tiny()
    rng = np.random.default_rng(1)
    fillers = ["movie", "film", "people", "you", "they", "when", "who", "at", "by"]
    same = {" ".join(rng.choice(fillers, 4).tolist()): None for _ in range(60)}
    noise = tuple(text for text in same if text not in data.random)[:24]
    with pytest.raises(ConceptError, match="no layer tells any concept"):
        replace(method, layers=(1,)).run(model, replace(data, sets={"noise": tuple(t[: len(t)] for t in noise)},
                                                        random=tuple(list(same)[24:]) + data.random))  # fmt: skip


def test_there_are_no_gradients_in_inference_mode():
    method, model, data = Tcav.tiny()
    with torch.inference_mode(), pytest.raises(ConceptError, match="inference_mode"):
        method.run(model, data)


def test_an_untuned_encoder_and_half_named_models_are_refused():
    with pytest.raises(ConceptError, match="encoder"):
        classifier_of(None, tiny("bert"), ["bad", "good"])
    with pytest.raises(ConceptError, match="at least twice"):
        classifier_of(None, tiny("gpt2"), ["bad"])
    with pytest.raises(ConceptError, match="either --run"):
        classifier_of(None, None, [])
