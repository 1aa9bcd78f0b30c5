"""Whose pronoun is it? Similarity of a pronoun's vector to those of its candidates."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from tracemend.arrays import Floats
from tracemend.data import Pronoun, Pronouns
from tracemend.errors import ProbeError
from tracemend.evaluate import mean_interval
from tracemend.methods import Method
from tracemend.models import LanguageModel, represent, tiny
from tracemend.probing.by_group import biases, by_group, documents
from tracemend.probing.mention_places import by_place
from tracemend.probing.result import ProbeResult, compared
from tracemend.probing.untrained import untrained
from tracemend.progress import Progress

# Texts whose vectors are in memory at once: only those of the mentions are kept.
_CHUNK = 100


@dataclass(frozen=True, kw_only=True)
class CoreferenceProbe(Method[ProbeResult]):
    """How well a pronoun's vector picks out whom it stands for (after Sorodoc et al. 2020).

    Of every mention the mean vector h of its words is taken at each layer. The probe scores candidate i of pronoun t by
    (F h_t) . (G h_i) with trained linear maps F and G, softmax over the candidates and cross-entropy; the loss is over
    the given candidates, not over all words. Examples with exactly one right candidate count; the layer is chosen on
    dev.

    Controls: ``zero_shot``, cosine of the vectors themselves at the same layer, which the naive version of this probe
    measures; ``recency``, the candidate nearest to the pronoun; ``first_mention``, the earliest one, as subjects often
    are; ``places``, a regression on where the candidates stand and on nothing else, see
    :func:`tracemend.probing.mention_places.by_place`; ``random_weights``, the same network untrained at its best layer,
    the mean over ``random_models`` of them; ``layer_0``. Of examples in groups (Winogender's and WinoBias's: gender,
    for and against the stereotype) metrics and controls have ``accuracy_GROUP`` and, between opposed groups, the bias:
    ``pro_minus_anti``, ``male_minus_female``.

    Attributes:
        rank: of F and G.
        steps: of Adam, full batch.
        lr: of the first step; it falls to zero.
        weight_decay: of F and G.
        layers: which; all if none are named.
        train_examples, test_examples: at most, whole documents at random.
        random_models: how many untrained networks.

    Raises:
        ProbeError: other data, a part without usable examples.

    Example:
        >>> found = CoreferenceProbe().run(load("minilm"), read_gap("gap"))
        >>> found.metrics["accuracy"], found.controls["zero_shot"]
    """

    name = "probing.coreference"
    inputs: ClassVar[str] = "Pronouns"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder"})
    at_least: ClassVar = {"rank": 1, "steps": 1, "train_examples": 1, "test_examples": 1, "random_models": 1}

    rank: int = 128
    steps: int = 200
    lr: float = 1e-3
    weight_decay: float = 1e-2
    layers: tuple[int, ...] = ()
    train_examples: int = 400
    test_examples: int = 400
    random_models: int = 2

    def run(self, model: Any, data: Any, *, cache: Path | None = None, progress: Progress = Progress()) -> ProbeResult:
        """Probe.

        Args:
            model: a :class:`LanguageModel`; its weights are not touched.
            data: :class:`Pronouns` with parts train and test, dev where there is one; without any part they are made.
            cache: where representations are kept.
        """
        began = time.perf_counter()
        if not isinstance(model, LanguageModel):
            raise ProbeError(f"{self.name} takes a LanguageModel, not {type(model).__name__}; load one first.")
        if not isinstance(data, Pronouns):
            raise ProbeError(f"{self.name} takes Pronouns, not {type(data).__name__}; read them with read_pronouns.")
        if len(set(self.layers)) < len(self.layers):
            raise ProbeError(f"layers are {list(self.layers)}; name each once.")
        parts, left_out = usable(data, train=self.train_examples, test=self.test_examples, seed=self.seed)
        hits, zero = self._read(model, parts, cache, progress)
        fresh = [
            self._read(one, parts, cache, progress)[0] for one in untrained(model, self.random_models, seed=self.seed)
        ]
        layers = list(self.layers) or list(range(len(hits["test"])))
        best = _best(hits)
        test = parts["test"]
        rules = {"recency": by_recency(test), "first_mention": by_first_mention(test),
                 "places": by_place(parts["train"], test)}  # fmt: skip
        arms: dict[str, Floats] = {
            "random_weights": np.mean([one["test"][_best(one)] for one in fresh], axis=0),
            "zero_shot": zero[best],
            **rules,
        }
        if 0 in layers:
            arms["layer_0"] = hits["test"][layers.index(0)]
        groups = documents(test)
        low, high = mean_interval(hits["test"], groups, seed=self.seed)
        table = pd.DataFrame(
            {"layer": layers, "accuracy": hits["test"].mean(1), "low": low, "high": high,
             "dev_accuracy": hits["dev"].mean(1), "zero_shot": zero.mean(1),
             "random_weights": np.mean([one["test"].mean(1) for one in fresh], axis=0)}
        )  # fmt: skip
        said = [
            f"layer {layers[best]}, chosen on dev, picks the right name for {hits['test'][best].mean():.3f} of "
            f"{len(test)} pronouns ({low[best]:.3f} to {high[best]:.3f})."
        ]
        said += biases(f"layer {layers[best]}", hits["test"][best], test, seed=self.seed)
        said += biases("the vectors' own cosine", zero[best], test, seed=self.seed)
        for arm, values in arms.items():
            gap = hits["test"][best] - values
            ends = mean_interval(gap, groups, seed=self.seed)
            said.append(
                compared(
                    f"layer {layers[best]}", arm.replace("_", " "), float(gap.mean()), float(ends[0]), float(ends[1])
                )
            )
        if left_out:
            said.append(f"{left_out} examples were left out: none or several candidates are right, or all stand behind "
                        "the pronoun.")  # fmt: skip
        return ProbeResult(
            metrics={"accuracy": float(hits["test"][best].mean()), **by_group(hits["test"][best], test)},
            controls={arm: {"accuracy": float(of.mean()), **by_group(of, test)} for arm, of in arms.items()},
            config=self.config,
            rows=table,
            findings=said,
            facts={"best_layer": layers[best], "n_train": len(parts["train"]), "n_test": len(test),
                   "left_out": left_out, "model": model.name, "model_fingerprint": model.fingerprint,
                   "seconds": round(time.perf_counter() - began, 1)},
        )  # fmt: skip

    def _read(
        self, model: LanguageModel, parts: dict[str, list[Pronoun]], cache: Path | None, progress: Progress
    ) -> tuple[dict[str, Floats], Floats]:
        """Hits of the trained probe by part [layers, n], and of cosines on test [layers, n]."""
        read = {part: self._vectors(model, of, cache, progress) for part, of in parts.items()}
        absent = {part: torch.tensor([[len(e.candidates) <= j for j in range(read[part][1].shape[2])] for e in of])
                  for part, of in parts.items()}  # fmt: skip
        # Rows of zeros stand for candidates that are not there: they are no mentions to standardise by.
        there = read["train"][1][:, ~absent["train"]]
        mean, scale = there.mean(1)[:, None], there.std(1)[:, None].clamp_min(1e-6)
        u = {part: (pronoun - mean) / scale for part, (pronoun, _) in read.items()}
        v = {part: (names - mean[:, None]) / scale[:, None] for part, (_, names) in read.items()}
        right = {part: torch.tensor([e.right[0] for e in of]) for part, of in parts.items()}
        generator = torch.Generator().manual_seed(self.seed)
        layers, _, width = u["train"].shape
        maps = [
            (torch.randn(layers, width, self.rank, generator=generator) * width**-0.5).requires_grad_() for _ in "FG"
        ]
        optimizer = torch.optim.AdamW(maps, lr=self.lr, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / self.steps)

        def scores(part: str) -> Tensor:
            asked, names = u[part] @ maps[0], torch.einsum("lncd,ldr->lncr", v[part], maps[1])
            found: Tensor = (asked[:, :, None] * names).sum(-1) / self.rank**0.5
            return found.masked_fill(absent[part], -torch.inf)

        for _ in range(self.steps):
            said = scores("train")
            expected = right["train"].expand(layers, -1)
            loss = functional.cross_entropy(said.flatten(0, 1), expected.flatten(), reduction="sum") / said.shape[1]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        with torch.no_grad():
            hits = {part: (scores(part).argmax(-1) == right[part]).double().numpy() for part in ("dev", "test")}
            pronoun, names = read["test"]
            cosine = functional.cosine_similarity(pronoun[:, :, None], names, dim=-1)
            zero = (cosine.masked_fill(absent["test"], -torch.inf).argmax(-1) == right["test"]).double().numpy()
        return hits, zero

    def _vectors(
        self, model: LanguageModel, examples: Sequence[Pronoun], cache: Path | None, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """Of pronouns [layers, n, d] and of candidates [layers, n, most, d], zeros where there are fewer."""
        most = max(len(e.candidates) for e in examples)
        pronouns, names = [], []
        for begin in range(0, len(examples), _CHUNK):
            part = examples[begin : begin + _CHUNK]
            vectors = represent(
                model, [e.words for e in part], layers=list(self.layers) or None, cache=cache, progress=progress
            )
            starts = np.searchsorted(vectors.sentence, np.arange(len(part)))
            for start, example in zip(starts.tolist(), part, strict=True):
                of = [
                    vectors.hidden[:, start + i : start + j].mean(1) for i, j in (example.pronoun, *example.candidates)
                ]
                pronouns.append(of[0])
                names.append(torch.stack([*of[1:], *[torch.zeros_like(of[0])] * (most - len(of) + 1)], dim=1))
        return torch.stack(pronouns, dim=1), torch.stack(names, dim=1)

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Sixty made-up sentences, and a tiny encoder."""
        rng = np.random.default_rng(0)
        made = []
        for i in range(60):
            one, other = (str(w) for w in rng.choice(["movie", "film", "people", "reply"], 2, replace=False))
            right = i % 2
            verb = ("love", "hate")[right]
            made.append(
                Pronoun(
                    words=("the", one, "and", "the", other, verb, "it", "so", str(i)),
                    pronoun=(6, 7),
                    candidates=((0, 2), (3, 5)),
                    right=(right,),
                    id=str(i),
                    part=("train", "train", "dev", "test")[i // 2 % 4],
                )
            )
        return cls(rank=8, steps=20), tiny("bert"), Pronouns(examples=tuple(made))


def usable(data: Pronouns, *, train: int, test: int, seed: int) -> tuple[dict[str, list[Pronoun]], int]:
    """Examples with exactly one right candidate, and one that stands before the pronoun.

    Args:
        data: with parts train and test; without a dev part a fifth of train is it, in whole
            documents; without any part all are made.
        train: of train at most, whole documents at random.
        test: of dev and of test at most, likewise.
        seed: of the draw.

    Returns:
        The examples of train, dev and test, and how many were left out.

    Raises:
        ProbeError: a part has none.
    """
    data = data.split(seed=seed)
    if not data.of("train"):
        raise ProbeError(
            f"{data.name} has no training part; give other pronouns to train on (--train, or Pronouns.tested_on), such "
            "as GAP's."
        )
    fit = {
        part: [e for e in data.of(part) if len(e.right) == 1 and min(c[0] for c in e.candidates) < e.pronoun[0]]
        for part in ("train", "dev", "test")
    }
    left_out = sum(len(data.of(part)) - len(of) for part, of in fit.items())
    rng = np.random.default_rng(seed)
    most = {"train": train, "dev": test, "test": test}
    found = {part: _drawn(of, most[part], rng) for part, of in fit.items()}
    if not found["dev"] and len(found["train"]) > 4:
        found["dev"], found["train"] = _aside(found["train"])
    for part, of in found.items():
        if not of:
            raise ProbeError(
                f"{data.name} has no usable example in {part} (exactly one right candidate, and one that stands "
                "before the pronoun)."
            )
    return found, left_out


def _drawn(examples: list[Pronoun], most: int, rng: np.random.Generator) -> list[Pronoun]:
    """Whole documents in random order, as many as there is room for, so that twins stay together; of a first one that
    is longer than that, a part."""
    of: dict[str, list[Pronoun]] = {}
    for example, name in zip(examples, documents(examples), strict=True):
        of.setdefault(name, []).append(example)
    own = list(of.values())
    found: list[Pronoun] = []
    for i in rng.permutation(len(own)):
        if found and len(found) + len(own[i]) > most:
            break
        found += own[i]
    return found[:most]


def _aside(examples: list[Pronoun]) -> tuple[list[Pronoun], list[Pronoun]]:
    """A fifth of the examples, and the others; in whole documents where there are two, whose pronouns tell of each
    other."""
    own = documents(examples)
    counts = Counter(own)
    if len(counts) < 2:
        cut = len(examples) // 5
        return examples[:cut], examples[cut:]
    taken: set[str] = set()
    for name in list(counts)[:-1]:
        if sum(counts[of] for of in taken) * 5 >= len(examples):
            break
        taken.add(name)
    parts: tuple[list[Pronoun], list[Pronoun]] = [], []
    for example, name in zip(examples, own, strict=True):
        parts[name not in taken].append(example)
    return parts


def by_recency(examples: Sequence[Pronoun]) -> Floats:
    """Hits of the rule that takes the candidate nearest to the pronoun [n]."""
    return _picked(examples, _distance)


def by_first_mention(examples: Sequence[Pronoun]) -> Floats:
    """Hits of the rule that takes the earliest candidate [n]."""
    return _picked(examples, _place)


def _distance(example: Pronoun, candidate: tuple[int, int]) -> int:
    begin, end = example.pronoun
    return begin - candidate[1] if candidate[1] <= begin else candidate[0] - end


def _place(_: Pronoun, candidate: tuple[int, int]) -> int:
    return candidate[0]


def _picked(examples: Sequence[Pronoun], cost: Callable[[Pronoun, tuple[int, int]], int]) -> Floats:
    """Hits of a rule that takes the candidate of least cost."""
    found = []
    for example in examples:
        costs = [cost(example, candidate) for candidate in example.candidates]
        found.append(float(costs.index(min(costs)) in example.right))
    return np.array(found)


def _best(hits: dict[str, Floats]) -> int:
    """The layer that is best on dev, as a place among those that were read."""
    return int(hits["dev"].mean(1).argmax())
