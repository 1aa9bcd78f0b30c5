"""Functions from text to a number, whatever is behind them: a unit of a site, a classifier's label, a user's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch

from tracemend.arrays import Doubles
from tracemend.errors import ConceptError, did_you_mean
from tracemend.models import LanguageModel, capture, represent, site
from tracemend.models.representations import layer_count, padded
from tracemend.tuning import TextClassifier

_BATCH = 64


@runtime_checkable
class Module(Protocol):
    """What can be explained: it gives numbers for many texts at once."""

    def values(self, texts: Sequence[str]) -> Doubles:
        """One number a text [n]."""


@dataclass(frozen=True, eq=False)
class OwnFunction:
    """A user's function of one text.

    Attributes:
        function: gives a finite number.
    """

    function: Callable[[str], Any]

    def values(self, texts: Sequence[str]) -> Doubles:
        """One call a text.

        Raises:
            ConceptError: the function returned something else than a finite number.
        """
        found = [self.function(text) for text in texts]
        for text, value in zip(texts, found, strict=True):
            # A tensor of one number is one; text and truth values are not, although Python would convert them.
            kind = type(value).__name__
            number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if not number and getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
                number = isinstance(value.item(), int | float) and not isinstance(value.item(), bool)
            if not number:
                raise ConceptError(
                    f"the function returned {kind} ({value!r:.60}) for {text[:40]!r}; it must return a number."
                )
            if not math.isfinite(float(value)):
                raise ConceptError(f"the function returned {value} for {text[:40]!r}; it must return a finite number.")
        return np.array([float(value) for value in found])


@dataclass(frozen=True, eq=False)
class UnitOfSite:
    """What one unit of a site does on a text.

    Attributes:
        model: a loaded model.
        site: such as ``blocks.3.mlp.hook_post``; heads lie side by side (unit ``head * d_head + i``).
        unit: which, from 0.
        pooling: over the tokens that are not special: their largest value or their mean.
    """

    model: LanguageModel
    site: str
    unit: int
    pooling: Literal["max", "mean"] = "max"

    @torch.no_grad()
    def values(self, texts: Sequence[str]) -> Doubles:
        """One number a text [n].

        Raises:
            ConceptError: no such unit, a site without a vector a token, or a text without a token.
            ModelError: no such site.
        """
        where = site(self.model, self.site)
        if "query" in where.shape or self.site.startswith("decoder."):
            raise ConceptError(f"{self.site} has no vector for each token read; take a stream, an MLP or heads.")
        network = self.model.network
        network = network.get_encoder() if self.model.family == "encoder-decoder" else network.base_model
        made = self.model.tokenizer(
            list(texts), truncation=True, max_length=self.model.window, return_special_tokens_mask=True
        )
        rows, special = made["input_ids"], made["special_tokens_mask"]
        order = np.argsort([len(row) for row in rows], kind="stable")
        found = np.zeros(len(rows))
        for begin in range(0, len(order), _BATCH):
            part = order[begin : begin + _BATCH].tolist()
            ids, mask = padded(self.model, [rows[i] for i in part])
            with capture(self.model, [self.site]) as seen:
                network(input_ids=ids, attention_mask=mask)
            whole = seen[self.site].flatten(2).float().cpu().numpy()
            if not 0 <= self.unit < whole.shape[2]:
                raise ConceptError(f"{self.site} has units 0 to {whole.shape[2] - 1}, and {self.unit} was asked for.")
            for k, i in enumerate(part):
                own = whole[k, : len(rows[i]), self.unit][np.array(special[i]) == 0]
                if not len(own):
                    raise ConceptError(f"the tokenizer of {self.model.name} reads no token of {texts[i][:40]!r}.")
                found[i] = own.max() if self.pooling == "max" else own.mean()
        return found


@dataclass(frozen=True, eq=False)
class LabelOdds:
    """The log-odds of a classifier's label.

    Attributes:
        classifier: whose.
        label: one of its labels.
    """

    classifier: TextClassifier
    label: str

    def values(self, texts: Sequence[str]) -> Doubles:
        """One number a text [n].

        Raises:
            ConceptError: no such label.
        """
        if self.label not in self.classifier.labels:
            raise ConceptError(f"label {self.label!r} is {did_you_mean(self.label, self.classifier.labels)}")
        logits = self.classifier.predict([(text, None) for text in texts], batch_size=_BATCH).astype(np.float64)
        own = self.classifier.labels.index(self.label)
        others = np.delete(logits, own, axis=1)
        largest = others.max(axis=1)
        rest = largest + np.log(np.exp(others - largest[:, None]).sum(axis=1))
        odds: Doubles = logits[:, own] - rest
        return odds


@dataclass(frozen=True, eq=False)
class Along:
    """How far a text's embedding lies along a direction: a made-up module whose explanation is known, or a probe.

    Attributes:
        model: an encoder; embeddings are means of its last states, of length one.
        direction: [d].
    """

    model: LanguageModel
    direction: Doubles

    @classmethod
    def towards(cls, model: LanguageModel, text: str) -> Along:
        """Similarity to a text: its explanation is the text."""
        return cls(model, embedded(model, [text])[0])

    @classmethod
    def at_random(cls, model: LanguageModel, seed: int) -> Along:
        """A random direction, which has no explanation."""
        drawn = np.random.default_rng(seed).normal(size=model.hidden_size)
        return cls(model, drawn / np.linalg.norm(drawn))

    def values(self, texts: Sequence[str]) -> Doubles:
        """One number a text [n]."""
        found: Doubles = embedded(self.model, texts) @ self.direction
        return found


def embedded(model: LanguageModel, texts: Sequence[str]) -> Doubles:
    """Means of an encoder's last states, of length one [n, d]."""
    last = represent(
        model, [[text] for text in texts], unit="sentence", layers=(layer_count(model) - 1,), batch_size=_BATCH
    )
    found = last.hidden[0].numpy().astype(np.float64)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    scaled: Doubles = found / np.maximum(lengths, 1e-12)
    return scaled


def module_of(given: Any) -> Module:
    """A module as it is, a user's function wrapped.

    Raises:
        ConceptError: neither.
    """
    # Mappings have values too.
    if not isinstance(given, Mapping) and isinstance(given, Module):
        return given
    if callable(given):
        return OwnFunction(given)
    raise ConceptError(
        f"{type(given).__name__} is no function from text to a number; give one, or a module of "
        "tracemend.concepts.modules (UnitOfSite, LabelOdds, Along)."
    )


def checked(module: Module, texts: Sequence[str]) -> Doubles:
    """The module's numbers for texts.

    Raises:
        ConceptError: another number of values than texts, or one that is not finite.
    """
    found = np.asarray(module.values(texts))
    if found.shape != (len(texts),) or found.dtype.kind not in "fiu":
        raise ConceptError(
            f"the module gave an array of {found.dtype} of shape {found.shape} for {len(texts)} texts; it must give "
            "one number a text."
        )
    bad = np.flatnonzero(~np.isfinite(found.astype(np.float64)))
    if len(bad):
        raise ConceptError(
            f"the module gave {found[bad[0]]} for {texts[int(bad[0])][:40]!r}; it must give a finite number."
        )
    return found.astype(np.float64)
