"""What can be said of a word: the atoms from which formulas of units are made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracemend.arrays import Masks
from tracemend.data import Sentence
from tracemend.models import LanguageModel
from tracemend.models.tokens import word_tokens

_TAGS = ("upos", "deprel", "ner")
# Words that NEIGHBOURS of a lemma takes beside itself.
_NEAREST = 5


@dataclass(frozen=True, eq=False)
class Features:
    """Atomic features of words.

    Attributes:
        names: such as ``upos=NOUN``, ``word=the`` or ``near=happy``.
        train: whether each holds of each word of training [features, n].
        test: the same of test words [features, m].
    """

    names: tuple[str, ...]
    train: Masks
    test: Masks

    @classmethod
    def of_words(
        cls,
        train: Sequence[Sentence],
        test: Sequence[Sentence],
        *,
        fewest: int,
        most: int,
        model: LanguageModel | None = None,
    ) -> Features:
        """Tags, morphological features, forms, lemmas and their neighbours, of words in their order.

        Args:
            train: what is counted; of features that hold of the same words there, the first is kept.
            test: where the same features are looked for.
            fewest: words of training of which a feature must hold, or of which it must not.
            most: forms and lemmas, the most frequent of each.
            model: in whose input embeddings neighbours are near; without it there is no ``near=``.
        """
        atoms = [[_atoms(sentence) for sentence in part] for part in (train, test)]
        flat = [[words for sentence in part for words in sentence] for part in atoms]
        counts = Counter(atom for words in flat[0] for atom in words)
        kept: list[str] = []
        for kind in ("", "word=", "lemma="):
            own = [name for name in counts if _open(name) == kind and counts[name] >= fewest]
            own.sort(key=lambda name: (-counts[name], name))
            kept += own if not kind else own[:most]
        if model is not None:
            near = _neighbours(model, [name.removeprefix("lemma=") for name in kept if name.startswith("lemma=")])
            for part in flat:
                for words in part:
                    words += [f"near={centre}" for atom in list(words) for centre in near.get(atom, ())]
            counts = Counter(atom for words in flat[0] for atom in words)
            kept += [name for name in counts if name.startswith("near=") and counts[name] >= fewest]
        return cls.of(flat[0], flat[1], kept, fewest=fewest)

    @classmethod
    def of(
        cls, train: Sequence[Sequence[str]], test: Sequence[Sequence[str]], names: Sequence[str], *, fewest: int
    ) -> Features:
        """Masks of these names over rows that are given by the names that hold of them."""
        index = {name: i for i, name in enumerate(names)}
        masks = []
        for part in (train, test):
            mask = np.zeros((len(names), len(part)), dtype=bool)
            for at, row in enumerate(part):
                for name in row:
                    if name in index:
                        mask[index[name], at] = True
            masks.append(mask)
        seen: set[bytes] = set()
        rows = []
        for i, mask in enumerate(masks[0]):
            held = int(mask.sum())
            key = np.packbits(mask).tobytes()
            if fewest <= held <= mask.size - fewest and key not in seen:
                seen.add(key)
                rows.append(i)
        return cls(tuple(names[i] for i in rows), masks[0][rows], masks[1][rows])


def _open(name: str) -> str:
    """``word=`` or ``lemma=`` where the name is of such a kind, of which there is no end."""
    return next((kind for kind in ("word=", "lemma=") if name.startswith(kind)), "")


def _atoms(sentence: Sentence) -> list[list[str]]:
    """The names that hold of each word of a sentence, but for neighbours."""
    rows: list[list[str]] = []
    for at, word in enumerate(sentence.words):
        found = [f"{tag}={sentence.tags[tag][at].partition(':')[0]}" for tag in _TAGS
                 if tag in sentence.tags and sentence.tags[tag][at]]  # fmt: skip
        cell = sentence.tags["feats"][at] if "feats" in sentence.tags else ""
        found += [f"{name}={value}" for name, _, value in (pair.partition("=") for pair in cell.split("|")) if value]
        if at == 0:
            found.append("first")
        if word[:1].isupper():
            found.append("capital")
        if any(character.isdigit() for character in word):
            found.append("digit")
        found.append(f"word={word.lower()}")
        lemma = sentence.tags["lemma"][at] if "lemma" in sentence.tags else ""
        if lemma:
            found.append(f"lemma={lemma.lower()}")
        rows.append(found)
    return rows


def _neighbours(model: LanguageModel, lemmas: Sequence[str]) -> dict[str, list[str]]:
    """Of each lemma's name, the lemmas whose five nearest it is among, itself with them, by cosine of embeddings."""
    if len(lemmas) <= _NEAREST:
        return {}
    embedded = torch.stack([embedding(model, lemma) for lemma in lemmas])
    embedded = embedded - embedded.mean(0)
    unit = torch.nn.functional.normalize(embedded, dim=-1)
    nearest = (unit @ unit.T).topk(_NEAREST + 1, dim=-1).indices
    found: dict[str, list[str]] = {}
    for centre, row in zip(lemmas, nearest.tolist(), strict=True):
        for other in {*row, lemmas.index(centre)}:
            found.setdefault(f"lemma={lemmas[other]}", []).append(centre)
    return found


@torch.no_grad()
def embedding(model: LanguageModel, word: str) -> Tensor:
    """Mean of the input embeddings of a word's tokens [d]."""
    table = model.network.get_input_embeddings()
    found: Tensor = table(torch.tensor(word_tokens(model, word), device=table.weight.device)).float().mean(0).cpu()
    return found
