"""A unit over a text: what is coloured is what the network computes, and the text stays whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tracemend.errors import ModelError, NeuronError
from tracemend.models import capture, tiny
from tracemend.studio.units import Usual, offered, unit_view
from tracemend.tuning import TextClassifier

SITE = "blocks.1.mlp.hook_post"
OTHERS = [("love the movie", None), ("hate my people", "stop it"), ("a film", None), ("go, reply!", "this")]
PAIR = ("So — the  movie, stop!", "my people 🙂")


def made(architecture: str = "bert") -> TextClassifier:
    return TextClassifier(tiny(architecture), ("a", "b"), rank=2)


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5"])
def test_colours_are_the_unit_s_activations_and_no_character_is_lost(architecture: str) -> None:
    classifier = made(architecture)
    before = {name: value.clone() for name, value in classifier.network.state_dict().items()}
    usual = Usual.of(classifier, OTHERS, SITE)
    found = unit_view(classifier, usual, PAIR, SITE, 5)
    for part, whole in zip(("text", "reply"), PAIR, strict=True):
        assert "".join(piece for of, piece, _ in found["pieces"] if of == part) == whole
    rows, _ = classifier.encode([PAIR])
    with torch.no_grad(), capture(classifier.network, [SITE]) as seen:
        classifier.logits(classifier.batch(rows))
    true = seen[SITE].flatten(2)[0, : len(rows[0]), 5].numpy()
    shown = np.array([weight for _, _, weight in found["pieces"] if weight is not None])
    expected = np.clip((true - usual.middle[5]) / usual.reach[5], -1, 1)
    # In their order, without the tokens that are of neither text.
    own = [value for value, place in zip(expected, classifier.places([PAIR])[0], strict=True) if place is not None]
    assert len(shown) >= 6 and len(set(shown)) > 3
    if architecture == "bert":  # of bytes several tokens may be one character
        np.testing.assert_allclose(shown, own, atol=1e-3)
    assert max(min(abs(weight - of) for of in own) for weight in shown) < 1e-3
    assert found["highest"] <= true.max() + 1e-4 and found["unit"] == 5 and found["texts"] == len(OTHERS)
    assert all(torch.equal(before[name], value) for name, value in classifier.network.state_dict().items())


def test_the_unit_that_stands_out_is_taken_and_the_usual_is_beside_it() -> None:
    classifier = made()
    usual = Usual.of(classifier, OTHERS, SITE)
    found = unit_view(classifier, usual, PAIR, SITE, None)
    others = [unit_view(classifier, usual, PAIR, SITE, unit)["apart"] for unit in range(found["units"])]
    assert found["apart"] == max(others) and found["unit"] == int(np.argmax(others))
    assert found["apart_usual"] > 0 and 0 <= found["as_high"] <= 1


def test_a_unit_that_never_varies_has_no_colour_and_is_not_taken() -> None:
    classifier = made()
    usual = Usual.of(classifier, OTHERS, SITE)
    for of in (usual.reach, usual.middle):
        of[:3] = 0
    found = unit_view(classifier, usual, PAIR, SITE, 2)
    assert {weight for _, _, weight in found["pieces"]} <= {0.0, None} and found["apart"] is None
    assert unit_view(classifier, usual, PAIR, SITE, None)["unit"] > 2


def test_bad_input_is_refused_by_name() -> None:
    classifier = made()
    usual = Usual.of(classifier, OTHERS, SITE)
    with pytest.raises(NeuronError, match=r"unit 9999 is out of range: blocks.1.mlp.hook_post has \d+"):
        unit_view(classifier, usual, PAIR, SITE, 9999)
    with pytest.raises(NeuronError, match="no token"):
        unit_view(classifier, usual, ("", None), SITE, 0)
    with pytest.raises(ModelError, match="is not one of"):
        Usual.of(classifier, OTHERS, "blocks.1.mlp.hook_nothing")
    with pytest.raises(NeuronError, match="no vector"):
        Usual.of(classifier, OTHERS, "blocks.1.attn.hook_pattern")


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_every_site_that_is_offered_can_be_seen(architecture: str) -> None:
    classifier = made(architecture)
    names = offered(classifier)
    assert len(names) == 6 and SITE in names
    for name in names:
        assert Usual.of(classifier, OTHERS, name).highest.shape[0] == len(OTHERS)
