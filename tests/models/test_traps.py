"""Traps of the installed transformers and PEFT that this package must step around; each test shows one.

A test that fails after an upgrade means that the trap is gone or has moved: look again at the code that avoids it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import PromptTuningConfig, TaskType, get_peft_model
from transformers import GPT2ForSequenceClassification, T5ForSequenceClassification

from tests.models.conftest import TEXTS, inputs_of
from tracemend.models import tiny

PROMPT = 3


def prompted() -> Any:
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=PROMPT)
    torch.manual_seed(0)
    return get_peft_model(tiny("gpt2").network, config).eval()


def test_pefts_prompt_is_one_row_repeated_so_hooks_on_it_see_the_batchs_sum() -> None:
    network, inputs = prompted(), inputs_of(tiny("gpt2"))
    rows: list[torch.Tensor] = []
    gradients: list[torch.Tensor] = []
    table = network.prompt_encoder["default"].embedding
    forward = table.register_forward_hook(lambda module, args, output: rows.append(output))
    backward = table.register_full_backward_hook(lambda module, given, taken: gradients.append(taken[0]))
    losses = network(**inputs).logits[:, -1].square().sum(-1)
    losses.sum().backward()
    forward.remove()
    backward.remove()
    assert rows[0].shape[0] == gradients[0].shape[0] == 1 < len(TEXTS)

    # The way around: hand the network a copy of the prompt for each example, and take the copy's gradient.
    words = network.get_input_embeddings()(inputs["input_ids"])
    copies = table.weight.detach().repeat(len(TEXTS), 1, 1).requires_grad_()
    mask = torch.cat([torch.ones(len(TEXTS), PROMPT), inputs["attention_mask"]], dim=1)
    bare = network.get_base_model()
    again = bare(inputs_embeds=torch.cat([copies, words], dim=1), attention_mask=mask).logits[:, -1].square().sum(-1)
    torch.testing.assert_close(again, losses)
    again.sum().backward()
    assert copies.grad is not None
    torch.testing.assert_close(copies.grad.sum(0, keepdim=True), gradients[0])
    assert not torch.allclose(copies.grad[0], copies.grad[1])


@torch.no_grad()
def test_with_inputs_embeds_a_classifying_decoder_pools_padding() -> None:
    tokenizer, config = tiny("gpt2").tokenizer, tiny("gpt2").config
    torch.manual_seed(0)
    network = GPT2ForSequenceClassification(config).eval()
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    lengths = inputs["attention_mask"].sum(1)
    short = int(lengths.argmin())
    right = network(**inputs).logits
    embeds = network.get_input_embeddings()(inputs["input_ids"])
    trapped = network(inputs_embeds=embeds, attention_mask=inputs["attention_mask"])
    assert not torch.allclose(trapped.logits[short], right[short])
    # It is the last position's logits, which is padding for all but the longest.
    stream = network.transformer(inputs_embeds=embeds, attention_mask=inputs["attention_mask"]).last_hidden_state
    torch.testing.assert_close(trapped.logits, network.score(stream[:, -1]))
    # The way around: pool by the attention mask.
    torch.testing.assert_close(network.score(stream[torch.arange(len(TEXTS)), lengths - 1]), right)


def test_a_classifying_t5_refuses_inputs_embeds_but_its_conditional_generation_takes_them() -> None:
    model = tiny("t5")
    inputs = inputs_of(model)
    embeds = model.network.get_input_embeddings()(inputs["input_ids"])
    with pytest.raises(NotImplementedError, match="input embeddings"):
        T5ForSequenceClassification(model.config)(inputs_embeds=embeds)
    # The way around: classify by verbaliser words, with the language model head.
    rest = {key: value for key, value in inputs.items() if key != "input_ids"}
    with torch.no_grad():
        same = model.network(inputs_embeds=embeds, **rest).logits
        torch.testing.assert_close(same, model.network(**inputs).logits)


def test_left_padding_puts_pefts_prompt_before_the_pads() -> None:
    network, tokenizer = prompted(), tiny("gpt2").tokenizer
    passed: dict[str, Any] = {}

    def spy(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        passed.update(kwargs)

    handle = network.get_base_model().register_forward_pre_hook(spy, with_kwargs=True)
    for side in ("right", "left"):
        inputs = tokenizer(TEXTS, padding=True, return_tensors="pt", padding_side=side)
        short = int(inputs["attention_mask"].sum(1).argmin())
        length = int(inputs["attention_mask"][short].sum())
        with torch.no_grad():
            network(**inputs)
        mask = passed["attention_mask"][short].tolist()
        pads = len(mask) - PROMPT - length
        gap = [1] * PROMPT + [0] * pads + [1] * length
        whole = [1] * (PROMPT + length) + [0] * pads
        # The way around is padding on the right: then the prompt and its text stand side by side.
        assert pads > 0 and mask == (gap if side == "left" else whole)
    handle.remove()
    assert tokenizer.padding_side == "right"
