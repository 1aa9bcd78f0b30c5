"""A pretrained model with an adapter that classifies text: one interface over three families."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax
from torch import Tensor

from tracemend.errors import TuningError
from tracemend.models import LanguageModel
from tracemend.models.likelihood import keeps_logits, logits_at
from tracemend.progress import Progress
from tracemend.tuning.adapted import PROMPTS, Adapted, Pair, twin
from tracemend.tuning.adapters import Kind, adapter_config, attach
from tracemend.tuning.pooled import PooledClassifier
from tracemend.tuning.verbaliser import Place, Verbaliser


class TextClassifier(Adapted):
    """An adapted model that gives logits over labels.

    Encoders get a pooled linear head. Decoders and encoder-decoders give the logits of one word a label at the
    answer's position, so that the softmax runs over the label words alone.

    Args:
        model: the pretrained model; its weights are shared and frozen in the classifier, itself it stays as it is.
        labels: names of the C classes.
        kind: of adapter, see :func:`tracemend.tuning.adapters.adapter_config`.
        max_length: the most tokens of one example, without virtual tokens.
        words: a word for each label (decoders, encoder-decoders).
        seed: of all initial weights.

    Attributes:
        network: the ``PeftModel``; what requires grad is the adapter and the head.

    Example:
        >>> classifier = TextClassifier(load("minilm"), ("safe", "unsafe"), kind="prompt")
        >>> classifier.probabilities([("you rock", None)]).shape
        (1, 2)
    """

    def __init__(
        self,
        model: LanguageModel,
        labels: Sequence[str],
        *,
        kind: Kind = "lora",
        virtual_tokens: int = 10,
        rank: int = 8,
        max_length: int = 128,
        words: Mapping[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        config = adapter_config(kind, model, virtual_tokens=virtual_tokens, rank=rank)
        self.loss = "cross-entropy"
        self.language_model = model
        self.labels = tuple(labels)
        self.kind: Kind = kind
        self.virtual_tokens = virtual_tokens if kind in PROMPTS else 0
        self.max_length = min(max_length, model.window - self.virtual_tokens)
        if self.max_length < 4:
            raise TuningError(
                f"{model.name} takes {model.window} tokens and {self.virtual_tokens} of them are virtual: "
                "nothing is left for text; use fewer --virtual-tokens."
            )
        self.words = words
        self.verbaliser: Verbaliser | None = None
        base = twin(model.network)
        if model.family == "encoder":
            base = PooledClassifier(base, len(self.labels), seed=seed)
        else:
            closing = model.family == "encoder-decoder"
            self.verbaliser = Verbaliser.make(model.tokenizer, self.labels, words=words, closing=closing)
            self._fit_template(model)
        self.network = attach(base, config, seed=seed, full=kind == "full")
        self.network.eval()
        self._keeps_logits = keeps_logits(base)

    def _fit_template(self, model: LanguageModel) -> None:
        """Make room for the template and a few words of text, or say that the window has none."""
        needed = self.verbaliser.length + 8 if self.verbaliser is not None else 0
        if needed > model.window - self.virtual_tokens:
            raise TuningError(
                f"the prompt around a text takes {needed} tokens and {model.name} has {model.window}, "
                f"{self.virtual_tokens} of them virtual; use shorter label names or fewer --virtual-tokens."
            )
        self.max_length = max(self.max_length, needed)

    def encode(self, pairs: Sequence[Pair]) -> tuple[list[list[int]], int]:
        """Token ids of each example, and how many texts were cut to ``max_length``.

        A reply follows its text after the encoder's separator token. Token type ids are not used: the network counts
        both as its first segment.
        """
        tokenizer = self.language_model.tokenizer
        if self.verbaliser is not None:
            made = [self.verbaliser.encode(tokenizer, text, reply, self.max_length) for text, reply in pairs]
            return [ids for ids, _ in made], sum(cut for _, cut in made)
        rows: list[list[int]] = []
        cut = 0
        for text, reply in pairs:
            first = tokenizer(text, add_special_tokens=False).input_ids
            second = None if reply is None else tokenizer(reply, add_special_tokens=False).input_ids
            full = tokenizer(text, reply, truncation=True, max_length=self.max_length).input_ids
            room = self.max_length - tokenizer.num_special_tokens_to_add(pair=second is not None)
            cut += len(first) + len(second or ()) > room
            rows.append(full)
        return rows, cut

    def places(self, pairs: Sequence[Pair]) -> list[list[Place | None]]:
        """Where each token of :meth:`encode` comes from.

        Returns:
            For each example and token: 0 and its characters ``[start, end)`` in the text, 1 and those in the reply, or
            None for a token that is of neither (CLS, the words of a prompt). Virtual tokens are no tokens of a row.
        """
        tokenizer = self.language_model.tokenizer
        if self.verbaliser is not None:
            return [self.verbaliser.places(tokenizer, text, reply, self.max_length) for text, reply in pairs]
        found: list[list[Place | None]] = []
        for text, reply in pairs:
            made = tokenizer(text, reply, truncation=True, max_length=self.max_length, return_offsets_mapping=True)
            parts = zip(made.sequence_ids(), made.offset_mapping, strict=True)
            found.append([None if part is None else (part, start, end) for part, (start, end) in parts])
        return found

    def batch(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Right-padded ``input_ids`` and ``attention_mask`` [batch, longest, up to a multiple of 8]."""
        ids, mask = self.padded(rows)
        return {"input_ids": ids, "attention_mask": mask}

    def measure(
        self, batch: Mapping[str, Tensor], y: Tensor, *, call: Callable[..., Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each example [batch], in double precision, and its :meth:`logits`, with autograd.

        In single precision the residual p - y of an example the model is sure of is all rounding, and with it the
        direction of its gradient.
        """
        logits = self.logits(batch, call=call)
        return torch.nn.functional.cross_entropy(logits.double(), y, reduction="none"), logits

    def logits(self, batch: Mapping[str, Tensor], *, call: Callable[..., Any] | None = None) -> Tensor:
        """Logits over the labels [batch, C], float32, with autograd.

        Args:
            batch: as :meth:`batch` makes it; ``inputs_embeds`` [batch, seq, D] may stand for ``input_ids``.
            call: takes the network's place, with its arguments; nothing then depends on the values of tensors, as
                ``torch.func`` demands.
        """
        network = call or self.network
        if self.verbaliser is None:
            return network(**batch).logits.float()  # type: ignore[no-any-return]
        words = torch.tensor(self.verbaliser.tokens, device=self.device)
        if self.language_model.family == "encoder-decoder":
            start = self.language_model.config.decoder_start_token_id
            begin = torch.full((len(batch["attention_mask"]), 1), start, device=self.device)
            out = network(**batch, decoder_input_ids=begin).logits
            return out[:, -1, words].float()  # type: ignore[no-any-return]
        # The last real token answers. Transformers would take the last position, which in a right-padded batch is
        # padding for all but the longest row. A prompt stands in the sequence, a prefix only in the cache.
        shift = self.virtual_tokens if self.kind in ("prompt", "p-tuning") else 0
        last = batch["attention_mask"].sum(1) - 1 + shift
        rows = torch.arange(len(last), device=self.device)
        keeps = self._keeps_logits and call is None
        return logits_at(network, rows, last, keeps=keeps, **batch)[:, words].float()

    def predict(
        self,
        pairs: Sequence[Pair],
        *,
        batch_size: int = 32,
        precision: str = "fp32",
        progress: Progress = Progress(),
        task: str = "predict",
    ) -> npt.NDArray[np.float32]:
        """Logits [n, C] of texts, in their order, without autograd."""
        rows, _ = self.encode(pairs)
        found = np.zeros((len(rows), len(self.labels)), dtype=np.float32)
        self.network.eval()
        with torch.inference_mode(), self.precision(precision):
            for part in progress.track(self.buckets(rows, batch_size), task=task):
                found[part] = self.logits(self.batch([rows[i] for i in part])).cpu().numpy()
        return found

    def probabilities(self, pairs: Sequence[Pair], **options: Any) -> npt.NDArray[np.float32]:
        """Softmax of :meth:`predict` [n, C]."""
        found: npt.NDArray[np.float32] = softmax(self.predict(pairs, **options), axis=1)
        return found
