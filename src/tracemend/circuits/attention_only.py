"""Decoders of attention alone, small enough to be trained on the spot on one's own texts."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from tracemend.circuits.circuit import generator
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError
from tracemend.method_runs import directory_of
from tracemend.models import LanguageModel, load, random_weights
from tracemend.models.language_model import fingerprint_of
from tracemend.models.load import quietly
from tracemend.progress import Progress

# Names of such models on the command line, and how many layers they have.
SMALL = {"attention-only-1": 1, "attention-only-2": 2}
_SPECIAL = ("<pad>", "<s>", "<unk>")
_FEWEST = 1000
_WARM = 50
_SPREAD = 0.5
# Of the rotation: with heads this small, most of its frequencies must tell near places apart.
_THETA = 100.0
# Texts whose loss is taken.
_LOOKED = 128
# Transformers initialises the MLP's empty matrices, and torch says that there is nothing to initialise.
_EMPTY = "Initializing zero-element tensors"


@dataclass(frozen=True, kw_only=True)
class AttentionOnly:
    """A decoder of one or two layers of attention, without feed-forward layers (Elhage et al. 2021).

    Llama's blocks with no hidden units in the MLP: positions enter queries and keys alone, by rotation, so that the
    stream holds tokens and nothing else. Its words are the most frequent of the texts. It is trained with AdamW on
    windows of the texts, at a rate that rises for 50 steps and then falls to 0.

    Attributes:
        layers: of attention.
        heads: a layer.
        width: of the stream.
        words: of the vocabulary, at most; other words become ``<unk>``.
        window: tokens that it reads.
        steps: of training.
        batch: windows a step.
        rate: the highest learning rate.
        seed: of weights and batches.

    Example:
        >>> model = AttentionOnly(layers=1).fit(MarkovSource.draw().texts())
    """

    layers: int = 1
    heads: int = 4
    width: int = 64
    words: int = 512
    window: int = 64
    steps: int = 800
    batch: int = 32
    rate: float = 1e-2
    seed: int = 0

    def fit(
        self,
        texts: Texts,
        *,
        progress: Progress = Progress(),
        watch: Callable[[int, LanguageModel], None] | None = None,
        every: int = 100,
    ) -> LanguageModel:
        """Train it.

        Args:
            texts: on which.
            progress: shows the steps.
            watch: called with the number of steps done and the model as it is then, before the first step, every so
                many, and after the last.
            every: how many.

        Raises:
            CircuitError: texts of another kind or with fewer than 1,000 words; sizes below 1, or heads that do not
                divide the width.
        """
        self._check(texts)
        tokenizer = _tokenizer([str(text) for text in texts.frame["text"]], self.words)
        windows = _windows(tokenizer, [str(text) for text in texts.frame["text"]], self.window)
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.filterwarnings("ignore", message=_EMPTY)
            torch.manual_seed(self.seed)
            network: Any = AutoModelForCausalLM.from_config(
                self._config(tokenizer), attn_implementation="eager", dtype=torch.float32
            )
            # Large beside what heads add, so that bigrams are learnt there and not by heads that look at themselves.
            torch.nn.init.normal_(network.get_input_embeddings().weight, std=_SPREAD)
        self._train(network, tokenizer, windows, progress, watch, every)
        return self._model(network, tokenizer)

    def _check(self, texts: Any) -> None:
        if not isinstance(texts, Texts):
            raise CircuitError(f"an attention-only model is trained on Texts, not {type(texts).__name__}.")
        sizes = {name: getattr(self, name) for name in ("layers", "heads", "width", "steps", "batch", "words")}
        low = [f"{name} {value}" for name, value in sizes.items() if value < 1]
        if low or self.window < 4 or self.width % (2 * self.heads):
            raise CircuitError(
                f"{', '.join(low) or f'{self.heads} heads in width {self.width}, window {self.window}'}: expected "
                "sizes from 1, a window from 4, and a width that twice the heads divide."
            )
        count = sum(len(str(text).split()) for text in texts.frame["text"])
        if count < _FEWEST:
            raise CircuitError(
                f"the texts have {count} words; {_FEWEST} at least are needed to train a model. Give more texts, or a "
                "model that is trained already."
            )

    def _config(self, tokenizer: PreTrainedTokenizerFast) -> Any:
        return LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=self.width, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, num_key_value_heads=self.heads, intermediate_size=0, attention_bias=True,
            max_position_embeddings=self.window, initializer_range=self.width**-0.5, pad_token_id=0, bos_token_id=1,
            eos_token_id=None, rope_parameters={"rope_type": "default", "rope_theta": _THETA},
        )  # fmt: skip

    def _train(
        self,
        network: Any,
        tokenizer: PreTrainedTokenizerFast,
        windows: Tensor,
        progress: Progress,
        watch: Callable[[int, LanguageModel], None] | None,
        every: int,
    ) -> None:
        def show(step: int) -> None:
            if watch is not None:
                network.eval()
                watch(step, self._model(network, tokenizer))
                network.train()

        random = generator(self.seed)
        for block in network.model.layers:
            # Biases of queries and keys let a head look by distance alone; one of the output would be in no table.
            block.self_attn.o_proj.bias.requires_grad_(False).zero_()
        trained = [p for p in network.parameters() if p.requires_grad]
        adam = torch.optim.AdamW(trained, lr=self.rate, betas=(0.9, 0.98), weight_decay=0.01)
        network.train()
        with torch.enable_grad():
            for step in progress.track(range(self.steps), task="train"):
                if step % every == 0:
                    show(step)
                share = min((step + 1) / _WARM, 1.0) * (1 - step / self.steps)
                adam.param_groups[0]["lr"] = self.rate * share
                ids = windows[torch.randint(len(windows), (self.batch,), generator=random)]
                logits = network(ids, use_cache=False).logits[:, :-1]
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=0)
                adam.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                adam.step()
        network.eval()
        network.requires_grad_(True)
        adam.zero_grad()
        show(self.steps)

    def _model(self, network: Any, tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
        name = f"attention-only-{self.layers}"
        return LanguageModel(
            name, "decoder", network, tokenizer, self.window, fingerprint_of(network, tokenizer=tokenizer)
        )


def has_feed_forward(model: LanguageModel) -> bool:
    """Whether its blocks have hidden units beside attention."""
    return getattr(model.config, "intermediate_size", None) != 0


def kept_model(how: AttentionOnly, texts: Texts, folder: Path, *, progress: Progress = Progress()) -> LanguageModel:
    """The model of these settings and texts from its run directory; trained and kept there if it is not there.

    Args:
        how: it is trained.
        texts: on which.
        folder: run directory; the model itself is in its folder ``model``, which any ``--model`` takes.
        progress: shows the steps.

    Raises:
        TakenError: the directory holds another run.
        CircuitError: as :meth:`AttentionOnly.fit`.
    """
    began = time.perf_counter()
    how._check(texts)
    run = directory_of(
        folder,
        command="circuits.attention-only",
        config=dataclasses.asdict(how),
        fingerprints={"data": texts.fingerprint},
    )
    if run.result is None:
        model = how.fit(texts, progress=progress)
        with quietly():
            model.network.save_pretrained(folder / "model")
            model.tokenizer.save_pretrained(folder / "model")
        run.finish(
            metrics={"loss": loss_of(model, texts)},
            controls={"untrained": {"loss": loss_of(random_weights(model, seed=how.seed), texts)}},
            seconds=time.perf_counter() - began,
        )
    return load(folder / "model")


@torch.no_grad()
def loss_of(model: LanguageModel, texts: Texts) -> float:
    """Nats a token on the first of the texts."""
    windows = _windows(model.tokenizer, [str(text) for text in texts.frame["text"][:_LOOKED]], model.window)
    logits = model.network(windows, use_cache=False).logits[:, :-1]
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), ignore_index=0))


def _tokenizer(texts: Sequence[str], words: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer: Any = trainers.WordLevelTrainer
    tokenizer.train_from_iterator(
        texts, trainer(vocab_size=words + len(_SPECIAL), special_tokens=list(_SPECIAL), show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = fast(
        tokenizer_object=tokenizer, padding_side="right", pad_token="<pad>", bos_token="<s>", unk_token="<unk>"
    )
    return made


def _windows(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], size: int) -> Tensor:
    """Texts cut into windows that begin with ``<s>``, padded, [windows, size]."""
    rows = []
    for ids in tokenizer(list(texts), add_special_tokens=False).input_ids:
        pieces = [ids[i : i + size - 1] for i in range(0, len(ids), size - 1)]
        rows += [[1, *piece, *[0] * (size - 1 - len(piece))] for piece in pieces if len(piece) > 1]
    return torch.tensor(rows)
