"""What a part of the benchmarks of units and concepts is measured on: a model, a site, nouns of a treebank."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tracemend.data import Treebank, read_conllu
from tracemend.data.reference import reference_folder
from tracemend.models import LanguageModel, load
from tracemend.models.representations import layer_count

_NOUNS: dict[str, Any] = {"task": "Number", "among": "NOUN"}


@lru_cache(maxsize=1)
def _network(name: str) -> LanguageModel:
    return load(name)


@dataclass(frozen=True)
class Setting:
    """What a part is measured on."""

    model: str
    site: str
    train_items: int
    test_items: int
    seed: int

    @property
    def loaded(self) -> tuple[LanguageModel, Treebank]:
        """The model and the treebank."""
        return _network(self.model), read_conllu(reference_folder("ud_ewt"))

    def layer(self, of_minilm: int) -> int:
        """As far up in the model as this is in minilm, which has six layers."""
        return of_minilm * (layer_count(_network(self.model)) - 1) // 6

    @property
    def mlp(self) -> str:
        """The MLP whose neurons are explained: minilm's third."""
        return f"blocks.{self.layer(2)}.mlp.hook_post"

    @property
    def words(self) -> dict[str, Any]:
        """Options of the methods on nouns."""
        return {**_NOUNS, "site": self.site, "seed": self.seed, "train_items": self.train_items,
                "test_items": self.test_items}  # fmt: skip
