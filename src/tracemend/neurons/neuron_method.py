"""What the methods on units of words share: the words, the site, and the untrained network beside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from tracemend.data import Treebank
from tracemend.errors import NeuronError
from tracemend.methods import Method
from tracemend.models import LanguageModel, random_weights
from tracemend.models.representations import Pooling
from tracemend.neurons.result import NeuronsResult
from tracemend.neurons.units import Units, activations
from tracemend.neurons.words import Property
from tracemend.progress import Progress

R = TypeVar("R", bound=NeuronsResult)


@dataclass(frozen=True, kw_only=True)
class NeuronMethod(Method[R]):
    """Base of the methods that ask which units of a site know a property of words.

    Attributes:
        task: the property, see :meth:`tracemend.neurons.words.Property.of`.
        among: the part of speech whose words alone are taken; empty for all.
        site: whose units; a layer's stream, the neurons of an MLP, heads.
        pooling: of a word's tokens.
        train_items: most words to train on, whole sentences at random; a fifth of it serves as dev.
        test_items: most words to test on.
        fewest: words of training that a label must have; rarer labels are left out.
    """

    inputs: ClassVar[str] = "Treebank"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder"})
    at_least: ClassVar = {"train_items": 1, "test_items": 1, "fewest": 1}

    task: str = "upos"
    among: str = ""
    site: str = "blocks.1.hook_resid_post"
    pooling: Pooling = "mean"
    train_items: int = 8_000
    test_items: int = 4_000
    fewest: int = 50

    def read_units(
        self, model: Any, data: Any, progress: Progress, *, untrained: bool = True
    ) -> tuple[Property, Units, Units]:
        """The words, the units of the model, and those of the same network with random weights.

        Args:
            model: a :class:`LanguageModel`.
            data: a :class:`Treebank`.
            progress: shown.
            untrained: without it the model's own units are given twice.

        Raises:
            NeuronError: data or model of another kind, numbers below one, or what the words lack.
        """
        if not isinstance(model, LanguageModel):
            raise NeuronError(f"{self.name} takes a LanguageModel, not {type(model).__name__}; load one first.")
        if not isinstance(data, Treebank):
            raise NeuronError(
                f"{self.name} takes a Treebank, not {type(data).__name__}; read one with tracemend.data.read_treebank."
            )
        most = {"train": self.train_items, "dev": max(1, self.train_items // 5), "test": self.test_items}
        words = Property.of(data, self.task, among=self.among, most=most, fewest=self.fewest, seed=self.seed)
        read = [model, random_weights(model, seed=self.seed + 1)] if untrained else [model]
        made = [Units.of(activations(one, words, self.site, pooling=self.pooling, progress=progress)) for one in read]
        return words, made[0], made[-1]

    def about(
        self, model: LanguageModel, words: Property, units: Units, *, errors: bool = True
    ) -> tuple[dict[str, Any], list[str]]:
        """Facts of a result, and findings about the data alone.

        Args:
            model: whose units they are.
            words: the property.
            units: of the model.
            errors: whether the method's accuracies count words with labels that training lacks.
        """
        facts = {
            "model": model.name,
            "model_fingerprint": model.fingerprint,
            "site": self.site,
            "units": units.width,
            "dead": units.dead.tolist(),
            "labels": list(words.names),
            "n_train": len(words.parts["train"]),
            "n_test": len(words.parts["test"]),
        }
        said = []
        if words.left_out:
            said.append(
                f"Labels with fewer than {self.fewest} words of training: {', '.join(words.left_out)}; left out."
            )
        if words.foreign:
            shown = ", ".join(f"{label} ({n})" for label, n in words.foreign.items())
            counted = "accuracies count them as errors, bits are over the others" if errors else "they are left out"
            said.append(
                f"{sum(words.foreign.values())} test words have labels that training lacks ({shown}): {counted}."
            )
        if len(units.dead):
            shown = ", ".join(str(i) for i in units.dead[:10])
            said.append(f"{len(units.dead)} units never vary and are in no ranking: {shown}.")
        if len(words.parts["train"]) < 5 * units.width:
            said.append(f"{len(words.parts['train'])} training words for {units.width} units: take more words.")
        return facts, said
