"""Per-example gradients of soft prompts: prompt tuning and P-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import peft
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from tracemend.trace.gradients.layout import Part
from tracemend.trace.gradients.tap import Tap


class PromptTap(Tap):
    """Gradients at the prompt's copy in front of each example, [V, D] an example.

    PEFT makes one row of the prompt and repeats it over the batch, so hooks on the prompt itself see the sum over the
    batch. The embeddings that enter the base network still are one row an example, with the prompt in the first V
    positions (right padding).

    For P-tuning the row is the gradient at the output of the prompt encoder: that is the prompt the model sees and the
    only thing PEFT saves. :meth:`chain` carries it to the encoder's parameters, the same linear map for all examples.
    """

    def __init__(self, network: Any, names: frozenset[str]) -> None:
        super().__init__()
        config = network.active_peft_config
        encoder = f"prompt_encoder.{network.active_adapter}"
        plain = config.peft_type == peft.PeftType.PROMPT_TUNING
        self.network = network
        self.names = names
        self.shape = (int(config.num_virtual_tokens), int(config.token_dim))
        self.parts = (Part(f"{encoder}.embedding.weight" if plain else encoder, self.shape, "prompt"),)

    @classmethod
    def claim(cls, network: Any, free: Mapping[str, torch.nn.Parameter]) -> Self | None:
        if network.active_peft_config.peft_type not in (peft.PeftType.PROMPT_TUNING, peft.PeftType.P_TUNING):
            return None
        names = frozenset(name for name in free if name.startswith("prompt_encoder."))
        return cls(network, names) if names else None

    def hook(self) -> list[RemovableHandle]:
        def capture(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            root = kwargs["inputs_embeds"]
            if not self.live:
                # A leaf: the backward pass ends here, and an adapter loaded frozen is traced as well.
                root = root.detach().requires_grad_()
            self.roots = [root]
            return args, {**kwargs, "inputs_embeds": root}

        return [self.network.base_model.register_forward_pre_hook(capture, with_kwargs=True)]

    def rows(self, gradients: Sequence[Tensor], batch: int) -> Tensor:
        (gradient,) = gradients
        return gradient[:, : self.shape[0]].reshape(batch, -1).float()

    def chain(self, row: Tensor) -> dict[str, Tensor]:
        tokens = self.network.prompt_tokens[self.network.active_adapter]
        return through_prompt_encoder(self.network, tokens, row.reshape(self.shape))


def through_prompt_encoder(network: Any, tokens: Tensor, output_gradient: Tensor) -> dict[str, Tensor]:
    """Carry a gradient at the prompt encoder's output to the encoder's parameters.

    Args:
        tokens: indices of the virtual tokens as PEFT passes them.
        output_gradient: [V, width] for the first V rows of the output; the others have none.
    """
    adapter = network.active_adapter
    encoder = network.prompt_encoder[adapter]
    named = {f"prompt_encoder.{adapter}.{name}": p for name, p in encoder.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        output = encoder(tokens.to(output_gradient.device).unsqueeze(0))[0, : len(output_gradient)]
        found = torch.autograd.grad(output, list(named.values()), output_gradient.to(output.dtype))
    return dict(zip(named, found, strict=True))
