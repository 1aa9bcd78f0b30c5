"""Load a Hugging Face model from the hub, a local folder or a Python package."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils import logging as _logging

from tracemend.errors import ModelError, did_you_mean
from tracemend.models.embedded import EmbeddedModel, embedded
from tracemend.models.gguf_weights import read_gguf
from tracemend.models.language_model import Family, LanguageModel, fingerprint_of

logging: Any = _logging

Attention = Literal["eager", "sdpa"]

# Longer windows than this cost memory that a laptop lacks; T5 has relative positions and was trained on 512.
_LONGEST = 2048
_WITHOUT_POSITIONS = 512
_MAKERS: dict[Family, Any] = {
    "encoder": AutoModel,
    "decoder": AutoModelForCausalLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
}


def load(
    name: str | Path,
    *,
    revision: str | None = None,
    attention: Attention = "eager",
    device: str | None = None,
    masked: bool = False,
) -> LanguageModel:
    """Load a pretrained model in float32 and eval mode, with a fast tokenizer that pads on the right.

    Args:
        name: an embedded model (``minilm``, ``smollm2``), a folder that ``save_pretrained`` wrote, or a hub id.
        revision: branch, tag or commit on the hub.
        attention: ``eager`` gives attention patterns, and on a CPU its backward pass in bfloat16 is the faster one;
            ``sdpa`` needs less memory on long inputs.
        device: such as ``cpu`` or ``cuda:1``; by default what the variable TRACEMEND_DEVICE names, else this process's
            GPU where there is one, else the CPU.
        masked: load an encoder with its masked language model head, which gives probabilities of words.

    Raises:
        ModelError: no such model or device, no network to fetch it, no tokenizer, or weights that are not safetensors.

    Example:
        >>> load("minilm").family, load("smollm2").family
        ('encoder', 'decoder')
    """
    name = str(name)
    place = device_named(device)
    known = embedded()
    # Transformers draws random numbers for tensors that a checkpoint lacks; the user's seed is not for that.
    with quietly(), torch.random.fork_rng(devices=[]):
        if name in known:
            model = _load_embedded(known[name], attention, masked)
        else:
            if Path(name).is_dir():
                _check_folder(Path(name))
            model = _load_pretrained(name, revision, attention, masked)
        model.network.to(place)
        return model


def device_named(name: str | None = None) -> torch.device:
    """The device of that name, of the variable TRACEMEND_DEVICE, or this process's own (``LOCAL_RANK``).

    Raises:
        ModelError: the machine has no such device.
    """
    name = name or os.environ.get("TRACEMEND_DEVICE") or "auto"
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % gpus) if gpus else torch.device("cpu")
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"the device {name!r} cannot be used here ({str(error).splitlines()[0]}); name cpu"
            f"{''.join(f', cuda:{i}' for i in range(gpus))}, or none."
        ) from error
    return found


def family_of(config: Any) -> Family:
    """The family of a transformers configuration.

    ``is_encoder_decoder`` decides first. A model type that has a masked language model head (BERT, RoBERTa ...) is
    an encoder, although transformers offers a causal head for most of these too, unless ``is_decoder`` is set or
    the architecture it was saved with is a causal one. A model type with only a causal head is a decoder. All else
    is an encoder.
    """
    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    kind = config.model_type
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        saved_as = " ".join(getattr(config, "architectures", None) or [])
        causal = getattr(config, "is_decoder", False) or "CausalLM" in saved_as or "LMHeadModel" in saved_as
        return "decoder" if causal else "encoder"
    return "decoder" if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else "encoder"


def _load_pretrained(name: str, revision: str | None, attention: Attention, masked: bool) -> LanguageModel:
    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
        family = family_of(config)
        network = _network(name, family, attention, masked, revision=revision)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(_why_not(name, error)) from error
    return _finished(name, family, network, _tokenizer(name, revision=revision))


# How the weights of a fine-tuned head begin.
_HEADS = ("score.", "classifier.", "classification_head.", "qa_outputs.")


def _network(place: str | Path, family: Family, attention: Attention, masked: bool, **where: Any) -> Any:
    _check_maskable(place, family, masked)
    maker: Any = AutoModelForMaskedLM if masked else _MAKERS[family]
    network, report = maker.from_pretrained(
        place,
        dtype=torch.float32,
        use_safetensors=True,
        attn_implementation=attention,
        output_loading_info=True,
        **where,
    )
    unused = sorted(key for key in report["unexpected_keys"] if key.startswith(_HEADS))
    if unused:
        warnings.warn(
            f"{place} holds a classifier of its own ({', '.join(unused[:3])}), which is not used: it is loaded as a "
            f"{type(network).__name__}. What is tuned and explained is a head made anew, or the words it predicts.",
            stacklevel=2,
        )
    missing = sorted(report["missing_keys"])
    # Checkpoints saved from a masked language model have no pooler; nothing here uses one, but what transformers
    # fills in is random and would make the fingerprint so.
    for key in missing:
        if key.startswith("pooler."):
            torch.nn.init.zeros_(network.get_parameter(key))
    lost = [key for key in missing if not key.startswith("pooler.")]
    if lost:
        raise ModelError(
            f"the weights of {place} lack {len(lost)} tensors of {type(network).__name__} ({', '.join(lost[:3])} ...), "
            "which would be random; give a checkpoint that was saved with its language model head."
        )
    return network


def _check_maskable(place: str | Path, family: Family, masked: bool) -> None:
    if masked and family != "encoder":
        raise ModelError(f"{place} is a {family}, which predicts no masked words; load it without masked=True.")


def _load_embedded(model: EmbeddedModel, attention: Attention, masked: bool) -> LanguageModel:
    weights = model.verified()
    if weights.suffix != ".gguf":
        family = family_of(AutoConfig.from_pretrained(weights.parent))
        network = _network(weights.parent, family, attention, masked)
        return _finished(model.name, family, network, _tokenizer(weights.parent), model.sha256)
    _check_maskable(model.name, "decoder", masked)
    config, state = read_gguf(weights)
    maker: Any = LlamaForCausalLM
    network = maker.from_pretrained(
        None, config=config, state_dict=state, dtype=torch.float32, attn_implementation=attention
    )
    # AutoTokenizer would read the whole file for a configuration that names no class of tokenizer.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(weights.parent, gguf_file=weights.name)
    return _finished(model.name, "decoder", network, tokenizer, model.sha256)


def _tokenizer(place: str | Path, **where: Any) -> Any:
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(place, use_fast=True, **where)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{place} has no tokenizer that can be read; save it there with tokenizer.save_pretrained(...), "
            "tokenizer.json included."
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"the tokenizer of {place} is a slow one ({type(tokenizer).__name__}); tracemend needs its fast form "
            "(tokenizer.json), for the places of words in the text."
        )
    return tokenizer


def _finished(name: str, family: Family, network: Any, tokenizer: Any, weights: str | None = None) -> LanguageModel:
    tokenizer.padding_side = "right"
    # A tokenizer.json may come with a fixed length of its own (minilm's pads and cuts at 128).
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    rows = network.get_input_embeddings().weight.shape[0]
    # A pad token may have been added without a row of its own; what it stands for is masked in any case.
    if tokenizer.pad_token is None or tokenizer.pad_token_id >= rows:
        if tokenizer.eos_token is None or tokenizer.eos_token_id >= rows:
            raise ModelError(
                f"the tokenizer of {name} has neither a pad nor an eos token among the model's {rows}; set its "
                "pad_token to one of them and save it."
            )
        tokenizer.pad_token = tokenizer.eos_token
    network.eval()
    window = _window(network, tokenizer)
    return LanguageModel(name, family, network, tokenizer, window, fingerprint_of(network, weights, tokenizer))


def _window(network: Any, tokenizer: Any) -> int:
    positions = getattr(network.config, "max_position_embeddings", None) or _WITHOUT_POSITIONS
    for path, module in network.named_modules():
        # RoBERTa and its kin count positions from behind the padding index, so the first rows are no positions.
        if path.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= module.padding_idx + 1
    return int(min(positions, tokenizer.model_max_length, _LONGEST))


def _check_folder(folder: Path) -> None:
    """Say what a model folder lacks before transformers does."""
    if not (folder / "config.json").is_file():
        adapter = (
            " It holds a PEFT adapter; name the model it was tuned from." * (folder / "adapter_config.json").is_file()
        )
        raise ModelError(f"{folder} has no config.json, so it is not a model folder of transformers.{adapter}")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.glob(pattern))
        if pickled:
            raise ModelError(
                f"{folder} has its weights only as pickle ({pickled[0]}), which can run code when it is read and is "
                "refused; convert them: load the model where you trust it and call "
                "model.save_pretrained(folder), which writes safetensors."
            )
        raise ModelError(f"{folder} has no weights; expected model.safetensors (or its shards).")
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt")):
        raise ModelError(
            f"{folder} has no tokenizer; save it there with tokenizer.save_pretrained({str(folder)!r}), "
            "tokenizer.json included."
        )


def _why_not(name: str, error: Exception) -> str:
    said = str(error)
    if "safetensors" in said and "/" in name:
        return f"{name} has no safetensors weights; pickle weights are refused. Choose a revision with safetensors."
    if Path(name).is_dir():
        return f"the model in {name} cannot be read: {said}"
    return (
        f"no model {name!r}: it is no folder here, and as a hub id it could not be fetched. With a network, give a hub "
        "id such as 'google/bert_uncased_L-2_H-128_A-2'; without one, give a folder that holds config.json, "
        f"model.safetensors and tokenizer.json, or an embedded model: it is {did_you_mean(name, embedded())}"
    )


@contextmanager
def quietly() -> Iterator[None]:
    """Keep transformers' bars and reports of unused weights off the user's screen while loading or saving."""
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            # Of matrices of no size, such as those of an MLP without hidden units.
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
