"""Vectors of words at every layer: aligned, cached, and those that the network itself gives."""

from __future__ import annotations

import dataclasses
import re
import string
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracemend.errors import ModelError
from tracemend.models import align, random_weights, represent, tiny
from tracemend.models import representations as room
from tracemend.models.tiny import Architecture

SENTENCES = [["you", "ca", "n't", "love", "naivety", ",", "can", "you"], ["no"], ["what", "is", "1", "000", "?", "xyz"]]
ARCHITECTURES = list(get_args(Architecture))


@pytest.fixture(scope="module")
def models():
    return {name: tiny(name) for name in ARCHITECTURES}


def pieces(model, sentence):
    """The text that the tokens of each word cover; two tokens may cover the same."""
    found = align(model, [sentence])
    text = " ".join(sentence)
    offsets = model.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    covered: list[set[int]] = [set() for _ in sentence]
    for (begin, end), unit in zip(offsets, found.unit[0], strict=True):
        if unit >= 0:
            covered[unit] |= set(range(begin, end))
    return ["".join(text[i] for i in sorted(places)).replace(" ", "") for places in covered]


@pytest.mark.parametrize("name", ARCHITECTURES)
@given(
    words=st.lists(
        st.text(string.ascii_letters + string.digits + "'.,-", min_size=1, max_size=7), min_size=1, max_size=5
    )
)
def test_the_tokens_of_a_word_are_the_words_own(models, name, words):
    assert pieces(models[name], words) == words


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_byte_level_tokens_follow_their_words(models, name):
    # A letter outside ASCII falls into several tokens at one place, and a space may be a token of its own.
    sentence = ["naïve", "🙂", "1", "000"]
    found = align(models[name], [sentence]).unit[0]
    assert [int((found == i).sum()) > 0 for i in range(4)] == [True] * 4
    assert np.all(np.diff(found[found >= 0]) >= 0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_vectors_are_the_means_of_what_the_network_gives(models, name):
    model = models[name]
    found = represent(model, SENTENCES, batch_size=2)
    assert found.hidden.shape == (3, sum(map(len, SENTENCES)), 32)
    assert found.sentence.tolist() == [0] * 8 + [1] + [2] * 6
    assert found.word[:9].tolist() == [*range(8), 0]
    network = model.network.get_encoder() if model.family == "encoder-decoder" else model.network.base_model
    for i, sentence in enumerate(SENTENCES):
        aligned = align(model, [sentence])
        with torch.inference_mode():
            states = network(input_ids=torch.tensor(aligned.ids), output_hidden_states=True).hidden_states
        for layer in range(3):
            for word in range(len(sentence)):
                expected = states[layer][0, torch.from_numpy(aligned.unit[0] == word)].mean(0)
                row = int(np.flatnonzero((found.sentence == i) & (found.word == word))[0])
                torch.testing.assert_close(found.hidden[layer, row], expected, atol=1e-5, rtol=1e-4)


def test_first_and_last_pooling_and_sentences(models):
    model = models["bert"]
    first, last, mean = (represent(model, SENTENCES, pooling=p).hidden for p in ("first", "last", "mean"))
    # "you" is one token, "naivety" falls into letters.
    assert torch.equal(first[:, 0], last[:, 0]) and torch.allclose(first[:, 0], mean[:, 0], atol=1e-6)
    assert not torch.allclose(first[:, 4], last[:, 4])
    with torch.inference_mode():
        ids = torch.tensor(align(model, [SENTENCES[1]]).ids)
        states = model.network(input_ids=ids, output_hidden_states=True).hidden_states[2][0]
    for pooling, token in (("first", 0), ("last", 1), ("mean", 1)):
        found = represent(model, [[" ".join(s)] for s in SENTENCES], unit="sentence", pooling=pooling)
        assert found.hidden.shape == (3, 3, 32) and found.word.tolist() == [0, 0, 0]
        torch.testing.assert_close(found.hidden[2, 1], states[token], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
def test_blocks_above_the_highest_layer_are_not_run(name):
    model = tiny(name)
    every = represent(model, SENTENCES).hidden
    named = re.compile(r"(encoder\.layer|h|layers|encoder\.block)\.\d+$")
    blocks = [module for at, module in model.network.named_modules() if named.search(at)]
    run = []
    hooks = [block.register_forward_hook(lambda *_, at=at: run.append(at)) for at, block in enumerate(blocks)]
    try:
        for wanted in ([0], [1, 0], [2]):
            run.clear()
            torch.testing.assert_close(represent(model, SENTENCES, layers=wanted).hidden, every[wanted], rtol=0, atol=0)
            assert set(run) == set(range(max(wanted)))
    finally:
        for hook in hooks:
            hook.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.network.modules())


def test_chosen_layers(models):
    every = represent(models["gpt2"], SENTENCES).hidden
    assert torch.equal(represent(models["gpt2"], SENTENCES, layers=[2, 0]).hidden, every[[2, 0]])
    with pytest.raises(ModelError, match=r"0 \(embeddings\) to 2"):
        represent(models["gpt2"], SENTENCES, layers=[3])


@pytest.mark.parametrize(
    ("sentences", "words"),
    [
        ([["fine"], ["a", "\u200b", "b"]], ["sentence 2", "no token"]),
        ([[]], ["sentence 1", "no token"]),
        ([["x"] * 65], ["65", "window", "64"]),
    ],
)
def test_what_does_not_align_is_refused(models, sentences, words):
    model = models["bert"]
    if "window" in words:
        words = ["tokens", "window", "64"]
    with pytest.raises(ModelError) as error:
        represent(model, sentences)
    assert all(word in str(error.value) for word in words), error.value


@given(st.lists(st.lists(st.sampled_from(["love", "xyz"]), min_size=1, max_size=40), max_size=4))
def test_sentences_fit_where_none_is_refused_for_its_length(models, sentences):
    model = models["bert"]
    if room.fits(model, sentences):
        assert all(len(ids) <= model.window for ids in align(model, sentences).ids)
    else:
        with pytest.raises(ModelError, match="window"):
            align(model, sentences)


def test_the_cache_gives_the_same_and_a_stopped_extraction_goes_on(models, tmp_path, monkeypatch):
    model = models["llama"]
    monkeypatch.setattr(room, "SHARD_BYTES", 2000)
    expected = represent(model, SENTENCES, batch_size=1)
    first = represent(model, SENTENCES, batch_size=1, cache=tmp_path)
    assert torch.equal(first.hidden, expected.hidden)
    (folder,) = tmp_path.iterdir()
    shards = sorted(folder.glob("shard-*"))
    assert len(shards) == 3
    before = {path: path.read_bytes() for path in shards}
    shards[1].unlink()
    done = []
    real = room._batch

    def counted(*given):
        done.append(given[2])
        return real(*given)

    monkeypatch.setattr(room, "_batch", counted)
    assert torch.equal(represent(model, SENTENCES, batch_size=1, cache=tmp_path).hidden, expected.hidden)
    assert len(done) == 1
    assert {path: path.read_bytes() for path in shards} == before


def test_the_cache_of_another_model_or_other_sentences_is_not_taken(models, tmp_path):
    model = models["bert"]
    represent(model, SENTENCES, cache=tmp_path)
    represent(model, SENTENCES[:2], cache=tmp_path)
    # Tiny models are random too, so the seed must be another one.
    other = represent(random_weights(model, seed=5), SENTENCES, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    assert not torch.allclose(other.hidden, represent(model, SENTENCES, cache=tmp_path).hidden)


def test_a_damaged_shard_is_named(models, tmp_path):
    represent(models["bert"], SENTENCES, cache=tmp_path)
    (shard,) = tmp_path.glob("*/shard-*")
    whole = shard.read_bytes()
    for damaged in (whole[:-5], whole[:-2] + bytes(255 - b for b in whole[-2:])):
        shard.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"damaged.*delete it"):
            represent(models["bert"], SENTENCES, cache=tmp_path)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_random_weights_are_fresh_and_follow_their_seed(models, name):
    model = models[name]
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    config = model.network.config.to_dict()
    state = torch.get_rng_state()
    one, same, other = (random_weights(model, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert one.fingerprint == same.fingerprint
    assert len({one.fingerprint, other.fingerprint, model.fingerprint}) == 3
    assert all(torch.equal(value, before[key]) for key, value in model.network.state_dict().items())
    assert model.network.config.to_dict() == config
    assert one.network.config._attn_implementation == "eager" and not one.network.training
    assert dataclasses.replace(one, name="x").family == model.family
    assert represent(one, SENTENCES).hidden.isfinite().all()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_with_norms_before_its_blocks_reads_directions_alone(models, name):
    model = models[name]
    seen = represent(model, SENTENCES).hidden
    grown = seen * torch.tensor([1.0, 1000.0]).repeat(seen.shape[1])[: seen.shape[1], None]
    once, again = room.as_read(model, seen, rms=0.5), room.as_read(model, grown, rms=0.5)
    if name == "bert":
        assert torch.equal(once, seen) and torch.equal(again, grown)
    else:
        torch.testing.assert_close(once, again)
        torch.testing.assert_close(once.square().mean(-1).sqrt(), torch.full(once.shape[:2], 0.5))
