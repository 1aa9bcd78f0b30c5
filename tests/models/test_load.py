from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Model,
    LlamaModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
)
from transformers.utils import logging

from tests.models.conftest import inputs_of
from tracemend.errors import ModelError
from tracemend.models import LanguageModel, load, tiny
from tracemend.models.load import family_of
from tracemend.tuning import TextClassifier


def saved(model: LanguageModel, folder: Path) -> Path:
    model.network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def test_a_saved_folder_gives_the_same_model(model: LanguageModel, inputs: dict[str, Any], tmp_path: Path) -> None:
    again = load(saved(model, tmp_path / "model"))
    assert again.family == model.family and again.window == model.window
    assert again.fingerprint == model.fingerprint
    assert not again.network.training and again.config._attn_implementation == "eager"
    tokens = inputs_of(again)
    assert all(torch.equal(tokens[key], value) for key, value in inputs.items())
    assert torch.equal(again.network(**tokens)[0], model.network(**inputs)[0])


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    model = tiny("gpt2")
    model.network.to(torch.bfloat16)
    again = load(saved(model, tmp_path))
    assert {p.dtype for p in again.network.parameters()} == {torch.float32}
    assert load(tmp_path, attention="sdpa").config._attn_implementation == "sdpa"


def test_one_changed_weight_changes_the_fingerprint(tmp_path: Path) -> None:
    model = tiny("bert")
    before = load(saved(model, tmp_path)).fingerprint
    with torch.no_grad():
        next(iter(model.network.parameters()))[0, 0] += 1e-3
    assert load(saved(model, tmp_path)).fingerprint != before


@pytest.mark.parametrize(
    ("config", "family"),
    [
        (BertConfig(), "encoder"),
        (BertConfig(architectures=["BertForMaskedLM"]), "encoder"),
        (BertConfig(architectures=["BertLMHeadModel"]), "decoder"),
        (BertConfig(is_decoder=True), "decoder"),
        (tiny("llama").config, "decoder"),
        (tiny("gpt2").config, "decoder"),
        (T5Config(), "encoder-decoder"),
    ],
)
def test_family_by_configuration(config: Any, family: str) -> None:
    assert family_of(config) == family


def test_a_tokenizer_without_pad_pads_with_eos_on_the_right(tmp_path: Path) -> None:
    model = tiny("gpt2")
    model.tokenizer.pad_token = None
    model.tokenizer.padding_side = "left"
    again = load(saved(model, tmp_path)).tokenizer
    assert again.pad_token == again.eos_token is not None
    assert again("you are", padding="max_length", max_length=6)["attention_mask"] == [1] * 4 + [0] * 2


def test_a_pad_token_without_a_row_of_its_own_is_not_used(tmp_path: Path) -> None:
    model = tiny("llama")
    model.tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    again = load(saved(model, tmp_path))
    assert again.tokenizer.pad_token == again.tokenizer.eos_token
    assert TextClassifier(again, ("safe", "unsafe")).predict([("you are so good", None), ("x", None)]).shape == (2, 2)
    model.tokenizer.add_special_tokens({"eos_token": "[EOS]"})
    with pytest.raises(ModelError, match="neither a pad nor an eos token among the model's"):
        load(saved(model, tmp_path / "neither"))


def test_a_length_fixed_in_tokenizer_json_is_taken_off(tmp_path: Path) -> None:
    folder = saved(tiny("bert"), tmp_path)
    facts = json.loads((folder / "tokenizer.json").read_text())
    facts["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    (folder / "tokenizer.json").write_text(json.dumps(facts))
    assert len(load(folder).tokenizer.backend_tokenizer.encode("you are so very nice").ids) == 7


def test_an_encoder_saved_without_pooler_has_one_fingerprint(tmp_path: Path) -> None:
    bert = tiny("bert")
    BertForMaskedLM(bert.config).save_pretrained(tmp_path)
    bert.tokenizer.save_pretrained(tmp_path)
    state = torch.get_rng_state()
    assert load(tmp_path).family == "encoder"
    assert torch.equal(torch.get_rng_state(), state)
    assert load(tmp_path).fingerprint == load(tmp_path).fingerprint


def test_the_head_of_a_decoder_is_tied_or_there_and_never_random(tmp_path: Path) -> None:
    gpt2, llama = tiny("gpt2"), tiny("llama")
    GPT2Model(gpt2.config).save_pretrained(tmp_path / "tied")
    gpt2.tokenizer.save_pretrained(tmp_path / "tied")
    assert load(tmp_path / "tied").family == "decoder"
    LlamaModel(llama.config).save_pretrained(tmp_path / "headless")
    llama.tokenizer.save_pretrained(tmp_path / "headless")
    with pytest.raises(ModelError, match=r"lack 1 tensors .*lm_head"):
        load(tmp_path / "headless")


def test_robertas_window_leaves_out_the_padding_positions(tmp_path: Path) -> None:
    tokenizer = tiny("bert").tokenizer
    tokenizer.model_max_length = 10**9
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    config = RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=66, pad_token_id=1, **shape)
    RobertaModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = load(tmp_path)
    assert model.window == 64
    model.network(input_ids=torch.full((1, model.window), 7))
    with pytest.raises((IndexError, RuntimeError)):
        model.network(input_ids=torch.full((1, model.window + 1), 7))


def test_loading_is_quiet_and_leaves_the_users_settings(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    folder = saved(tiny("bert"), tmp_path)
    capfd.readouterr()
    load(folder)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bars)


class TestRefusals:
    def refused(self, folder: Path | str, match: str) -> None:
        with pytest.raises(ModelError, match=match):
            load(folder)

    def test_no_configuration(self, tmp_path: Path) -> None:
        self.refused(tmp_path, "no config.json")
        (tmp_path / "adapter_config.json").write_text("{}")
        self.refused(tmp_path, "PEFT adapter; name the model it was tuned from")

    def test_no_tokenizer(self, tmp_path: Path) -> None:
        tiny("bert").network.save_pretrained(tmp_path)
        self.refused(tmp_path, r"no tokenizer; .*save_pretrained")

    def test_no_weights(self, tmp_path: Path) -> None:
        (saved(tiny("bert"), tmp_path) / "model.safetensors").unlink()
        self.refused(tmp_path, "no weights; expected model.safetensors")

    def test_pickle(self, tmp_path: Path) -> None:
        folder = saved(tiny("bert"), tmp_path)
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'false'\ntR.")
        self.refused(folder, r"pickle \(pytorch_model.bin\).*refused; convert")

    def test_safetensors_are_taken_where_pickle_lies_beside(self, tmp_path: Path) -> None:
        folder = saved(tiny("bert"), tmp_path)
        (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
        assert load(folder).fingerprint == tiny("bert").fingerprint

    def test_damaged_weights(self, tmp_path: Path) -> None:
        (saved(tiny("bert"), tmp_path) / "model.safetensors").write_bytes(b"damaged")
        self.refused(tmp_path, "cannot be read")

    def test_weights_of_another_shape(self, tmp_path: Path) -> None:
        folder = saved(tiny("bert"), tmp_path)
        facts = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(facts | {"vocab_size": 7}))
        self.refused(folder, "cannot be read")

    def test_damaged_configuration(self, tmp_path: Path) -> None:
        (saved(tiny("bert"), tmp_path) / "config.json").write_text("{")
        self.refused(tmp_path, "cannot be read")

    def test_neither_pad_nor_eos(self, tmp_path: Path) -> None:
        model = tiny("llama")
        model.tokenizer.pad_token = model.tokenizer.eos_token = None
        self.refused(saved(model, tmp_path), "neither a pad nor an eos token")

    def test_unknown_name_without_network(self) -> None:
        self.refused("minilmm", r"give a folder.*did you mean 'minilm'\?$")
        self.refused("nobody/nothing", r"could not be fetched.*minilm, smollm2")


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="cuda:97"):
        load("minilm", device="cuda:97")
    monkeypatch.setenv("TRACEMEND_DEVICE", "abacus")
    with pytest.raises(ModelError, match=r"abacus.*name cpu"):
        load("minilm")
    monkeypatch.setenv("TRACEMEND_DEVICE", "cpu")
    assert load("minilm").network.device.type == "cpu"


def test_a_fine_tuned_head_that_is_not_used_is_told(tmp_path: Path) -> None:
    model = tiny("bert")
    network = BertForSequenceClassification(model.network.config)
    network.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"holds a classifier of its own \(classifier.bias, classifier.weight\)"):
        assert load(tmp_path).family == "encoder"
