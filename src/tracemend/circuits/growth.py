"""How induction heads grow over training: the loss on what is said twice, and the best head, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch

from tracemend.circuits.attention_only import AttentionOnly
from tracemend.circuits.circuit import Circuit, heads_of, layers_of
from tracemend.circuits.induction import scores_and_losses
from tracemend.circuits.markov import MarkovSource
from tracemend.circuits.repeats import Repeats
from tracemend.circuits.stages import Stages, trained
from tracemend.errors import CircuitError
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel
from tracemend.progress import Progress

# Nats and attention below which a change is none, and by how many times a control must be outdone.
_FALL, _RISE, _TIMES = 0.5, 0.1, 2.0


@dataclass(frozen=True, kw_only=True)
class GrowthResult(MethodResult):
    """One row a stage, of the model and of the one beside it, in the order of training.

    Columns: ``model`` (``found`` or ``beside``), ``step``, ``loss_first``, ``loss_repeat``, ``in_context`` (nats a
    token), ``induction``, ``previous`` (best scores of a head), and ``in_context_plain`` and ``induction_plain``, the
    same where nothing is said twice.
    """

    def figure(self) -> Any:
        """In-context score and best induction score by step."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.4), layout="constrained")
        titles = {"in_context": "second copy less first copy, nats", "induction": "best induction score"}
        for axes, (name, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
            for arm, rows in self.rows.groupby("model", sort=False):
                color = "#2f6f8f" if arm == "found" else "#c07b2f"
                axes.plot(rows["step"], rows[name], "o-", color=color, label=str(arm))
                axes.plot(rows["step"], rows[f"{name}_plain"], ":", color=color, label=f"{arm}, not repeated")
            axes.set(xlabel="step", title=title)
        axes.legend(fontsize="x-small")
        return figure


@dataclass(frozen=True, kw_only=True)
class Growth(Circuit[GrowthResult]):
    """Phase change: over training, the step at which the loss on a repetition falls and induction heads appear.

    On random tokens said twice (:class:`Repeats`), at every stage of a training:

        in_context = loss on the second copy - loss on the first (below 0: the repetition helps)
        induction  = the best head's mean attention to what followed the first time
        fall       = the largest fall of in_context from one stage to the next, at fall_step
        rise       = the largest rise of induction from one stage to the next, at rise_step

    A phase change is a fall and a rise at the same time, and a control without either: a model of one layer cannot
    have it. Olsson et al. 2022, "In-context Learning and Induction Heads", arXiv 2209.11895.

    Metrics: ``in_context`` and ``induction`` (last stage), ``fall``, ``fall_step``, ``rise``, ``rise_step``. Controls:
    ``not repeated`` (the same figures of as long texts that say nothing twice), and, where the stages have another
    model's beside them, ``beside``.

    Raises:
        CircuitError: no stages of a decoder; data that are not of its vocabulary.
        ModelError: a stage was loaded without attention patterns; load it with ``attention="eager"``.

    Example:
        >>> texts = copying_source().texts(count=6000)
        >>> (_, two), (_, one) = (trained(AttentionOnly(layers=n, steps=1600), texts) for n in (2, 1))
        >>> Growth().run(two.with_beside(one), Repeats.draw(two.get(0), length=20)).table()
    """

    name: ClassVar[str] = "circuits.growth"
    inputs: ClassVar[str] = "Repeats"

    @torch.no_grad()
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> GrowthResult:
        """Score every stage.

        Args:
            model: :class:`tracemend.circuits.stages.Stages`.
            data: :class:`Repeats`, drawn for the vocabulary of the stages.
            progress: shows the stages.

        Raises:
            CircuitError: see the class.
        """
        if not isinstance(model, Stages):
            raise CircuitError(
                f"{self.name} takes Stages, a model at several steps of its training, not {type(model).__name__}; see "
                "Stages.of, Stages.read and trained."
            )
        if not isinstance(data, Repeats):
            raise CircuitError(
                f"{self.name} takes Repeats, not {type(data).__name__}; draw them: Repeats.draw(model, length=25)."
            )
        arms = {"found": model} | ({"beside": model.beside} if model.beside is not None else {})
        rows: list[dict[str, Any]] = []
        for arm, stages in arms.items():
            rows += [
                {"model": arm, "step": step, **self._at(stages.get(step), data)}
                for step in progress.track(stages.steps, task=f"stages, {arm}")
            ]
        table = pd.DataFrame(rows)
        own = table[table["model"] == "found"]
        metrics, plain = _figures(own), _figures(own, "_plain")
        controls = {"not repeated": plain}
        if model.beside is not None:
            controls["beside"] = _figures(table[table["model"] == "beside"])
        return GrowthResult(
            metrics=metrics,
            controls=controls,
            config=self.config,
            rows=table,
            findings=[_finding(metrics, list(controls.values()))],
            facts={"stages": len(model.steps), "beside": model.beside.name if model.beside is not None else ""},
        )

    def _at(self, model: LanguageModel, data: Repeats) -> dict[str, float]:
        network = self.decoder(model)
        if int(data.plain.max()) >= network.config.vocab_size:
            raise CircuitError(
                f"the repeats hold token {int(data.plain.max())}, but {network.name} has {network.config.vocab_size}; "
                "draw them for the model whose stages these are."
            )
        tokens = data.ids.shape[1]
        self.announce(
            layers_of(network) * 4 * (heads_of(network) * tokens**2 + tokens * network.hidden_size),
            "draw shorter repeats",
        )
        found: dict[str, float] = {}
        for ending, ids in (("", data.ids), ("_plain", data.plain)):
            scores, losses = scores_and_losses(network, data, ids)
            first, second = losses.tolist()
            if not ending:
                found |= {"loss_first": first, "loss_repeat": second, "previous": float(scores[1].max())}
            found |= {f"in_context{ending}": second - first, f"induction{ending}": float(scores[0].max())}
        return found

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Two layers and one, three stages each, of a training that is too short for anything."""
        texts = MarkovSource.draw(symbols=24, rules=0).texts(60)
        two, one = (
            trained(AttentionOnly(layers=n, width=16, heads=2, steps=4, batch=4), texts, every=2)[1] for n in (2, 1)
        )
        return cls(), two.with_beside(one), Repeats.draw(two.get(0), length=8, count=2)


def copying_source(seed: int = 0) -> MarkovSource:
    """Of text that is best predicted by copying: nearly every word can follow every other, and much is said again.

    Much of it is needed (6,000 texts), so that it cannot be learnt by heart.
    """
    return MarkovSource.draw(rules=0, spread=1.0, again=0.1, seed=seed)


def _figures(rows: pd.DataFrame, ending: str = "") -> dict[str, float]:
    steps = rows["step"].to_numpy()
    context, induction = (rows[f"{name}{ending}"].to_numpy(dtype=float) for name in ("in_context", "induction"))
    falls, rises = -np.diff(context), np.diff(induction)
    return {
        "in_context": float(context[-1]),
        "induction": float(induction[-1]),
        "fall": float(falls.max()),
        "fall_step": float(steps[1:][falls.argmax()]),
        "rise": float(rises.max()),
        "rise_step": float(steps[1:][rises.argmax()]),
    }


def _finding(found: dict[str, float], controls: Sequence[dict[str, float]]) -> str:
    said = (
        f"The in-context score falls most by step {found['fall_step']:g} ({found['fall']:.2f} nats), the best "
        f"induction score rises most by step {found['rise_step']:g} ({found['rise']:.2f})"
    )
    beaten = all(found[name] > _TIMES * control[name] for name in ("fall", "rise") for control in controls)
    if found["fall"] < _FALL or found["rise"] < _RISE or not beaten:
        return f"{said}: no phase change is shown, since these are small or the controls have as much."
    together = "at once" if found["fall_step"] == found["rise_step"] else "not at once"
    return f"{said}: they come {together}, and the controls have neither."
