"""What is measured: one batch of one model with one adapter, the same to the last bit in every process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import peft
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers.utils import logging as _logging

from tracemend.data import demo
from tracemend.models import LanguageModel, load, tiny
from tracemend.tuning import CompletionModel, TextClassifier
from tracemend.tuning.adapted import twin
from tracemend.tuning.adapters import attach
from tracemend.tuning.pooled import PooledClassifier

logging: Any = _logging

LABELS = ("safe", "unsafe")
VIRTUAL_TOKENS = 20
RANK = 8
# All of the attention's projections, by the names that end them.
PROJECTIONS: Mapping[str, tuple[str, ...]] = {
    "encoder": ("query", "key", "value", "attention.output.dense"),
    "decoder": ("q_proj", "k_proj", "v_proj", "o_proj"),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, an adapter and the shape of a batch.

    Attributes:
        model: ``minilm``, ``smollm2``, or ``tiny-bert`` and ``tiny-llama`` for tests.
        adapter: ``prompt`` (20 tokens), ``lora`` (rank 8, all projections of the attention), ``prefix``, ``ia3`` or
            ``head``; an encoder has a head besides.
        task: ``classify``, one label an example; ``language``, the mean loss of an example's next tokens.
        length: real tokens of every example, so that no way of padding is measured.
        precision: ``fp32``, or ``bf16`` under autocast.
    """

    model: str = "minilm"
    adapter: str = "prompt"
    task: Literal["classify", "language"] = "classify"
    length: int = 64
    batch: int = 32
    precision: Literal["fp32", "bf16"] = "fp32"
    attention: Literal["eager", "sdpa"] = "eager"
    threads: int = 2

    @property
    def spec(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def next_token_losses(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean loss of each example [B] from logits at all positions but the last [B, S - 1, V]."""
    flat = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return flat.view(len(ids), -1).mean(1)


class Wrapped(torch.nn.Module):
    """The network as other libraries want it: tensors in, one tensor out.

    Every example has the same length, so that nothing depends on the values of tensors and a decoder answers in the
    last position; it gives the logits of the label words there, or of all words in all positions but the last.
    """

    def __init__(self, classifier: TextClassifier | CompletionModel, task: str) -> None:
        super().__init__()
        self.network = classifier.network
        verbaliser = classifier.verbaliser if isinstance(classifier, TextClassifier) else None
        self.words = None if verbaliser is None else list(verbaliser.tokens)
        self.task = task
        self.masked = True

    def unmask(self) -> None:
        """Give the network no mask from now on: with one, transformers looks at its values, which vmap forbids.

        Nothing is padded here, so that the outputs stay the same.
        """
        self.masked = False
        base: Any = self.network.get_base_model()
        if isinstance(base, PooledClassifier):
            base.add_module("encoder", Unmasked(base.encoder))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        given = {"input_ids": ids, "attention_mask": mask if self.masked else None}
        if self.task == "language":
            found = self.network(**given).logits[:, -ids.shape[1] : -1]
        elif self.words is None:
            found = self.network(**given).logits
        else:
            found = self.network(**given, logits_to_keep=1).logits[:, -1, self.words]
        return found  # type: ignore[no-any-return]


class Unmasked(torch.nn.Module):
    """An encoder that is given no attention mask."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.dtype = encoder.dtype

    def forward(self, attention_mask: Tensor, **inputs: Any) -> Any:
        return self.encoder(**inputs)

    def get_input_embeddings(self) -> Any:
        return self.encoder.get_input_embeddings()


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A case with its tensors.

    Attributes:
        classifier: what Tracemend traces, in eval mode; its trainable parameters were moved off their start by a seeded
            draw, since where LoRA's B is zero half of the gradients vanish.
        model: ``classifier.network`` for libraries that want tensors.
        rows: what it is given for each example, ``case.length`` tokens.
        ids: the token ids [B, S], and ``mask`` of ones.
        targets: what ``losses`` takes: labels [B], or the ids.
    """

    case: Case
    classifier: TextClassifier | CompletionModel
    model: Wrapped
    rows: Sequence[Sequence[int]]
    y: Tensor
    ids: Tensor
    mask: Tensor

    @property
    def targets(self) -> Tensor:
        return self.ids if self.case.task == "language" else self.y

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example [B], float32, from what ``model`` gives."""
        if self.case.task == "language":
            return next_token_losses(outputs, targets)
        return cross_entropy(outputs.float(), targets, reduction="none")


def prepare(case: Case) -> Prepared:
    """Build the case: the same weights, adapter and examples under the same versions, whatever process asks."""
    torch.set_num_threads(case.threads)
    logging.set_verbosity_error()  # texts are strung together beyond a model's window, and cut afterwards
    model = (
        tiny(case.model.removeprefix("tiny-"))
        if case.model.startswith("tiny-")
        else load(case.model, attention=case.attention)
    )
    options: dict[str, Any] = {"kind": case.adapter, "virtual_tokens": VIRTUAL_TOKENS, "rank": RANK}
    made = (
        CompletionModel(model, max_length=case.length, **options)
        if case.task == "language"
        else TextClassifier(model, LABELS, max_length=case.length, **options)
    )
    if case.adapter == "lora":
        made.network = _everywhere(model)
    made.network.eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.trainable().values():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    rows = _rows(made, case)
    # A token that is not learnt stands as its complement.
    ids = torch.tensor([[token if token >= 0 else ~token for token in row] for row in rows])
    return Prepared(
        case=case,
        classifier=made,
        model=Wrapped(made, case.task).eval(),
        rows=rows,
        y=torch.arange(case.batch) % len(LABELS),
        ids=ids,
        mask=torch.ones_like(ids),
    )


def _everywhere(model: LanguageModel) -> Any:
    """LoRA on all projections of the attention, and an encoder's head."""
    encoder = model.family == "encoder"
    base = twin(model.network)
    config = peft.LoraConfig(
        task_type=peft.TaskType.SEQ_CLS if encoder else peft.TaskType.CAUSAL_LM,
        r=RANK,
        lora_alpha=2 * RANK,
        lora_dropout=0.0,
        target_modules=list(PROJECTIONS[model.family]),
        modules_to_save=["classifier"] if encoder else None,
    )
    return attach(PooledClassifier(base, len(LABELS)) if encoder else base, config, seed=0)


def _rows(classifier: TextClassifier | CompletionModel, case: Case) -> list[list[int]]:
    """Examples of exactly the length asked for, out of the demo set: several texts strung together, then cut."""
    texts = [text for text, _ in demo().train.pairs]
    # Each starts elsewhere, and is longer than any length asked for.
    strung = [" ".join((texts[i:] + texts[:i])[: case.length]) for i in range(case.batch)]
    rows, _ = classifier.encode([(text, None) for text in strung])
    found = {len(row) for row in rows}
    if found != {case.length}:
        raise ValueError(f"rows have {sorted(found)} tokens, expected {case.length}; choose a length the model takes.")
    return rows
