"""What the methods of this room share: which models they are defined for, and how much memory they may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch

from tracemend.data.prompts import Prompts
from tracemend.errors import CircuitError
from tracemend.methods import Method, MethodResult
from tracemend.models import LanguageModel
from tracemend.models.sites import sites

R = TypeVar("R", bound=MethodResult)
P = TypeVar("P", bound=Prompts)

FLOAT = 4


@dataclass(frozen=True, kw_only=True)
class Circuit(Method[R]):
    """Base of the methods that look inside a decoder.

    Attributes:
        max_memory: GiB that activations may take beside the weights; a method that would need more refuses.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"decoder"})

    max_memory: float = 4.0

    def decoder(self, model: Any) -> LanguageModel:
        """The model, if this method is defined for it.

        Raises:
            CircuitError: it is none, or of another family.
        """
        if not isinstance(model, LanguageModel):
            raise CircuitError(f"{self.name} takes a LanguageModel, not {type(model).__name__}; see tracemend.load.")
        if model.family != "decoder":
            raise CircuitError(
                f"{self.name} is not defined for {model.name}, which is an {model.family}: it asks what is predicted "
                "at the end of a text that was read in one direction. Give a decoder."
            )
        return model

    def table(self, kind: type[P], data: Any) -> P:
        """The data, if they are what this method takes.

        Raises:
            CircuitError: they are not.
        """
        if not isinstance(data, kind):
            raise CircuitError(
                f"{self.name} takes {kind.__name__} ({', '.join(kind.columns)}), not {type(data).__name__}; make them "
                f"with {kind.__module__}.{kind.__name__}.make or .read."
            )
        return data

    def announce(self, numbers: float, remedy: str) -> float:
        """The GiB that so many float32 numbers take, if the limit allows it.

        Raises:
            CircuitError: it does not; the message says how much it would be and what to reduce.
        """
        gib = numbers * FLOAT / 2**30
        if gib > self.max_memory:
            size = f"{gib:.2f} GiB" if gib >= 0.1 else f"{gib * 1024:.3g} MiB"
            raise CircuitError(
                f"{self.name} would hold {size} of activations, above the limit of {self.max_memory:g} GiB; "
                f"{remedy}, or raise max_memory."
            )
        return gib


def rows_of(data: Prompts) -> list[dict[str, str]]:
    """The rows of a table of prompts, as texts by column."""
    return [{str(name): str(cell) for name, cell in row.items()} for row in data.frame.to_dict("records")]


def layers_of(model: LanguageModel) -> int:
    """How many blocks the decoder has."""
    return sum(s.name.endswith(".hook_resid_post") for s in sites(model))


def heads_of(model: LanguageModel) -> int:
    """How many heads a block has."""
    return int(model.config.num_attention_heads)


def generator(seed: int) -> torch.Generator:
    """Random numbers of this seed, apart from torch's global ones."""
    return torch.Generator().manual_seed(seed)
