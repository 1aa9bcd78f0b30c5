"""A pooled classification head over a bare encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


def linear_head(width: int, outputs: int, *, seed: int, device: torch.device) -> nn.Linear:
    """A fresh linear layer: weights from N(0, 1 / width) under ``seed``, the same on every device, and a bias of zero.

    Args:
        width: of what it reads.
        outputs: how many it gives.
        seed: of the weights; the global random state plays no part and is untouched.
        device: where it lies.
    """
    # As torch makes it, it would draw weights from the global random state, to be overwritten here.
    made: nn.Linear = nn.utils.skip_init(nn.Linear, width, outputs)
    with torch.no_grad():
        made.weight.normal_(0.0, width**-0.5, generator=torch.Generator().manual_seed(seed))
        made.bias.zero_()
    return made.to(device)


class PooledClassifier(PreTrainedModel):
    """Mean of the last hidden states over attended positions, then one linear layer.

    A ``PreTrainedModel``, so that PEFT's sequence-classification wrapper takes it and saves ``classifier`` with the
    adapter. Virtual prompt tokens count as attended positions.

    Args:
        encoder: a bare encoder (``AutoModel``); shared, not copied.
        num_labels: the number of classes C.
        seed: of the head's initial weights.

    Example:
        >>> from peft import PeftModel
        >>> network = PooledClassifier(load("minilm").network, num_labels=2)
        >>> PeftModel.from_pretrained(network, "runs/mine/adapter-0004")   # what plain PEFT needs
    """

    def __init__(self, encoder: PreTrainedModel, num_labels: int, seed: int = 0) -> None:
        super().__init__(encoder.config)
        self.num_labels = num_labels
        self.encoder = encoder
        self.classifier = linear_head(encoder.config.hidden_size, num_labels, seed=seed, device=encoder.device)

    @property
    def base_model(self) -> PreTrainedModel:
        """The bare encoder, whose sites are those of the classifier."""
        return self.encoder

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: Any = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **unused: Any,
    ) -> SequenceClassifierOutput:
        """Logits [batch, C] in float32.

        Args:
            attention_mask: [batch, seq], or [batch, prefix + seq] where ``past_key_values`` holds a prefix.
            past_key_values: keys and values of a tuned prefix.
            labels: class indices [batch]; the loss is the mean cross-entropy.
            num_items_in_batch: examples of the whole optimizer step, as the ``Trainer`` gives it: the loss is then this
                batch's part of their mean, so that accumulated batches add up to the step of one large batch.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None:
            raise ValueError("give input_ids or inputs_embeds")
        seq = given.shape[1]
        if attention_mask is None:
            attention_mask = torch.ones(given.shape[:2], device=given.device)
        inputs: dict[str, Any] = {"input_ids": input_ids, "inputs_embeds": inputs_embeds}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        if past_key_values is None:
            inputs["attention_mask"] = attention_mask
        else:
            # Encoders size a 2-D mask by the queries; a prefix makes the keys longer, so the mask is given in 4-D.
            rows = attention_mask[:, None, None, :].expand(-1, 1, seq, -1).to(self.encoder.dtype)
            inputs["attention_mask"] = (1.0 - rows) * torch.finfo(self.encoder.dtype).min
            inputs["past_key_values"] = past_key_values
        hidden = self.encoder(**inputs).last_hidden_state.float()
        attended = attention_mask[:, -seq:, None].float()
        pooled = (hidden * attended).sum(1) / attended.sum(1).clamp(min=1.0)
        with torch.autocast(hidden.device.type, enabled=False):
            logits = self.classifier(pooled)
        loss = None
        if labels is not None:
            each = nn.functional.cross_entropy(logits, labels, reduction="none")
            loss = each.mean() if num_items_in_batch is None else each.sum() / num_items_in_batch
        return SequenceClassifierOutput(loss=loss, logits=logits)
