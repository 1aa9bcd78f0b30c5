"""Run a decoder from one of its blocks on: what a change in layer l does, without computing the layers below again.

A change at block l of a causal network leaves all blocks below it as they were, so their work can be done once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tracemend.errors import ModelError
from tracemend.models.language_model import LanguageModel
from tracemend.models.sites import site, sites, trunk


class Replay:
    """One text, run once, from which the network can go on at any block with another stream.

    Args:
        model: a decoder.
        ids: token ids of one text, [1, pos].
        embeds: in place of the embeddings of ``ids``, [1, pos, d_model].

    Attributes:
        streams: the stream before each block, and after the last one: layers + 1 tensors of [1, pos, d_model].
        logits: of every position, [1, pos, vocab].

    Raises:
        ModelError: not a decoder, or several texts at once.

    Example:
        >>> clean = Replay(model, ids)
        >>> changed = clean.streams[3].clone()
        >>> changed[:, -1] = 0
        >>> clean.run(3, changed)        # logits of the last position, [1, vocab], through blocks 3, 4 ...
    """

    def __init__(self, model: LanguageModel, ids: Tensor, *, embeds: Tensor | None = None) -> None:
        if model.family != "decoder":
            raise ModelError(f"{model.name} is an {model.family}; only a decoder can be run from a block on.")
        if ids.ndim != 2 or ids.shape[0] != 1:
            raise ModelError(f"the token ids have shape {tuple(ids.shape)}; expected one text, [1, pos].")
        self.model = model
        bare = trunk(model)
        layers = sum(s.name.endswith(".hook_resid_post") for s in sites(model))
        self.blocks: list[nn.Module] = [
            bare.get_submodule(site(model, f"blocks.{i}.hook_resid_post").module) for i in range(layers)
        ]
        self.norm: nn.Module = bare.get_submodule(site(model, "ln_final.hook_normalized").module)
        self.streams: list[Tensor] = []
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        handles = [block.register_forward_pre_hook(self._note, with_kwargs=True) for block in self.blocks]
        handles.append(self.norm.register_forward_pre_hook(self._end))
        given = {"input_ids": ids} if embeds is None else {"inputs_embeds": embeds}
        try:
            with torch.no_grad():
                self.logits: Tensor = model.network(**given, use_cache=False).logits
        finally:
            for handle in handles:
                handle.remove()

    def run(self, layer: int, stream: Tensor, *, positions: Sequence[int] | slice | None = None) -> Tensor:
        """Go on from before block ``layer`` with this stream, [batch, pos, d_model]; hooks and edits act as always.

        Args:
            layer: 0 to the number of layers; the latter is the end of the last block.
            stream: a batch of variants of the text's stream.
            positions: whose logits are returned; by default of the last one alone, without that dimension.

        Returns:
            [batch, vocab], or [batch, positions, vocab].
        """
        return self.logits_of(self.run_blocks(layer, stream), positions=positions)

    def run_blocks(self, layer: int, stream: Tensor, *, until: int | None = None) -> Tensor:
        """The stream before block ``until`` (by default after the last), [batch, pos, d_model]."""
        for block, (args, kwargs) in list(zip(self.blocks, self._calls, strict=True))[layer:until]:
            # With a list of keys and values that was made for one run, a second one would see double.
            out = block(stream, *args, **kwargs)
            stream = out[0] if isinstance(out, tuple) else out
        return stream

    def logits_of(self, stream: Tensor, *, positions: Sequence[int] | slice | None = None) -> Tensor:
        """Logits from the stream after the last block; see :meth:`run`."""
        wanted = stream[:, -1] if positions is None else stream[:, positions]
        head: nn.Module = self.model.network.get_output_embeddings()
        found: Tensor = head(self.norm(wanted))
        return found

    def _note(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        named = {k: v for k, v in kwargs.items() if k != "hidden_states"}
        self.streams.append((args[0] if args else kwargs["hidden_states"]).detach())
        self._calls.append((args[1:], named))

    def _end(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self.streams.append(args[0].detach())
