"""The embedded explainer: which words, pairs of words, endings and classes of words a unit answers to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from sklearn.cluster import KMeans

from tracemend.arrays import Floats
from tracemend.models import LanguageModel
from tracemend.neurons.excerpts import Excerpts
from tracemend.neurons.features import embedding

Words = Sequence[str]

_ENDINGS = (2, 3)
_SHORTEST = 5
# Word types in a class of words that are near in the input embeddings, and how many it is named by.
_CLASS, _NAMED = 25, 3
# Share of a unit's spread that is rounding.
_TOLD = 1e-6


@dataclass(frozen=True)
class Explanation:
    """What a unit answers to.

    Attributes:
        text: in words.
        parts: names of features and the activation that each stands for; none where a language model wrote the text.
        base: the activation where none holds.
        missing: why there is no text, where it is known.
    """

    text: str
    parts: tuple[tuple[str, float], ...] = ()
    base: float = 0.0
    missing: str = ""


@dataclass(frozen=True, eq=False)
class Lexicon:
    """Features of words in their order that need no annotation: forms, pairs, endings, shapes and classes.

    Attributes:
        classes: of a form in lower case, the name of its class of words.
    """

    classes: dict[str, str]

    @classmethod
    def of(cls, excerpts: Sequence[Words], model: LanguageModel, *, most: int = 1_000, seed: int = 0) -> Lexicon:
        """Classes of the most frequent forms: nearest in the model's input embeddings (k-means on directions).

        Args:
            excerpts: words that forms are counted in.
            model: whose input embeddings.
            most: forms.
            seed: of k-means.
        """
        counts = Counter(word.lower() for words in excerpts for word in words)
        forms = [form for form, _ in counts.most_common(most) if any(c.isalpha() for c in form)]
        clusters = len(forms) // _CLASS
        if clusters < 2:
            return cls({})
        vectors = torch.nn.functional.normalize(torch.stack([embedding(model, form) for form in forms]), dim=-1)
        vectors = vectors - vectors.mean(0)
        found = KMeans(clusters, n_init=1, random_state=seed).fit(vectors.numpy())
        distance = found.transform(vectors.numpy())
        classes: dict[str, str] = {}
        for c in range(clusters):
            own = np.flatnonzero(found.labels_ == c)
            named = own[np.argsort(distance[own, c], kind="stable")[:_NAMED]]
            name = f"like {', '.join(repr(forms[i]) for i in named)}"
            classes |= {forms[i]: name for i in own}
        return cls(classes)

    def names(self, words: Words) -> list[list[str]]:
        """The names of features that hold of each word of an excerpt."""
        found: list[list[str]] = []
        before = ""
        for word in words:
            form = word.lower()
            own = [f"{form!r}", f"'{before} {form}'"] if before else [f"{form!r}"]
            if len(form) >= _SHORTEST and form.isalpha():
                own += [f"words ending in -{form[-n:]}" for n in _ENDINGS]
            if word[:1].isupper():
                own.append("capitalised words")
            if any(c.isdigit() for c in word):
                own.append("numbers")
            if not any(c.isalnum() for c in word):
                own.append("punctuation")
            if form in self.classes:
                own.append(f"words {self.classes[form]}")
            found.append(own)
            before = form
        return found

    def table(self, excerpts: Sequence[Words], *, fewest: int) -> Table:
        """The features that hold of at least ``fewest`` words, with where they do."""
        rows = [names for words in excerpts for names in self.names(words)]
        counts = Counter(name for row in rows for name in row)
        index = {name: i for i, name in enumerate(sorted(name for name in counts if counts[name] >= fewest))}
        at = [(i, index[name]) for i, row in enumerate(rows) for name in row if name in index]
        places, columns = (np.array([pair[k] for pair in at], dtype=np.int64) for k in (0, 1))
        ones = np.ones(len(at), dtype=np.float64)
        matrix = sparse.csc_matrix((ones, (places, columns)), shape=(len(rows), len(index)))
        return Table(tuple(index), matrix)

    def simulate(self, explanation: Explanation, words: Words) -> Floats:
        """What a unit with this explanation would do on the words of an excerpt."""
        of = dict(explanation.parts)
        return np.array([explanation.base + sum(of.get(name, 0.0) for name in own) for own in self.names(words)])


@dataclass(frozen=True, eq=False)
class Table:
    """Where features hold.

    Attributes:
        names: of the features.
        matrix: 1 where a feature holds of a word [n, features], sparse.
    """

    names: tuple[str, ...]
    matrix: sparse.csc_matrix

    def explain(self, activation: Floats, *, parts: int) -> Explanation:
        """The few features whose sum follows a unit's activations best, chosen one after another.

        Orthogonal matching pursuit: each time the feature that goes most with what is left, then all chosen are fitted
        anew by least squares; one that would lower the activation is not taken.

        Args:
            activation: on every word [n].
            parts: most features.
        """
        size = np.asarray(self.matrix.sum(0)).ravel()
        n = len(activation)
        spread = np.sqrt(np.maximum(size * (1 - size / n), 1e-12))
        rest = activation - activation.mean()
        chosen: list[int] = []
        weights, base = np.zeros(0), float(activation.mean())
        for _ in range(min(parts, len(self.names))):
            if rest.std() <= _TOLD * activation.std():
                break
            with_rest = (self.matrix.T @ rest - size * rest.mean()) / spread
            with_rest[chosen] = -np.inf
            best = int(with_rest.argmax())
            # What chance would bring: the largest of so many draws.
            if with_rest[best] <= rest.std() * np.sqrt(2 * np.log(max(2, len(self.names)))):
                break
            design = np.column_stack([np.ones(n), self.matrix[:, [*chosen, best]].toarray()])
            fitted = np.linalg.lstsq(design, activation, rcond=None)[0]
            if fitted[-1] <= 0:
                break
            chosen.append(best)
            base, weights = float(fitted[0]), fitted[1:]
            rest = activation - design @ fitted
        order = np.argsort(-weights, kind="stable")
        found = tuple((self.names[chosen[i]], float(weights[i])) for i in order)
        return Explanation("; ".join(name for name, _ in found), found, base)


def known_units(train: Sequence[Words], test: Sequence[Words], lexicon: Lexicon) -> dict[str, Excerpts]:
    """Units whose meaning is known, one of each kind of feature: 1 where the feature holds, else 0.

    Args:
        train: excerpts.
        test: others.
        lexicon: whose features.

    Returns:
        By part, excerpts with these units.
    """
    rows = {part: [lexicon.names(words) for words in of] for part, of in (("train", train), ("test", test))}
    counts = Counter(name for excerpt in rows["train"] for names in excerpt for name in names)
    kinds: dict[str, list[str]] = {}
    for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        kinds.setdefault(_kind(name), []).append(name)
    # Not the most frequent, which is a comma or an article.
    chosen = [names[min(len(names) - 1, 3)] for names in kinds.values()]
    found = {}
    for part, of in (("train", train), ("test", test)):
        held = [[float(name in names) for name in chosen] for excerpt in rows[part] for names in excerpt]
        found[part] = Excerpts(tuple(tuple(words) for words in of), np.array(held))
    return found


def _kind(name: str) -> str:
    if name[0] in "'\"":
        return "pair" if " " in name else "form"
    return " ".join(name.split()[:2])
