from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.models.families import DECODERS, decoder
from tracemend.circuits import Edit, RankOne, edited, read_edits, write_edits
from tracemend.circuits.activations import activations, windows
from tracemend.circuits.edit import next_logits
from tracemend.circuits.rank_one import weights_print
from tracemend.circuits.rome import Context, Moment, Steps, contexts_of, rank_one, target_of, value_change
from tracemend.data.rewrites import Rewrites
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel, capture, tiny

SMALL, _, DATA = Edit.tiny()
ROW = DATA.frame.iloc[0].to_dict()


def one_edit(model: LanguageModel, *, clamp: float = 1e3) -> tuple[RankOne, list[Context], torch.Tensor]:
    moment = Moment.of(model, 0, windows(model, DATA.corpus, tokens=128), ridge=0.01)
    contexts = contexts_of(model, 0, ROW["prompt"], ROW["subject"], [[5, 6], [7, 8]])
    target = target_of(model, ROW, "target")
    how = Steps(steps=4, rate=0.5, kl=0.0, decay=0.0, clamp=clamp)
    change, _ = value_change(model, contexts, ROW["subject"], target, how)
    return rank_one(model, moment, contexts, change, {"prompt": ROW["prompt"]}), contexts, change


@pytest.mark.parametrize("name", DECODERS)
def test_the_mean_key_is_answered_with_the_value(name: str) -> None:
    """The closed form: after the edit W' k + b is the old output at the prompt plus the change, in every family."""
    model = decoder(name)
    found, contexts, change = one_edit(model)
    key = torch.cat([context.keys for context in contexts]).mean(0)
    wanted = contexts[0].outputs[0] + change
    from tracemend.circuits.weights import module_at

    module = module_at(model, "blocks.0.mlp.hook_post")
    with edited(model, [found]), torch.no_grad():
        assert torch.allclose(module(key), wanted, atol=1e-4)
    with torch.no_grad():
        assert not torch.allclose(module(key), wanted, atol=1e-2)


def test_the_value_says_what_it_should_and_the_edit_more_of_it() -> None:
    model = tiny("llama")
    contexts = contexts_of(model, 0, ROW["prompt"], ROW["subject"], [])
    target = target_of(model, ROW, "target")
    before = float(contexts[0].log_probabilities(None)[0, target].detach())
    change, reached = value_change(model, contexts, ROW["subject"], target, Steps(30, 0.5, 0.0, 0.0, 1e3))
    assert reached == pytest.approx(float(contexts[0].log_probabilities(change)[0, target].detach()), abs=1e-3)
    assert reached > before + 1
    kept, _ = value_change(model, contexts, ROW["subject"], target, Steps(30, 0.5, 1e3, 0.0, 1e3))
    assert kept.norm() < change.norm()
    moment = Moment.of(model, 0, windows(model, DATA.corpus, tokens=128), ridge=0.01)
    with edited(model, [rank_one(model, moment, contexts, change, {})]):
        assert float(next_logits(model, [ROW["prompt"]])[0].log_softmax(-1)[target]) > before


def test_the_clamp_holds() -> None:
    model = tiny("llama")
    _, contexts, change = one_edit(model, clamp=0.5)
    assert float(change.norm()) <= 0.5 * float(contexts[0].outputs[0].norm()) + 1e-5


def test_the_bits_are_put_back_also_after_an_error() -> None:
    model = tiny("gpt2")
    found, _, _ = one_edit(model)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}

    def fail() -> None:
        with edited(model, [found, found]):
            now = model.network.state_dict()
            assert [name for name in now if not torch.equal(now[name], before[name])] == [
                "transformer.h.0.mlp.c_proj.weight"
            ]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())


def test_edits_come_back_from_a_small_file(tmp_path) -> None:
    model = tiny("llama")
    found, _, _ = one_edit(model)
    write_edits(tmp_path / "edits.safetensors", [found])
    (again,) = read_edits(tmp_path / "edits.safetensors")
    assert torch.equal(again.reads, found.reads) and torch.equal(again.writes, found.writes)
    assert (again.layer, again.weights, again.facts) == (found.layer, found.weights, found.facts)
    assert (tmp_path / "edits.safetensors").stat().st_size < 4 * (64 + 32) + 1000


def test_a_damaged_file_and_another_file_are_refused(tmp_path) -> None:
    from tracemend.models.shards import write_shard

    path = tmp_path / "edits.safetensors"
    write_edits(path, [one_edit(tiny("llama"))[0]])
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CircuitError, match="is damaged"):
        read_edits(path)
    write_shard(path, {"a": torch.zeros(1)}, {"kind": "other"})
    with pytest.raises(CircuitError, match="holds no edits"):
        read_edits(path)
    with pytest.raises(CircuitError, match="is missing"):
        read_edits(tmp_path / "none")


def test_other_weights_and_a_second_edit_on_top_are_refused() -> None:
    model = tiny("llama")
    found, _, _ = one_edit(model)
    with pytest.raises(CircuitError, match="was made for weights"), edited(tiny("llama", seed=1), [found]):
        pass
    with edited(model, [found]), pytest.raises(CircuitError, match="leave other edits first"), edited(model, [found]):
        pass
    assert weights_print(model, 0) == found.weights


def test_activations_stop_where_they_are_asked_for() -> None:
    model = tiny("llama")
    ids = torch.randint(10, 100, (10, 7), generator=torch.Generator().manual_seed(0))
    name = "blocks.0.mlp.hook_post"
    reached = []
    handle = model.network.model.layers[1].register_forward_pre_hook(lambda *_: reached.append(1))
    try:
        found = activations(model, name, ids)
    finally:
        handle.remove()
    with capture(model, [name]) as seen, torch.no_grad():
        model.network(ids)
    assert torch.allclose(found, seen[name], atol=1e-6)
    assert not reached


@pytest.mark.slow
def test_rows_say_what_was_left_out() -> None:
    model = tiny("llama")
    rows = Rewrites.make([{**ROW, "answer": word} for word in ("film", "good", "bad")]).within(DATA.corpus)
    p = SMALL.run(model, rows).rows.query("arm == 'before'")["p_answer"].sort_values().tolist()
    found = replace(SMALL, floor=(p[0] + p[1]) / 2).run(model, rows)
    assert found.metrics["facts"] == 2 and len(found.edits) == 2
    assert found.rows["reason"].str.contains("not known").sum() == 1
    assert replace(SMALL, most=1).run(model, rows).metrics["facts"] == 1


def test_bad_input_is_refused() -> None:
    model = tiny("llama")

    def row(**changed: str) -> Rewrites:
        return Rewrites.make([{**ROW, **changed}]).within(DATA.corpus)

    for data, words in (
        (row(subject="Nobody"), "does not occur"),
        (row(target="movie film"), "expected one"),
        (row(target="film"), "the same token"),
        (Rewrites.make([ROW]), "needs a corpus"),
    ):
        with pytest.raises(CircuitError, match=words):
            SMALL.run(model, data)
    for changed, words in (
        ({"layer": 2}, "layers 0 to 1"),
        ({"tokens": 1}, "leaves nothing of the corpus"),
        ({"tokens": 10**4}, "Give more of them"),
        ({"steps": 0}, "steps is 0"),
        ({"ridge": 0.0}, "ridge is 0"),
        ({"floor": 0.99}, r"knows none of the 1 facts: .* with p 0\.\d+ and rank \d+"),
        ({"max_memory": 1e-6}, "take fewer tokens"),
    ):
        with pytest.raises(CircuitError, match=words):
            replace(SMALL, **changed).run(model, DATA)
    with pytest.raises(CircuitError, match="estimated from 10 tokens; expected at least 64"):
        Moment.of(model, 0, torch.arange(10, 20)[None], ridge=0.01)
    with pytest.raises(CircuitError, match="is not defined for"):
        SMALL.run(tiny("bert"), DATA)
