"""Parameter-efficient tuning of a text classifier, resumable and exact under its seed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tracemend.data import Labelled
from tracemend.errors import TuningError
from tracemend.evaluate import average_precision
from tracemend.fields import check_fields
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.tuning.adapted import Adapted
from tracemend.tuning.adapters import Kind
from tracemend.tuning.checkpoints import Checkpoint, resume_optimizer, save_checkpoint, second_moments, unbroken
from tracemend.tuning.classifier import TextClassifier

# Learning rates that measured best on surge-toxicity. Of full tuning, 3e-5 to 3e-4 were alike on
# uci_sentiment_sentences.
LEARNING_RATES: Mapping[Kind, float] = {
    "prompt": 1e-2,
    "p-tuning": 2e-3,
    "prefix": 1e-2,
    "lora": 2e-3,
    "ia3": 1e-2,
    "head": 1e-2,
    "full": 1e-4,
}

_AT_LEAST = dict.fromkeys(("epochs", "batch_size", "max_length", "virtual_tokens", "rank"), 1)


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How to tune.

    Attributes:
        adapter: kind of adapter.
        epochs: passes over the training set, at most.
        learning_rate: peak; None takes the adapter's own from ``LEARNING_RATES``.
        warmup: share of the steps over which the rate rises linearly; it falls linearly to a tenth afterwards.
        patience: epochs without a better validation AP before it stops; 0 never stops early.
        class_weights: weigh classes inversely to their frequency. A trace of the checkpoints takes the loss without
            weights: its cosines are the same, its plain products lack the weight of each training example's class.
        precision: ``bf16`` (autocast), ``fp32``, or ``auto``: bf16 where the processor computes in it.
        max_length: tokens of an example, without virtual tokens.
        words: a word for each label, for models that classify by words.

    Raises:
        TuningError: a value that the field cannot have.
    """

    adapter: Kind = "lora"
    epochs: int = 8
    batch_size: int = 16
    learning_rate: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.1
    patience: int = 3
    class_weights: bool = False
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    max_length: int = 128
    virtual_tokens: int = 10
    rank: int = 8
    words: Mapping[str, str] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, TuningError, at_least=_AT_LEAST)
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise TuningError(f"learning_rate is {self.learning_rate}; it must be above 0, such as 0.002.")
        if self.patience < 0:
            raise TuningError(f"patience is {self.patience}; it is a number of epochs, and 0 never stops early.")
        if not 0 <= self.warmup <= 1:
            raise TuningError(f"warmup is {self.warmup}; it is a share of the steps, from 0 to 1.")

    @property
    def rate(self) -> float:
        """The peak learning rate."""
        return self.learning_rate if self.learning_rate is not None else LEARNING_RATES[self.adapter]

    @property
    def config(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    def classifier(self, model: LanguageModel, labels: tuple[str, ...]) -> TextClassifier:
        """A fresh classifier, before its first step."""
        return TextClassifier(
            model,
            labels,
            kind=self.adapter,
            virtual_tokens=self.virtual_tokens,
            rank=self.rank,
            max_length=self.max_length,
            words=self.words,
            seed=self.seed,
        )


@dataclass(frozen=True, eq=False)
class Tuned:
    """A tuned classifier, at its best checkpoint.

    Attributes:
        classifier: with the parameters of ``best``.
        checkpoints: earliest first, one an epoch.
        best: the checkpoint with the highest validation AP.
        notes: sentences for the report.
    """

    classifier: TextClassifier
    tuning: Tuning
    checkpoints: list[Checkpoint]
    best: Checkpoint
    seconds: float
    notes: tuple[str, ...] = field(default=())

    def until_best(self) -> list[Checkpoint]:
        """The checkpoints that led to the classifier: TracIn sums over these."""
        return [c for c in self.checkpoints if c.step <= self.best.step]


def resolve_precision(name: str, device: torch.device) -> str:
    """``auto`` becomes bf16 where the device computes in it: three times faster on a CPU with AVX512-BF16."""
    if name != "auto":
        return name
    if device.type == "cpu":
        return "bf16" if torch.backends.mkldnn.is_available() and _cpu_has_bf16() else "fp32"
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def _cpu_has_bf16() -> bool:
    capability = torch.backends.cpu.get_cpu_capability
    if "AVX512" not in capability():
        return False
    flags = Path("/proc/cpuinfo")
    return flags.exists() and "avx512_bf16" in flags.read_text(encoding="utf-8", errors="replace")


def tune(
    model: LanguageModel,
    train: Labelled,
    validation: Labelled,
    tuning: Tuning = Tuning(),
    *,
    out: Path | None = None,
    start: Mapping[str, Tensor] | None = None,
    curve: bool = True,
    progress: Progress = Progress(),
) -> Tuned:
    """Tune an adapter on ``train``; early stop and the choice of the checkpoint look at ``validation`` only.

    Args:
        out: folder for the checkpoints ``adapter-N``; what is there already is not done again, if it is of the same
            model, data and configuration (epochs may be added). None keeps them in memory.
        start: trainable parameters to begin from (warm start); None begins from fresh ones.
        curve: whether validation is measured after each epoch; False measures it after the last alone where no early
            stop looks at it, which spares a pass over it an epoch.

    Returns:
        The classifier at its best checkpoint and all checkpoints.

    Raises:
        TuningError: the training set has fewer examples than labels, the validation set lacks the positive label, the
            loss is not finite, a checkpoint before others is missing in ``out``, or those there are of another tuning.

    Example:
        >>> tuned = tune(load("minilm"), splits.train, splits.validation, Tuning(adapter="prompt"))
        >>> tuned.classifier.probabilities([("you rock", None)])
    """
    began = time.monotonic()
    if len(train) < max(2, len(train.labels)):
        raise TuningError(
            f"{len(train)} training examples cannot teach {len(train.labels)} labels; give more examples."
        )
    if not len(validation) or (len(train.labels) == 2 and (validation.y != validation.positive_index).all()):
        raise TuningError(
            f"no validation example is labelled {validation.positive!r}, so there is no average precision to choose a "
            "checkpoint by; give a validation set with both labels."
        )
    classifier = tuning.classifier(model, train.labels)
    if start is not None:
        classifier.restore(start)
    rows, cut = classifier.encode(train.pairs)
    notes = []
    if cut:
        notes.append(f"{cut} of {len(rows)} training texts were cut to {classifier.max_length} tokens.")
        progress.note("cut", texts=cut, tokens=classifier.max_length)
    if unread := classifier.encode(validation.pairs)[1]:
        notes.append(f"{unread} of {len(validation)} validation texts were cut to {classifier.max_length} tokens.")
    y = torch.tensor(train.y, device=classifier.device)
    precision = resolve_precision(tuning.precision, classifier.device)
    weights = class_weights(train).to(classifier.device) if tuning.class_weights else None

    def loss(part: npt.NDArray[np.int64]) -> Tensor:
        with classifier.precision(precision):
            logits = classifier.logits(classifier.batch([rows[i] for i in part]))
        return torch.nn.functional.cross_entropy(logits, y[torch.as_tensor(part)], weight=weights)

    def validate() -> dict[str, float]:
        p = classifier.probabilities(validation.pairs, precision=precision, progress=progress, task="validate")
        return {"ap": average_precision(validation.y, p, validation.positive_index)}

    lengths = [len(row) for row in rows]
    prints = {"model": model.fingerprint, "train": train.fingerprint, "validation": validation.fingerprint}
    done, best = fit(
        classifier, lengths, loss, validate, tuning,
        figure="ap", curve=curve, out=out, prints={**prints, "start": start is not None}, progress=progress,
    )  # fmt: skip
    return Tuned(classifier, tuning, done, best, time.monotonic() - began, tuple(notes))


def fit(
    model: Adapted,
    lengths: list[int],
    loss: Callable[[npt.NDArray[np.int64]], Tensor],
    validate: Callable[[], Mapping[str, float]],
    tuning: Tuning,
    *,
    figure: str,
    lower: bool = False,
    curve: bool = True,
    out: Path | None = None,
    prints: Mapping[str, Any] | None = None,
    progress: Progress = Progress(),
) -> tuple[list[Checkpoint], Checkpoint]:
    """The loop of every tuning: AdamW, one checkpoint an epoch, early stop.

    Args:
        model: has the parameters of the best checkpoint afterwards.
        lengths: tokens of each training example.
        loss: of the examples at these positions, a mean, with autograd.
        validate: figures of the model as it is.
        figure: which of them chooses the checkpoint.
        lower: whether it is the better one when it is lower.
        curve: see :func:`tune`.
        out: see :func:`tune`.
        prints: fingerprints of model and data, kept with the checkpoints and compared with theirs; None where
            whoever calls sees to it that ``out`` is of the same work.

    Returns:
        All checkpoints, and the best.

    Raises:
        TuningError: the loss is not finite, a checkpoint before others is missing in ``out``, or those there are of
            another tuning.
    """
    steps = math.ceil(len(lengths) / tuning.batch_size)
    total = tuning.epochs * steps
    optimizer = torch.optim.AdamW(
        model.trainable().values(), lr=tuning.rate, weight_decay=tuning.weight_decay, foreach=True
    )
    work = None
    if prints is not None:
        # More epochs go on from fewer.
        config = {name: value for name, value in tuning.config.items() if name != "epochs"}
        work = {"config": config, "fingerprints": dict(prints)}
    done = unbroken(out, work) if out is not None else []
    if done:
        resume_optimizer(optimizer, done[-1], model)

    def merit(checkpoint: Checkpoint) -> float:
        value = checkpoint.metrics[figure]
        return -value if lower else value

    for epoch in range(len(done), tuning.epochs):
        if tuning.patience and _stops([merit(c) for c in done], tuning.patience):
            break
        step = epoch * steps
        lr_sum, last_loss = 0.0, math.nan
        batches = _batches(lengths, tuning.batch_size, [tuning.seed, epoch])
        # The network stays in eval mode: without dropout the gradients of the tuning are those that are traced, a
        # resumed tuning repeats an unbroken one bit for bit, and an epoch takes a quarter less time.
        for part in progress.track(batches, task=f"tune epoch {epoch + 1}/{tuning.epochs}"):
            rate = tuning.rate * _schedule(step, total, tuning.warmup)
            for group in optimizer.param_groups:
                group["lr"] = rate
            found = loss(part)
            if not torch.isfinite(found):
                raise TuningError(
                    f"the loss is {float(found)} at step {step} with learning rate {rate:.2g}; "
                    "try a tenth of --learning-rate, or --precision fp32."
                )
            optimizer.zero_grad(set_to_none=True)
            found.backward()
            optimizer.step()
            lr_sum += rate
            step += 1
            last_loss = float(found.detach())
        looked_at = curve or tuning.patience or epoch + 1 == tuning.epochs
        metrics = dict(validate()) if looked_at else {}
        done.append(_checkpoint(out, model, optimizer, epoch, step, lr_sum, metrics, work))
        # After the checkpoint: what was noted is never done again.
        progress.note("epoch", epoch=epoch + 1, loss=last_loss, **{f"validation_{n}": v for n, v in metrics.items()})
    best = max(done, key=lambda c: (merit(c), c.step)) if tuning.patience else done[-1]
    model.restore(best.load_state())
    return done, best


def _batches(lengths: list[int], size: int, seed: list[int]) -> list[npt.NDArray[np.int64]]:
    """Shuffled batches of similar length: examples are pooled at random and sorted by length within a pool."""
    rng = np.random.default_rng(seed)
    order, tokens = rng.permutation(len(lengths)), np.asarray(lengths)
    pool = 8 * size
    pools = [order[i : i + pool] for i in range(0, len(order), pool)]
    ordered = np.concatenate([p[np.argsort(tokens[p], kind="stable")] for p in pools])
    batches = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _checkpoint(
    out: Path | None,
    model: Adapted,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    step: int,
    lr_sum: float,
    metrics: Mapping[str, float],
    work: Mapping[str, Any] | None,
) -> Checkpoint:
    if out is not None:
        folder, extra = out / f"adapter-{epoch + 1:04d}", {} if work is None else {"work": work}
        return save_checkpoint(
            folder, model, step=step, lr_sum=lr_sum, metrics=metrics, optimizer=optimizer, extra=extra
        )
    moments = second_moments(optimizer, model.trainable())
    return Checkpoint(step=step, lr_sum=lr_sum, metrics=metrics, state=model.state(), moments=moments)


def _stops(merits: list[float], patience: int) -> bool:
    if not merits:
        return False
    return len(merits) - 1 - merits.index(max(merits)) >= patience


def _schedule(step: int, total: int, warmup: float) -> float:
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    return 1.0 - 0.9 * (step - rise) / max(1, total - rise)


def class_weights(train: Labelled) -> Tensor:
    """Weights of the labels [C], inverse to their frequency."""
    counts = np.bincount(train.y, minlength=len(train.labels)).clip(min=1)
    return torch.tensor(len(train) / (len(train.labels) * counts), dtype=torch.float32)
