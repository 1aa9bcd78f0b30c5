"""A tiny encoder in which one neuron fires on nouns: what every method on units must find."""

from __future__ import annotations

import torch

from tracemend.data import Sentence, Treebank
from tracemend.models import LanguageModel, tiny
from tracemend.neurons.classifier import fit
from tracemend.neurons.units import Units, activations
from tracemend.neurons.words import Property, tiny_treebank

SITE = "blocks.1.mlp.hook_post"
UNIT = 5


def two_labels() -> Treebank:
    """The made-up treebank, in which a word is a noun or not."""
    found = []
    for sentence in tiny_treebank().sentences:
        tags = tuple("NOUN" if tag == "NOUN" else "OTHER" for tag in sentence.tags["upos"])
        found.append(Sentence(words=sentence.words, tags={"upos": tags}, id=sentence.id, document=sentence.document))
    return Treebank(sentences=tuple(found), name="nouns")


def planted_unit() -> tuple[LanguageModel, Treebank, Property]:
    """A tiny encoder in which one neuron of the second block's MLP fires along a probe's direction."""
    model = tiny("bert")
    bank = two_labels()
    most = {"train": 200, "dev": 50, "test": 60}
    words = Property.of(bank, "upos", most=most, fewest=5)
    units = Units.of(activations(model, words, "blocks.1.hook_resid_mid"))
    weight, bias = fit(units.x["train"][None], words.parts["train"].y[None], 2)
    direction = (weight[0, 0, :, 0] - weight[0, 0, :, 1]) / units.scale
    offset = bias[0, 0, 0, 0] - bias[0, 0, 0, 1] - direction @ units.mean
    dense = model.network.encoder.layer[1].intermediate.dense
    with torch.no_grad():
        dense.weight[UNIT] = 4 * direction
        dense.bias[UNIT] = 4 * offset
    return model, bank, words
