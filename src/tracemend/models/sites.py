"""Sites: the addressable activations of a network, named as transformer-lens names them.

The table is `ARCHITECTURES`: for each architecture, where in transformers' own modules every site can be read and
written. ``hook_resid_pre`` and ``hook_resid_post`` are always the input and output of a block (transformers'
``hidden_states``); in a post-norm network (BERT) the stream includes the layer norm that closes each half.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tracemend.errors import ModelError, did_you_mean
from tracemend.models.language_model import LanguageModel

STREAM = "[batch, pos, d_model]"
INNER = "[batch, pos, d_mlp]"
HEADS = "[batch, pos, head, d_head]"
PATTERN = "[batch, head, query_pos, key_pos]"


@dataclass(frozen=True, kw_only=True)
class Site:
    """One activation and where it passes.

    A room with an activation of its own (features of a sparse autoencoder, say) subclasses this, overrides
    :meth:`read` and :meth:`write`, and registers it with :func:`register_site`.

    Attributes:
        name: such as ``blocks.5.attn.hook_z``.
        module: path of the module that holds it, below the bare transformer.
        side: whether it is that module's input or output.
        index: which member, where the module returns a tuple.
        part: ``(k, n)``: the k-th of n equal slices of the last dimension (GPT-2 computes q, k and v in one).
        heads: the number of heads that the last dimension is divided into, if it is.
        by_head: whether the slices of ``part`` lie within each head (GPT-NeoX) instead of one after another (GPT-2).
        editable: whether what is written back is what the network goes on with.
        shape: in words.
    """

    name: str
    module: str
    side: Literal["input", "output"] = "output"
    index: int = 0
    part: tuple[int, int] | None = None
    heads: int | None = None
    by_head: bool = False
    editable: bool = True
    shape: str = STREAM

    def read(self, whole: Tensor) -> Tensor:
        """The site's activation, a view of the tensor that passes through the module."""
        if self.part is None:
            return whole if self.heads is None else whole.unflatten(-1, (self.heads, -1))
        k, n = self.part
        if self.by_head:
            return torch.chunk(self._by_head(whole), n, dim=-1)[k]
        found = torch.chunk(whole, n, dim=-1)[k]
        return found if self.heads is None else found.unflatten(-1, (self.heads, -1))

    def write(self, whole: Tensor, new: Tensor) -> Tensor:
        """The tensor that passes on when the activation becomes ``new`` (of the shape of :meth:`read`)."""
        if self.part is None:
            return new if self.heads is None else new.flatten(-2)
        k, n = self.part
        if self.by_head:
            parts = list(self._by_head(whole).chunk(n, dim=-1))
            parts[k] = new
            return torch.cat(parts, dim=-1).flatten(-2)
        parts = list(whole.chunk(n, dim=-1))
        parts[k] = new if self.heads is None else new.flatten(-2)
        return torch.cat(parts, dim=-1)

    def _by_head(self, whole: Tensor) -> Tensor:
        if self.heads is None:
            raise ModelError(f"site {self.name!r} has its slices within heads but names no number of heads.")
        found: Tensor = whole.unflatten(-1, (self.heads, -1))
        return found


# Which head count of the configuration divides a site; replaced by the number when the table is read.
_Q, _KV = -1, -2


def _block(
    block: str, *, attn: str, q: str, k: str, v: str, z: str, pattern: tuple[str, int], attn_out: str,
    mlp_in: str, mlp_mid: str, mlp_out: str,
) -> tuple[Site, ...]:  # fmt: skip
    """The sites that every architecture has, given the paths of one block's modules."""
    attn = f"{block}.{attn}"
    return (
        Site(name="blocks.{i}.hook_resid_pre", module=block, side="input"),
        Site(name="blocks.{i}.attn.hook_q", module=f"{attn}.{q}", heads=_Q, shape=HEADS),
        Site(name="blocks.{i}.attn.hook_k", module=f"{attn}.{k}", heads=_KV, shape=HEADS),
        Site(name="blocks.{i}.attn.hook_v", module=f"{attn}.{v}", heads=_KV, shape=HEADS),
        # A module returns its pattern after it has used it, so writing it back would change nothing.
        Site(name="blocks.{i}.attn.hook_pattern", module=f"{block}.{pattern[0]}", index=pattern[1],
             editable=False, shape=PATTERN),
        Site(name="blocks.{i}.attn.hook_z", module=f"{block}.{z}", side="input", heads=_Q, shape=HEADS),
        Site(name="blocks.{i}.hook_attn_out", module=f"{block}.{attn_out}"),
        Site(name="blocks.{i}.mlp.hook_pre", module=f"{block}.{mlp_in}", shape=INNER),
        Site(name="blocks.{i}.mlp.hook_post", module=f"{block}.{mlp_mid}", side="input", shape=INNER),
        Site(name="blocks.{i}.hook_mlp_out", module=f"{block}.{mlp_out}"),
        Site(name="blocks.{i}.hook_resid_post", module=block),
    )  # fmt: skip


def _norms(first: str, second: str) -> tuple[Site, ...]:
    return (
        Site(name="blocks.{i}.ln1.hook_normalized", module=first),
        Site(name="blocks.{i}.ln2.hook_normalized", module=second),
    )


def _fused(sites: tuple[Site, ...], *, by_head: bool = False) -> tuple[Site, ...]:
    order = {"hook_q": 0, "hook_k": 1, "hook_v": 2}
    found = []
    for site in sites:
        k = order.get(site.name.rpartition(".")[2])
        found.append(site if k is None else replace(site, part=(k, 3), by_head=by_head))
    return tuple(found)


# The stream between attention and MLP is also added to the MLP's output further on, past every module: where a
# block adds inline (GPT-2, Llama), it can be read before the second norm but not edited.
_LLAMA = (
    Site(name="hook_embed", module="embed_tokens"),
    *_block("layers.{i}", attn="self_attn", q="q_proj", k="k_proj", v="v_proj", z="self_attn.o_proj",
            pattern=("self_attn", 1), attn_out="self_attn", mlp_in="mlp.gate_proj", mlp_mid="mlp.down_proj",
            mlp_out="mlp"),
    *_norms("layers.{i}.input_layernorm", "layers.{i}.post_attention_layernorm"),
    Site(name="blocks.{i}.hook_resid_mid", module="layers.{i}.post_attention_layernorm", side="input", editable=False),
    Site(name="blocks.{i}.mlp.hook_pre_linear", module="layers.{i}.mlp.up_proj", shape=INNER),
    Site(name="ln_final.hook_normalized", module="norm"),
)  # fmt: skip

_GPT2 = (
    Site(name="hook_embed", module="wte"),
    *_fused(_block("h.{i}", attn="attn", q="c_attn", k="c_attn", v="c_attn", z="attn.c_proj", pattern=("attn", 1),
                   attn_out="attn", mlp_in="mlp.c_fc", mlp_mid="mlp.c_proj", mlp_out="mlp")),
    *_norms("h.{i}.ln_1", "h.{i}.ln_2"),
    Site(name="blocks.{i}.hook_resid_mid", module="h.{i}.ln_2", side="input", editable=False),
    Site(name="ln_final.hook_normalized", module="ln_f"),
)  # fmt: skip

# Attention and MLP may read the same stream side by side; then there is nothing between them (see `_table`).
_NEOX = (
    Site(name="hook_embed", module="embed_in"),
    *_fused(_block("layers.{i}", attn="attention", q="query_key_value", k="query_key_value", v="query_key_value",
                   z="attention.dense", pattern=("attention", 1), attn_out="attention", mlp_in="mlp.dense_h_to_4h",
                   mlp_mid="mlp.dense_4h_to_h", mlp_out="mlp"), by_head=True),
    *_norms("layers.{i}.input_layernorm", "layers.{i}.post_attention_layernorm"),
    Site(name="blocks.{i}.hook_resid_mid", module="layers.{i}.post_attention_layernorm", side="input", editable=False),
    Site(name="ln_final.hook_normalized", module="final_layer_norm"),
)  # fmt: skip

_BERT = (
    Site(name="hook_embed", module="embeddings.word_embeddings"),
    *_block("encoder.layer.{i}", attn="attention.self", q="query", k="key", v="value", z="attention.output.dense",
            pattern=("attention.self", 1), attn_out="attention.output.dense", mlp_in="intermediate.dense",
            mlp_mid="output.dense", mlp_out="output.dense"),
    Site(name="blocks.{i}.hook_resid_mid", module="encoder.layer.{i}.attention"),
)  # fmt: skip


def _t5_stack(stack: str, name: str, mlp: int) -> tuple[Site, ...]:
    attention, block = "layer.0.SelfAttention", stack + ".block.{i}"
    sites = (
        Site(name="hook_embed", module=f"{stack}.embed_tokens"),
        *_block(block, attn=attention, q="q", k="k", v="v", z=f"{attention}.o", pattern=(attention, 2),
                attn_out=attention, mlp_in=f"layer.{mlp}.DenseReluDense.wi",
                mlp_mid=f"layer.{mlp}.DenseReluDense.wo", mlp_out=f"layer.{mlp}.DenseReluDense"),
        *_norms(f"{block}.layer.0.layer_norm", f"{block}.layer.{mlp}.layer_norm"),
        Site(name="blocks.{i}.hook_resid_mid", module=f"{block}.layer.0"),
        Site(name="ln_final.hook_normalized", module=f"{stack}.final_layer_norm"),
    )  # fmt: skip
    return tuple(replace(site, name=name + site.name) for site in sites)


_CROSS = "decoder.block.{i}.layer.1.EncDecAttention"
_T5 = (
    *_t5_stack("encoder", "", mlp=1),
    *_t5_stack("decoder", "decoder.", mlp=2),
    *(
        Site(name="decoder.blocks.{i}.cross_attn.hook_" + letter, module=f"{_CROSS}.{letter}", heads=_Q, shape=HEADS)
        for letter in "qkv"
    ),
    Site(name="decoder.blocks.{i}.cross_attn.hook_pattern", module=_CROSS, index=2, editable=False, shape=PATTERN),
    Site(name="decoder.blocks.{i}.cross_attn.hook_z", module=f"{_CROSS}.o", side="input", heads=_Q, shape=HEADS),
    Site(name="decoder.blocks.{i}.hook_cross_attn_out", module=_CROSS),
    Site(name="decoder.blocks.{i}.hook_resid_mid_cross", module="decoder.block.{i}.layer.1"),
)

# By transformers' model_type. A type belongs here only if its blocks add attention and MLP to the stream as its
# namesake's do (Gemma 2, say, has Llama's module names with further norms between).
ARCHITECTURES: dict[str, tuple[Site, ...]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma"), _LLAMA),
    "gpt2": _GPT2,
    "gpt_neox": _NEOX,
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), _BERT),
    **dict.fromkeys(("t5", "mt5"), _T5),
}

# Sites that rooms add, for as long as the network lives; nothing is hung on the network itself.
_REGISTERED: WeakKeyDictionary[nn.Module, dict[str, Site]] = WeakKeyDictionary()
# The table of each network with what it was read from: to look hundreds of modules up for each site would cost more
# than the network.
_TABLES: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], dict[str, Site]]] = WeakKeyDictionary()


def trunk(model: LanguageModel | nn.Module) -> PreTrainedModel:
    """The bare transformer inside a model, also one with a head, a PEFT adapter or a wrapper around it.

    Raises:
        ModelError: there is none.
    """
    network = model.network if isinstance(model, LanguageModel) else model
    for module in network.modules():
        if isinstance(module, PreTrainedModel):
            # A property of transformers that its types do not carry: the same module where there is no head.
            bare: Any = module.base_model
            return cast("PreTrainedModel", bare)
    raise ModelError(f"{type(network).__name__} holds no transformers model, so it has no sites.")


def sites(model: LanguageModel | nn.Module) -> list[Site]:
    """All sites of a model, layer by layer.

    Raises:
        ModelError: no sites are known for its architecture.

    Example:
        >>> [s.name for s in sites(tiny("gpt2")) if s.name.endswith("hook_z")]
        ['blocks.0.attn.hook_z', 'blocks.1.attn.hook_z']
    """
    return list(_table(trunk(model)).values())


def site(model: LanguageModel | nn.Module, name: str) -> Site:
    """The site of that name.

    Raises:
        ModelError: there is none; the message names the valid forms.
    """
    table = _table(trunk(model))
    if name in table:
        return table[name]
    forms = {re.sub(r"\bblocks\.\d+\b", "blocks.{i}", known): None for known in table}
    form = re.sub(r"\bblocks\.-?\d+\b", "blocks.{i}", name)
    if form in forms:
        layers = sum(re.sub(r"\bblocks\.\d+\b", "blocks.{i}", known) == form for known in table)
        raise ModelError(f"site {name!r}: the model has blocks 0 to {layers - 1}.")
    near = get_close_matches(name, table, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise ModelError(f"site {name!r} is not one of: {', '.join(forms)}{meant}")


def register_site(model: LanguageModel | nn.Module, new: Site) -> None:
    """Make a further site of one model addressable by name, for as long as the model lives.

    Raises:
        ModelError: the model has another site of that name, or no module of that path.
    """
    bare = trunk(model)
    if not _has(bare, new.module):
        raise ModelError(f"{new.name!r}: {type(bare).__name__} has no module {new.module!r}.")
    if _table(bare).get(new.name, new) != new:
        raise ModelError(f"the model has a site named {new.name!r} already; choose another name.")
    _REGISTERED.setdefault(bare, {})[new.name] = new


def registered(model: LanguageModel | nn.Module) -> list[Site]:
    """The sites that were added to a model with :func:`register_site`."""
    return list(_REGISTERED.get(trunk(model), {}).values())


def _table(bare: PreTrainedModel) -> dict[str, Site]:
    config: Any = bare.config
    if config.model_type not in ARCHITECTURES:
        raise ModelError(
            f"no sites are known for the architecture {config.model_type!r}: it is "
            f"{did_you_mean(config.model_type, ARCHITECTURES)}"
        )
    query = config.num_attention_heads
    heads = {None: None, _Q: query, _KV: getattr(config, "num_key_value_heads", None) or query}
    shape = (config.model_type, *heads.values(), config.num_hidden_layers, getattr(config, "num_decoder_layers", None))
    known = _TABLES.get(bare)
    if known is None or known[0] != shape:
        known = _TABLES[bare] = (shape, _read(bare, heads))
    return known[1] | _REGISTERED.get(bare, {})


def _read(bare: PreTrainedModel, heads: dict[int | None, int | None]) -> dict[str, Site]:
    config: Any = bare.config
    found = {}
    parallel = getattr(config, "use_parallel_residual", False)
    for row in ARCHITECTURES[config.model_type]:
        if parallel and row.name.endswith("hook_resid_mid"):
            continue
        layers = range(_layers(config, row)) if "{i}" in row.module else range(1)
        for i in layers:
            name, module = row.name.replace("{i}", str(i)), row.module.replace("{i}", str(i))
            if module.endswith("DenseReluDense.wi") and config.is_gated_act:
                module += "_0"
            # A part of an architecture (the encoder of a T5, say) has a part of the sites.
            if _has(bare, module):
                found[name] = replace(row, name=name, module=module, heads=heads[row.heads])
    return found


def _layers(config: Any, row: Site) -> int:
    return int(config.num_decoder_layers if row.name.startswith("decoder.") else config.num_hidden_layers)


def _has(bare: nn.Module, path: str) -> bool:
    try:
        bare.get_submodule(path)
    except AttributeError:
        return False
    return True
