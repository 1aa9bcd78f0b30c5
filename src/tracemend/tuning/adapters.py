"""The adapters a classifier can be tuned with, all of them PEFT's, and tuning without one."""

from __future__ import annotations

import copy
from typing import Any, Literal, get_args

import peft
import torch
from peft.utils.constants import DUMMY_TARGET_MODULES, TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers.pytorch_utils import Conv1D

from tracemend.errors import TuningError, did_you_mean
from tracemend.models import LanguageModel

Kind = Literal["prompt", "p-tuning", "prefix", "lora", "ia3", "head", "full"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Of full tuning: the head as it was before PEFT copied it, and an encoder's own pooler.
_UNUSED = (".original_module.", ".pooler.")

_TASKS = {
    "encoder": peft.TaskType.SEQ_CLS,
    "decoder": peft.TaskType.CAUSAL_LM,
    "encoder-decoder": peft.TaskType.SEQ_2_SEQ_LM,
}


def adapter_config(kind: Kind, model: LanguageModel, *, virtual_tokens: int = 10, rank: int = 8) -> peft.PeftConfig:
    """PEFT's configuration for this kind of adapter on this model.

    Args:
        kind: ``prompt`` (Lester 2021), ``p-tuning`` (Liu 2021), ``prefix`` (Li & Liang 2021), ``lora`` (Hu 2021),
            ``ia3`` (Liu 2022), ``head`` (a linear head on the frozen encoder) or ``full`` (no adapter: every parameter
            is trained, see :func:`attach`).
        virtual_tokens: length of a prompt or prefix.
        rank: of LoRA.

    Raises:
        TuningError: no such kind, or the kind needs a head where the model classifies by verbaliser words.
    """
    if kind not in KINDS:
        raise TuningError(f"adapter {kind!r} is {did_you_mean(kind, KINDS)}")
    task = _TASKS[model.family]
    saved = ["classifier"] if model.family == "encoder" else None
    common: dict[str, Any] = {"task_type": task, "inference_mode": False}
    if kind == "head":
        if model.family != "encoder":
            raise TuningError(
                f"{model.name} is a {model.family} and classifies by words, so it has no head to tune; "
                "use --adapter lora or prompt."
            )
        # PEFT's own name for "no module gets a LoRA": what is left to train and save is the head.
        return peft.LoraConfig(**common, target_modules=DUMMY_TARGET_MODULES, modules_to_save=saved)
    if kind == "full":
        # PEFT's own name for "no module gets a LoRA" once more: its wrapper stays, so that all kinds are called alike.
        return peft.LoraConfig(**common, target_modules=DUMMY_TARGET_MODULES)
    # What PEFT looks for in a configuration is not in every one; and some embed narrower than they compute.
    shape = {
        "token_dim": model.network.get_input_embeddings().embedding_dim,
        "num_attention_heads": getattr(model.config.get_text_config(), "num_attention_heads", None),
    }
    if kind == "prompt":
        # From embeddings of real tokens: drawn from N(0, 1), as by default, a prompt starts an order of magnitude
        # longer than any word and learns slowly.
        init = peft.PromptTuningInit.SAMPLE_VOCAB
        return peft.PromptTuningConfig(**common, **shape, num_virtual_tokens=virtual_tokens, prompt_tuning_init=init)
    if kind == "p-tuning":
        return peft.PromptEncoderConfig(
            **common, **shape, num_virtual_tokens=virtual_tokens, encoder_hidden_size=model.hidden_size
        )
    if kind == "prefix":
        return peft.PrefixTuningConfig(**common, num_virtual_tokens=virtual_tokens)
    if kind == "lora":
        known = model.config.model_type in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
        return peft.LoraConfig(
            **common, r=rank, lora_alpha=2 * rank, lora_dropout=0.0, modules_to_save=saved,
            target_modules=None if known else _linear(model.network),
        )  # fmt: skip
    return peft.IA3Config(**common, modules_to_save=saved)


_ON: dict[Any, str] = {
    peft.PeftType.PROMPT_TUNING: "a soft prompt",
    peft.PeftType.P_TUNING: "p-tuning",
    peft.PeftType.PREFIX_TUNING: "a prefix",
    peft.PeftType.LORA: "LoRA",
    peft.PeftType.IA3: "IA3",
}
_ELSEWHERE = {"lora": peft.PeftType.LORA, "prompt": peft.PeftType.PROMPT_TUNING}


def _linear(network: Any) -> list[str]:
    """Every linear layer that hidden states go through: where LoRA goes on an architecture that PEFT does not know."""
    out = network.get_output_embeddings() if hasattr(network, "get_output_embeddings") else None
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not out and not any(u in f".{name}." for u in _UNUSED)
    ]


def _try(network: Any) -> None:
    """Let two tokens through: many encoders take a prefix without a word, and fail over it in the first step."""
    at = next(network.parameters()).device
    if at.type == "meta":  # weights that are not in memory answer nothing
        return
    two = torch.zeros((1, 2), dtype=torch.long, device=at)
    training = network.training
    with torch.no_grad():
        answer = {"labels": two} if getattr(network.config, "is_encoder_decoder", False) else {}
        network.eval()(input_ids=two, attention_mask=torch.ones_like(two), **answer)
    network.train(training)


def attach(base: Any, config: peft.PeftConfig, *, seed: int, full: bool = False) -> Any:
    """Wrap ``base`` with a fresh adapter, its weights drawn under ``seed``; the global random state is untouched.

    With ``full`` the wrapped network has weights of its own, in float32, and all of them are trainable but those that
    no answer depends on (a pooler beside the pooled head).

    Raises:
        TuningError: PEFT does not know where to put this adapter on this architecture, or ``full`` is asked of a
            network whose weights are not in memory.
    """
    if full:
        away = [name for name, p in base.named_parameters() if p.is_meta]
        if away:
            raise TuningError(
                f"{len(away)} parameters of {type(base).__name__} are not in memory (the first: {away[0]}), so that "
                "they cannot be tuned; load the model onto one device, or use --adapter lora."
            )
        # What is trained must not be the model that others hold, and bfloat16 has no room for small steps.
        base = copy.deepcopy(base).float()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            network = peft.get_peft_model(base, config)
            if config.peft_type == peft.PeftType.PREFIX_TUNING:
                _try(network)
        except (ValueError, RuntimeError, TypeError, AttributeError) as error:
            others = [name for name, own in _ELSEWHERE.items() if own != config.peft_type]
            raise TuningError(
                f"{_ON[config.peft_type]} cannot be put on a model of type {base.config.model_type}: "
                f"{str(error).splitlines()[0]}. "
                f"Try --adapter {' or '.join(others)}."
            ) from error
    if full:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not any(unused in name for unused in _UNUSED))
    return network
