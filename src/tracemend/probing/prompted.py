"""Texts in prompts, and which label's word a decoder would say next."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tracemend.errors import ProbeError
from tracemend.models import LanguageModel
from tracemend.models.likelihood import keeps_logits, logits_at
from tracemend.models.representations import padded
from tracemend.models.tokens import line_tokens, word_tokens

_BETWEEN = "\n\n"


@dataclass(frozen=True, eq=False)
class Prompter:
    """A decoder and a word for each label.

    Attributes:
        model: whose next token is asked for.
        words: of each label.
        tokens: the first token of each word behind a space.
    """

    model: LanguageModel
    words: tuple[str, ...]
    tokens: tuple[int, ...]

    @classmethod
    def make(cls, model: LanguageModel, words: Sequence[str]) -> Prompter:
        """Tokenise the words.

        Raises:
            ProbeError: two words begin with the same token.

        Example:
            >>> Prompter.make(load("smollm2"), ["negative", "positive"]).words
            ('negative', 'positive')
        """
        tokens = [word_tokens(model, word)[0] for word in words]
        if len(set(tokens)) < len(tokens):
            raise ProbeError(
                f"the words {', '.join(words)} do not all differ in their first token for {model.name}; give others "
                "(--word LABEL=WORD; in Python words=(...))."
            )
        return cls(model, tuple(words), tuple(tokens))

    def answers(
        self, template: str, texts: Sequence[str], examples: Sequence[tuple[str, int]], *, batch_size: int = 16
    ) -> npt.NDArray[np.int64]:
        """The label whose word is the most probable next one, of each text [n].

        Args:
            template: see :func:`check_template`.
            texts: to classify.
            examples: texts with labels that stand before, filled in likewise; they are read once for all texts.

        Raises:
            ProbeError: a prompt is longer than the model's window.
        """
        made = "".join(f"{self._asks(template, text)} {self.words[y]}{_BETWEEN}" for text, y in examples)
        tokenizer = self.model.tokenizer
        prefix = [int(tokenizer.bos_token_id), *tokenizer(made, add_special_tokens=False).input_ids]
        asked = [self._asks(template, text) for text in texts]
        # Behind examples as a line among lines, so that they need not be cut into tokens again with every text.
        rows = [line_tokens(self.model, one) if made else tokenizer(one, add_special_tokens=False).input_ids
                for one in asked]  # fmt: skip
        longest = len(prefix) + max(map(len, rows))
        if longest > self.model.window:
            raise ProbeError(
                f"a prompt has {longest} tokens and the window of {self.model.name} is {self.model.window}; take fewer "
                "shots, shorter templates or shorter texts."
            )
        ids, mask = padded(self.model, [prefix])
        found = np.zeros(len(rows), dtype=np.int64)
        words = torch.tensor(self.tokens, device=ids.device)
        order = np.argsort([len(row) for row in rows], kind="stable")
        with torch.inference_mode():
            read = self.model.network(input_ids=ids, attention_mask=mask, use_cache=True).past_key_values
            for begin in range(0, len(rows), batch_size):
                batch = order[begin : begin + batch_size]
                coming, seen = padded(self.model, [rows[i] for i in batch])
                # A pass writes into the cache that it is given.
                cache = deepcopy(read)
                cache.batch_repeat_interleave(len(batch))
                whole = torch.cat([mask.expand(len(batch), -1), seen], dim=1)
                rows_of, ends = torch.arange(len(batch), device=ids.device), seen.sum(1) - 1
                given = {"input_ids": coming, "attention_mask": whole, "past_key_values": cache}
                network = self.model.network
                last = logits_at(network, rows_of, ends, keeps=keeps_logits(network), **given)
                found[batch] = last[:, words].argmax(1).cpu().numpy()
        return found

    def _asks(self, template: str, text: str) -> str:
        labels = " or ".join(self.words)
        return template.replace("{labels}", labels).removesuffix("[Y]").rstrip(" ").replace("[X]", text)


def check_template(template: str) -> None:
    """Refuse a template without a place for the text, or without one for the label at its end.

    Raises:
        ProbeError: see above.

    Example:
        >>> check_template("Review: [X] Sentiment: [Y]")
    """
    if "[X]" not in template or not template.endswith("[Y]"):
        raise ProbeError(f"the template {template!r} must hold [X], the text, and end in [Y], the label.")
