"""Per-example gradients of a tuned prefix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import peft
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from tracemend.trace.gradients.layout import Part
from tracemend.trace.gradients.prompt import through_prompt_encoder
from tracemend.trace.gradients.tap import Tap


class PrefixTap(Tap):
    """Gradients at the output of the prefix encoder, [V, 2 * layers * D] an example: keys and values of every layer.

    PEFT gives the encoder one row an example, so its output needs no further care. An adapter loaded for inference
    bypasses the encoder and is not claimed.
    """

    def __init__(self, network: Any, names: frozenset[str]) -> None:
        super().__init__()
        config = network.active_peft_config
        encoder = f"prompt_encoder.{network.active_adapter}"
        self.network = network
        self.names = names
        self.shape = (int(config.num_virtual_tokens), 2 * int(config.num_layers) * int(config.token_dim))
        projected = network.prompt_encoder[network.active_adapter].prefix_projection
        self.parts = (Part(encoder if projected else f"{encoder}.embedding.weight", self.shape, "prefix"),)

    @classmethod
    def claim(cls, network: Any, free: Mapping[str, torch.nn.Parameter]) -> Self | None:
        config = network.active_peft_config
        if config.peft_type != peft.PeftType.PREFIX_TUNING or config.inference_mode:
            return None
        names = frozenset(name for name in free if name.startswith("prompt_encoder."))
        return cls(network, names) if names else None

    def hook(self) -> list[RemovableHandle]:
        def capture(module: Any, args: Any, output: Tensor) -> Tensor:
            root = output if self.live else output.detach().requires_grad_()
            self.roots = [root]
            return root

        return [self.network.prompt_encoder[self.network.active_adapter].register_forward_hook(capture)]

    def rows(self, gradients: Sequence[Tensor], batch: int) -> Tensor:
        (gradient,) = gradients
        return gradient.reshape(batch, -1).float()

    def chain(self, row: Tensor) -> dict[str, Tensor]:
        tokens = self.network.prompt_tokens[self.network.active_adapter][: self.shape[0]]
        return through_prompt_encoder(self.network, tokens, row.reshape(self.shape))
