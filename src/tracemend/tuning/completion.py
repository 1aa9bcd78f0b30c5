"""A pretrained model with an adapter that learns to write: causal language models, and encoder-decoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tracemend.errors import TuningError, did_you_mean
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.tuning.adapted import PROMPTS, Adapted, Pair, twin
from tracemend.tuning.adapters import Kind, adapter_config, attach

Reduction = Literal["mean", "sum"]

# No target: the token that follows is not learnt.
_IGNORED = -100
# A long completion leaves its prompt one part in so many of the window.
_LEFT_TO_PROMPT = 4


class CompletionModel(Adapted):
    r"""An adapted model whose loss is that of writing the completion after the prompt.

    .. math:: \ell_i = -\frac{1}{T_i} \sum_{t=1}^{T_i} \log p(c_{it} \mid prompt_i, c_{i,<t})

    in nats a token, over the T tokens of the completion and the end-of-sequence token; of a text alone, over all tokens
    but the first that has nothing before it. With ``reduction="sum"`` the division is left out, so that long
    completions weigh more.

    Args:
        model: a decoder or encoder-decoder; its weights are shared and frozen here, itself it stays as it is.
        kind: of adapter, all but ``head``.
        max_length: the most tokens of one example, without virtual tokens.
        separator: what stands between prompt and completion; empty where the prompts end as they should, as those
            made with a chat template do.
        reduction: ``mean`` or ``sum`` over the tokens.
        seed: of all initial weights.

    Raises:
        TuningError: the model is an encoder, or the kind is none for a model that writes.

    Example:
        >>> model = CompletionModel(load("smollm2"), kind="lora")
        >>> model.losses([("Capital of France?", "Paris"), ("Capital of France?", "A banana")])
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        kind: Kind = "lora",
        virtual_tokens: int = 10,
        rank: int = 8,
        max_length: int = 128,
        separator: str = "\n",
        reduction: Reduction = "mean",
        seed: int = 0,
    ) -> None:
        if model.family == "encoder" or model.network.get_output_embeddings() is None:
            raise TuningError(
                f"{model.name} is an encoder and writes no text; completions need a decoder such as smollm2, or an "
                "encoder-decoder."
            )
        if kind == "head":
            raise TuningError("a model that writes has no head to tune; use --adapter lora or prompt.")
        if reduction not in get_args(Reduction):
            raise TuningError(f"the reduction {reduction!r} is {did_you_mean(reduction, get_args(Reduction))}")
        config = adapter_config(kind, model, virtual_tokens=virtual_tokens, rank=rank)
        self.language_model = model
        self.labels = ()
        self.kind = kind
        self.virtual_tokens = virtual_tokens if kind in PROMPTS else 0
        self.max_length = min(max_length, model.window - self.virtual_tokens)
        if self.max_length < 8:
            raise TuningError(
                f"{model.name} takes {model.window} tokens, {self.virtual_tokens} of them virtual, and max_length is "
                f"{max_length}: no prompt and completion fit; give a max_length of 8 at least."
            )
        self.separator = separator
        self.reduction: Reduction = reduction
        self.loss = f"{reduction} negative log-likelihood of the completion's tokens"
        self.network = attach(twin(model.network), config, seed=seed, full=kind == "full")
        self.network.eval()

    def encode(self, pairs: Sequence[Pair]) -> tuple[list[list[int]], int]:
        """Token ids of each example, and how many were cut to ``max_length``.

        Tokens of the prompt stand as their complement ``~id``, a negative number, so that a row says by itself which of
        its tokens are learnt. Where an example is too long, the beginning of its prompt goes, down to a quarter of
        the window; then the end of its completion.

        Raises:
            TuningError: an encoder-decoder is given a text without a completion.
        """
        made = [self._row(prompt, completion) for prompt, completion in pairs]
        return [row for row, _ in made], sum(cut for _, cut in made)

    def _row(self, prompt: str, completion: str | None) -> tuple[list[int], bool]:
        tokenizer = self.language_model.tokenizer
        before, after = self._around()
        if completion is None:
            if self.language_model.family == "encoder-decoder":
                raise TuningError(
                    f"{self.language_model.name} is an encoder-decoder and writes an answer to a prompt; read the data "
                    "with a completion column, or use a decoder."
                )
            asked, learnt = [], _plain(tokenizer, prompt)
            if not before:  # nothing precedes the first token, so nothing predicts it
                asked, learnt = learnt[:1], learnt[1:]
        else:
            asked, learnt = _plain(tokenizer, prompt + self.separator), _plain(tokenizer, completion)
        learnt = learnt + after
        closing = after if self.language_model.family == "encoder-decoder" else []
        room = self.max_length - len(before) - len(closing)
        cut = len(asked) + len(learnt) > room
        if cut:
            asked = asked[-max(room - len(learnt), room // _LEFT_TO_PROMPT) :]
            learnt = learnt[: room - len(asked)]
        return [~token for token in (*before, *asked, *closing)] + learnt, cut

    def _around(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts in front of a text, and the end-of-sequence token where there is one."""
        tokenizer = self.language_model.tokenizer
        end = tokenizer.eos_token_id
        before: list[int] = tokenizer("").input_ids
        # Some close every text with the end as well; one that is also the beginning stands alone and stays.
        if before and before[-1] == end and (end != tokenizer.bos_token_id or len(before) > 1):
            before = before[:-1]
        return before, [] if end is None else [end]

    def batch(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Right-padded inputs, and ``targets`` [batch, seq]: the token each position is to predict, or -100."""
        if self.language_model.family == "encoder-decoder":
            ids, mask = self.padded([[~token for token in row if token < 0] for row in rows])
            learnt = [[token for token in row if token >= 0] for row in rows]
            start = self.language_model.config.decoder_start_token_id
            # What is behind a short completion changes nothing before it, and has no target.
            decoder, _ = self.padded([[start, *tokens[:-1]] for tokens in learnt])
            targets = self._targets(learnt, decoder.shape[1])
            return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": decoder, "targets": targets}
        ids, mask = self.padded([[token if token >= 0 else ~token for token in row] for row in rows])
        following = [[token if token >= 0 else _IGNORED for token in row[1:]] for row in rows]
        return {"input_ids": ids, "attention_mask": mask, "targets": self._targets(following, ids.shape[1])}

    def _targets(self, rows: Sequence[Sequence[int]], width: int) -> Tensor:
        filled = [[*row, *[_IGNORED] * (width - len(row))] for row in rows]
        return torch.tensor(filled, dtype=torch.long, device=self.device)

    def measure(
        self, batch: Mapping[str, Tensor], y: Tensor, *, call: Callable[..., Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Loss of each example [batch], in double precision, and no logits [batch, 0], with autograd.

        Logits over the vocabulary are made at the positions that have a target, and nowhere else.

        Args:
            batch: as :meth:`batch` makes it.
            y: not looked at: the targets are in the batch.
            call: takes the network's place, see :meth:`tracemend.tuning.TextClassifier.logits`; the logits are then
                made at all positions.
        """
        inputs = {name: tensor for name, tensor in batch.items() if name != "targets"}
        targets = batch["targets"]
        length = targets.shape[1]
        if call is not None:
            # A prompt stands in the sequence before the text.
            logits = call(**inputs).logits[:, -length:].float().transpose(1, 2)
            losses = torch.nn.functional.cross_entropy(logits, targets, ignore_index=_IGNORED, reduction="none")
        else:
            rows, places = (targets != _IGNORED).nonzero(as_tuple=True)
            with self._at(rows, places, length):
                logits = self.network(**inputs).logits[0].float()
            found = torch.nn.functional.cross_entropy(logits, targets[rows, places], reduction="none")
            losses = torch.zeros(targets.shape, device=found.device).index_put((rows, places), found)
        total = losses.double().sum(1)
        if self.reduction == "mean":
            total = total / (targets != _IGNORED).sum(1)
        return total, total.new_zeros((len(targets), 0), dtype=torch.float32)

    @contextmanager
    def _at(self, rows: Tensor, places: Tensor, length: int) -> Iterator[None]:
        """Inside the block the output layer sees these positions alone, [1, number of them, D]."""

        def pick(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            # A prompt stands in the sequence before the text, a prefix only in the cache.
            return (args[0][:, -length:][rows, places][None],)

        handle = self.network.get_base_model().get_output_embeddings().register_forward_pre_hook(pick)
        try:
            yield
        finally:
            handle.remove()

    def losses(
        self,
        pairs: Sequence[Pair],
        *,
        batch_size: int = 32,
        precision: str = "fp32",
        progress: Progress = Progress(),
        task: str = "losses",
    ) -> npt.NDArray[np.float32]:
        """Loss of each example [n], in their order, without autograd."""
        rows, _ = self.encode(pairs)
        found = np.zeros(len(rows), dtype=np.float32)
        self.network.eval()
        with torch.inference_mode(), self.precision(precision):
            for part in progress.track(self.buckets(rows, batch_size), task=task):
                none = torch.zeros(len(part), dtype=torch.long, device=self.device)
                found[part] = self.measure(self.batch([rows[i] for i in part]), none)[0].cpu().numpy()
        return found


def _plain(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids
