"""Which completions of an instruction set are bad ones: the detectors' signals, without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd

from tracemend.arrays import Floats
from tracemend.data import Completions, CompletionSplits
from tracemend.errors import TraceError
from tracemend.evaluate import detection
from tracemend.methods import Method, MethodResult
from tracemend.models import tiny
from tracemend.progress import Progress
from tracemend.trace.tracin import TracIn, self_influence
from tracemend.tuning import Checkpoint, CompletionModel, TunedCompletions, Tuning, tune_completions

By = Literal["tracin", "self-influence", "loss", "untuned-loss"]
# As many characters of a trusted prompt as an evidence shows.
_SHOWN = 80


@dataclass(frozen=True, kw_only=True)
class SuspectCompletions(Method[MethodResult]):
    r"""Rank completions by how suspicious they are: by influence on trusted ones, by self-influence, or by loss.

    - ``tracin``: minus the mean TracIn score (Pruthi et al. 2020, arXiv 2002.08484) on the trusted completions:
      training on it raises their loss.
    - ``self-influence``: :math:`\sum_c w_c |g_i^c|^2`, as in section 4.1 there: only itself explains it.
    - ``loss``: of the tuned model, in its units (nats a token).
    - ``untuned-loss``: of the model without the adapter, which has not seen the completion.

    The table has one row a training example, the most suspicious first: rank, uid, text, reply, score, loss, evidence.
    ``top_loss`` is the mean loss of the top ``share``; ``detection_ap``, ``detection_auroc`` and ``precision_at_k`` are
    given where it is known which completions are corrupted (see :func:`tracemend.evaluate.detection`). The controls
    are the same figures for a random order.

    Attributes:
        by: the signal.
        cosine: normalise both gradients (``tracin``).
        share: of the training set that counts as its top, in (0, 1].
        batch_size: of the gradients.

    Example:
        >>> tuned = tune_completions(load("smollm2"), train, trusted)
        >>> SuspectCompletions().run(tuned, CompletionSplits(train, trusted)).table().head()
    """

    name = "trace.completions"
    inputs: ClassVar[str] = "CompletionSplits"
    capabilities: ClassVar[frozenset[str]] = frozenset({"decoder", "encoder-decoder", "gradients", "validation"})

    at_least: ClassVar = {"batch_size": 1}

    by: By = "tracin"
    cosine: bool = True
    share: float = 0.1
    batch_size: int = 16

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> MethodResult:
        """Rank the training completions by suspicion.

        Args:
            model: a :class:`TunedCompletions`, whose checkpoints are traced as well, or a :class:`CompletionModel`.
            data: :class:`CompletionSplits`: those it was tuned on, and trusted ones.

        Raises:
            TraceError: another kind of model or data, or a choice out of range.
        """
        writer, checkpoints = self._subject(model, data)
        train: Completions = data.train
        losses = writer.losses(train.pairs, progress=progress)
        scores, evidence = self._suspicion(writer, checkpoints, data, losses, progress)
        order = np.argsort(-scores, kind="stable")
        rows = pd.DataFrame(
            {
                "rank": np.arange(1, len(train) + 1),
                **{name: train.frame[name].to_numpy()[order] for name in ("uid", "text", "reply")},
                "score": scores[order].astype(np.float64),
                "loss": losses[order].astype(np.float64),
                "evidence": np.array(evidence, dtype=object)[order],
            }
        )
        top = order[: max(1, round(self.share * len(train)))]
        metrics, controls = {"top_loss": float(losses[top].mean())}, {"top_loss": float(losses.mean())}
        if train.has_truth:
            known = detection(scores, train.wrong)
            metrics, controls = metrics | known.metrics, controls | known.controls
        return MethodResult(metrics=metrics, controls=controls, config=self.config, rows=rows)

    def _subject(self, model: Any, data: Any) -> tuple[CompletionModel, Sequence[Checkpoint]]:
        if not isinstance(data, CompletionSplits):
            raise TraceError(
                f"{self.name} takes CompletionSplits (train, validation), not {type(data).__name__}; make them of two "
                "Completions, see tracemend.data.read_completions."
            )
        if not len(data.train) or not len(data.validation):
            raise TraceError(
                f"there are {len(data.train)} training and {len(data.validation)} trusted examples; give at least one."
            )
        if not 0 < self.share <= 1:
            raise TraceError(f"share is {self.share}; expected a number above 0 and at most 1.")
        if isinstance(model, TunedCompletions):
            return model.model, model.until_best()
        if isinstance(model, CompletionModel):
            return model, ()
        raise TraceError(
            f"{self.name} takes a TunedCompletions or a CompletionModel, not {type(model).__name__}; tune one with "
            "tune_completions first."
        )

    def _suspicion(
        self,
        model: CompletionModel,
        checkpoints: Sequence[Checkpoint],
        data: CompletionSplits,
        losses: Floats,
        progress: Progress,
    ) -> tuple[Floats, list[str]]:
        unit = "nats a token" if model.reduction == "mean" else "nats"
        if self.by == "loss":
            return losses, [f"the tuned model's loss is {value:.2f} {unit}" for value in losses]
        if self.by == "untuned-loss":
            if model.kind == "full":
                raise TraceError(
                    "the untuned model is gone where every parameter was tuned, so there is no untuned loss; take "
                    "another by, or tune an adapter."
                )
            with model.network.disable_adapter():
                found = model.losses(data.train.pairs, progress=progress)
            return found, [f"the untuned model's loss is {value:.2f} {unit}" for value in found]
        if self.by == "self-influence":
            found = self_influence(
                model, data.train, checkpoints=checkpoints, batch_size=self.batch_size, progress=progress
            )
            return found, [f"self-influence {value:.3g}" for value in found]
        tracin = TracIn(normalise_train=self.cosine, normalise_query=self.cosine, batch_size=self.batch_size)
        scores = tracin.influence(model, data.train, data.validation, checkpoints=checkpoints, progress=progress).scores
        prompts, against = list(data.validation.frame["text"]), (scores < 0).sum(axis=1)
        return -scores.mean(axis=1), [
            f"opposes {count} of {len(prompts)} trusted examples, most of all {prompts[query][:_SHOWN]!r}"
            for count, query in zip(against, scores.argmin(axis=1), strict=True)
        ]

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Sixteen made-up instructions, a quarter of their answers swapped, and a tiny decoder tuned on them."""
        words = ("good", "bad", "happy", "sad", "nice", "awful", "great", "terrible")
        asked = [f"{ask} {word} {what}" for word in words for ask, what in (("say", "movie"), ("tell", "film"))]
        answers = [f"the {word} {what}" for word in words for what in ("movie", "film")]
        train = Completions.make(asked, answers).swapped(0.25, seed=0)
        trusted = Completions.make([f"what is {word}" for word in words[:4]], [f"it is {word}" for word in words[:4]])
        tuning = Tuning(adapter="lora", rank=2, epochs=2, max_length=48, patience=0, precision="fp32")
        return cls(), tune_completions(tiny("llama"), train, trusted, tuning), CompletionSplits(train, trusted)
