"""Which units a tuned classifier uses: what it loses when they are taken."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tracemend.arrays import Floats, Indices
from tracemend.data import Labelled
from tracemend.errors import NeuronError
from tracemend.methods import Method
from tracemend.models import capture, edit, tiny
from tracemend.models.sites import site
from tracemend.neurons.dose import AblationResult, Measured, check_doses, dose_response, given_first
from tracemend.neurons.interventions import How, Intervention, Moved, Places
from tracemend.neurons.texts import peaks, two_parts
from tracemend.neurons.units import check_site
from tracemend.progress import Progress
from tracemend.tuning import TextClassifier
from tracemend.tuning.adapted import PROMPTS

_DEAD = 1e-6
# Places that means and donors come from, about; units that are shown with the texts that drive them, and how many.
_PLACES = 8_000
_SHOWN, _TEXTS, _LONGEST = 10, 3, 120


@dataclass(frozen=True, kw_only=True)
class ClassifierAblation(Method[AblationResult]):
    """Which units a tuned classifier uses: its loss without those that its gradient names, beside random ones.

    A unit's weight is what the loss would change by, to first order, were the unit set to its mean m_j in every place,

        I_j = mean over texts of | sum over places of (m_j - h_j) dL / dh_j |

    on one part of the texts; on another the first of these units are zeroed, set to their mean, resampled or translated
    to another label (:class:`tracemend.neurons.interventions.Intervention`), more and more of them. For each of the
    first units the facts name the texts on which it is highest.

    Metrics, of the first ``at`` units: ``loss_rise`` (nats a text), ``accuracy_fall``, ``changed`` (share of texts that
    get another label), ``to_target`` (translation alone: share that get the label written), and ``language_rise``
    (decoders alone: nats a token of the texts). Controls, the same figures: ``random`` units; ``same_norm``, these
    moved as far as the first would be; ``last``; ``shuffled_labels``, units whose weight was taken with the labels in
    random order.

    Attributes:
        site: whose units.
        how: zero, mean, resample or translate.
        units: put before all others, whatever the gradient says.
        sizes: numbers of units.
        at: the one that metrics are about.
        draws: random sets.
        beta: step of a translation, in differences of means.
        texts: most texts of each part.
        batch_size: texts of a pass.

    Raises:
        NeuronError: no tuned classifier, data that are not labelled by its labels, a unit out of range, more units than
            vary, or a site that cannot be written to.

    Example:
        >>> predictor = Predictor.load("runs/mine")
        >>> ClassifierAblation(at=20).run(predictor.classifier, read("test.csv", text="text", label="label"))
    """

    name: ClassVar[str] = "neurons.ablate-classifier"
    inputs: ClassVar[str] = "Labelled"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder", "labels", "gradients"})
    at_least: ClassVar = {"texts": 1, "batch_size": 1}

    site: str = "blocks.1.mlp.hook_post"
    how: How = "mean"
    units: tuple[int, ...] = ()
    sizes: tuple[int, ...] = (1, 5, 10, 20, 50)
    at: int = 50
    draws: int = 3
    beta: float = 8.0
    texts: int = 400
    batch_size: int = 32

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> AblationResult:
        """Weigh the units, and take them.

        Args:
            model: a tuned :class:`TextClassifier`; it is left as it was.
            data: :class:`Labelled` texts, of which one half weighs and the other is measured, no group in both; or
                :class:`Splits`, of which train weighs and validation is measured.
            progress: shown.
        """
        began = time.perf_counter()
        check_doses(self.sizes, self.at, self.draws, self.beta)
        weighing, test = two_parts(self.name, model, data, texts=self.texts, seed=self.seed)
        if not site(model.network, self.site).editable:
            raise NeuronError(f"{self.site} can be read but not written to; take hook_resid_post or mlp.hook_post.")
        check_site(model.network, self.site)
        bank, label, (importance, idle) = self._weighed(model, weighing, progress)
        varies = (bank.std(0, correction=0) > _DEAD).numpy()
        alive = np.flatnonzero(varies)
        orders = [alive[np.argsort(-found[alive], kind="stable")] for found in (importance, idle)]
        orders[0] = given_first(self.units, orders[0], len(varies))
        intervention = Intervention.of(self.how, bank, label, len(model.labels), beta=self.beta, seed=self.seed)
        dose = dose_response(
            TextSubject(model, test, self.site, self.batch_size), intervention, orders[0], sizes=self.sizes, at=self.at,
            draws=self.draws, seed=self.seed, others={"shuffled labels": orders[1]}, progress=progress,
        )  # fmt: skip
        dead = np.flatnonzero(~varies).tolist()
        said = [f"{len(dead)} units never vary and are in no order: {dead[:10]}."] if dead else []
        facts = {
            "model": model.language_model.name,
            "model_fingerprint": model.language_model.fingerprint,
            "site": self.site,
            "units": len(varies),
            "dead": dead,
            "n_weighing": len(weighing),
            "n_test": len(test),
            "order": orders[0].tolist(),
            "importance": importance[orders[0][: max(self.sizes)]].tolist(),
            "whole": dose.whole,
            "driving": self._driving(model, weighing, orders[0][:_SHOWN]),
            "seconds": round(time.perf_counter() - began, 1),
        }
        return AblationResult(
            metrics=dose.arms.pop("first"),
            controls={arm.replace(" ", "_"): figures for arm, figures in dose.arms.items()},
            config=self.config,
            rows=dose.rows,
            findings=[*dose.findings, *said],
            facts=facts,
        )

    def _weighed(
        self, model: TextClassifier, data: Labelled, progress: Progress
    ) -> tuple[Tensor, Tensor, list[Floats]]:
        """Activations at some places of each text [n, d], its label there [n], and the importance of units [d].

        The importance is by the labels as they are, and by the labels in random order.
        """
        rng = np.random.default_rng(self.seed)
        targets = [data.y, rng.permutation(data.y)]
        rows, _ = model.encode(data.pairs)
        each = max(1, -(-_PLACES // len(rows)))
        bank, label = [], []
        slopes: list[list[Tensor]] = [[], []]
        for part in progress.track(model.buckets(rows, self.batch_size), task="weigh units"):
            batch = model.batch([rows[i] for i in part])
            mask = batch["attention_mask"].bool()
            expected = [torch.as_tensor(y[part], device=model.device) for y in targets]
            with torch.enable_grad(), capture(model.network, [self.site], grad=True) as seen:
                losses, logits = model.measure(batch, expected[0])
                others = functional.cross_entropy(logits.double(), expected[1], reduction="sum")
                # Texts do not meet, so the sum's gradient holds each one's own.
                made = [torch.autograd.grad(loss, [seen[self.site]], retain_graph=True)[0]
                        for loss in (losses.sum(), others)]  # fmt: skip
            h = seen[self.site].detach().flatten(2)[:, -mask.shape[1] :].float()
            for found, slope in zip(slopes, made, strict=True):
                g = slope.flatten(2)[:, -mask.shape[1] :].float() * mask[..., None]
                # Sums over places of dL/dh and of h dL/dh: the mean is known only at the end.
                found.append(torch.stack([g.sum(1), (h * g).sum(1)]).cpu())
            for at, i in enumerate(part.tolist()):
                own = h[at][mask[at]].cpu()
                some = torch.from_numpy(rng.permutation(len(own))[:each])
                bank.append(own[some])
                label.append(torch.full((len(some),), int(data.y[i])))
        activations = torch.cat(bank)
        if not bool(activations.isfinite().all()):
            raise NeuronError("some activations are not finite; the classifier has diverged.")
        sums = [torch.cat(found, dim=1) for found in slopes]
        mean = activations.mean(0)
        importance = [(mean * g - hg).abs().mean(0).double().numpy() for g, hg in sums]
        return activations, torch.cat(label), importance

    def _driving(self, model: TextClassifier, data: Labelled, units: Indices) -> list[dict[str, Any]]:
        """Of each unit the texts that drive it highest, with their labels."""
        peak = peaks(model, data.pairs, self.site, batch_size=self.batch_size)[0][:, units]
        frame = data.frame
        found = []
        for j, unit in enumerate(units.tolist()):
            best = np.argsort(-peak[:, j], kind="stable")[:_TEXTS]
            texts = [{"uid": frame["uid"][i], "text": _shown(data.pairs[i]), "label": frame["label"][i],
                      "activation": round(float(peak[i, j]), 4)} for i in best]  # fmt: skip
            found.append({"unit": unit, "texts": texts})
        return found

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Forty texts, and a tiny encoder with an adapter as it starts out."""
        things = ("movie", "film", "people", "reply", "question")
        texts = [f"{word} {thing}" for thing in things for word in ("love", "hate", "great", "awful")] * 2
        labels = ["good" if text.split()[0] in ("love", "great") else "bad" for text in texts]
        data = Labelled.make(texts, labels)
        return cls(sizes=(2, 8), at=8, draws=2), TextClassifier(tiny("bert"), data.labels, rank=2), data


def _shown(pair: tuple[str, str | None]) -> str:
    """A text, with its reply where there is one, cut to a line."""
    text, reply = pair
    whole = text if reply is None else f"{text} / {reply}"
    return whole if len(whole) <= _LONGEST else whole[: _LONGEST - 1] + "…"


class TextSubject:
    """Labelled texts and a tuned classifier.

    Args:
        classifier: whose units are taken.
        data: texts that it is measured on.
        name: of the site.
        batch_size: texts of a pass.
    """

    def __init__(self, classifier: TextClassifier, data: Labelled, name: str, batch_size: int) -> None:
        self.classifier, self.data, self.name = classifier, data, name
        self.y = data.y
        self.groups: Sequence[Any] = data.group_ids.tolist()
        self._rows, _ = classifier.encode(data.pairs)
        self._parts = classifier.buckets(self._rows, batch_size)
        # Virtual tokens would stand before the text, and the head of an encoder gives no words.
        self._speaks = classifier.language_model.family == "decoder" and classifier.kind not in PROMPTS

    @torch.no_grad()
    def measure(
        self, intervention: Intervention | None = None, units: Indices | None = None, like: Indices | None = None
    ) -> Measured:
        """See :class:`tracemend.neurons.dose.Subject`."""
        moved = Moved()
        loss, predicted, words = np.zeros(len(self.y)), np.zeros(len(self.y), dtype=np.int64), []
        for number, part in enumerate(self._parts):
            batch = self.classifier.batch([self._rows[i] for i in part])
            y = torch.from_numpy(self.y[part]).to(self.classifier.device)
            mask = batch["attention_mask"].bool()
            changes = {}
            if intervention is not None and units is not None:
                places = Places(mask, y[:, None].expand(mask.shape))
                changes = {self.name: intervention.edit(units, places, like=like, seed=number, moved=moved)}
            with edit(self.classifier.network, changes):
                losses, logits = self.classifier.measure(batch, y)
                if self._speaks:
                    words.append(self._next(batch, mask))
            loss[part] = losses.cpu().numpy()
            predicted[part] = logits.argmax(-1).cpu().numpy()
        return Measured(loss, predicted, np.concatenate(words) if words else np.zeros(0), moved.share)

    def _next(self, batch: dict[str, Tensor], mask: Tensor) -> Floats:
        """Mean loss of the next tokens of each text of a batch, in nats, its template with it."""
        logits = self.classifier.network(**batch).logits[:, :-1].float()
        each = functional.cross_entropy(logits.transpose(1, 2), batch["input_ids"][:, 1:], reduction="none")
        real = mask[:, 1:]
        found: Floats = ((each * real).sum(1) / real.sum(1).clamp_min(1)).double().cpu().numpy()
        return found
