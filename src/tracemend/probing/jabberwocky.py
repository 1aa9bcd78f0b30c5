"""Sentences whose open-class words are made up: the syntax stays, the meaning goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tracemend.data import Treebank
from tracemend.errors import ProbeError
from tracemend.models import LanguageModel
from tracemend.models.representations import fits

OPEN = ("NOUN", "VERB", "ADJ", "ADV", "PROPN")
_ONSETS = "b bl br c ch cr d dr f fl fr g gl gr h j k l m n p pl pr qu r s sh sl sn sp st str t th tr v w y z"
_VOWELS = "a e i o u ee oo ai ou ea"
_CODAS = "b ck d ff g l ll m mp n nd nk p r rk rm s sh st t th v x"
# What inflection leaves visible, the longest first.
_SUFFIXES = "ically ously ation ingly ness ment able ible ing ies est ous ful ive ed ly er es al ic s y"


def jabberwocky(bank: Treebank, *, seed: int = 0, known: Iterable[str] = ()) -> Treebank:
    """Replace nouns, verbs, adjectives, adverbs and names by made-up words (Maudslay and Cotterell 2021, arXiv
    2106.02559).

    A made-up word keeps capitals and the suffix that shows the inflection; the same word with the same tag gets the
    same one throughout; none is a word of the treebank, or known. A probe that still finds the trees read them off the
    syntax.

    Args:
        bank: with ``upos`` tags.
        seed: of the words.
        known: words that none may be, such as those of other parts.

    Raises:
        ProbeError: the sentences have no ``upos`` tags.

    Example:
        >>> " ".join(jabberwocky(bank).sentences[0].words)
        'From the BRALL chooms this sneest :'
    """
    if any("upos" not in sentence.tags for sentence in bank.sentences):
        raise ProbeError(f"{bank.name} has no part-of-speech tags (upos), which say what words are open-class.")
    rng = np.random.default_rng(seed)
    taken = {word.lower() for sentence in bank.sentences for word in sentence.words} | {w.lower() for w in known}
    made: dict[tuple[str, str], str] = {}
    sentences = []
    for sentence in bank.sentences:
        words = list(sentence.words)
        for i, (word, tag) in enumerate(zip(sentence.words, sentence.tags["upos"], strict=True)):
            if tag not in OPEN or not word.isalpha():
                continue
            key = (word.lower(), tag)
            if key not in made:
                made[key] = _word(word.lower(), rng, taken)
                taken.add(made[key])
            words[i] = _capitals(made[key], word)
        sentences.append(replace(sentence, words=tuple(words)))
    return replace(bank, sentences=tuple(sentences), name=f"{bank.name}, made-up words")


def made_up_beside(parts: Mapping[str, Treebank], model: LanguageModel, *, seed: int = 0) -> Treebank | None:
    """The test sentences with made-up words; None where no tags say what words are open-class.

    See :func:`jabberwocky`. None of the words is one of any part, or of the model's vocabulary.
    """
    if any("upos" not in sentence.tags for sentence in parts["test"].sentences):
        return None
    known = {word for bank in parts.values() for sentence in bank.sentences for word in sentence.words}
    return jabberwocky(parts["test"], seed=seed, known=known | _whole_words(model))


def _whole_words(model: LanguageModel) -> set[str]:
    """What the tokenizer has one token for that can begin a word, without its mark of a space."""
    return {token.lstrip("Ġ▁") for token in model.tokenizer.get_vocab() if not token.startswith("##")}


def unread(made_up: Sequence[Sequence[str]], model: LanguageModel) -> str | None:
    """Why these sentences with made-up words are not put before a model; None where all fit into its window.

    Made-up words have more tokens than known ones, so that a sentence can become longer than the window.
    """
    if fits(model, made_up):
        return None
    return (
        f"Nothing is said of made-up words: they make a test sentence longer than the window of {model.name} "
        f"({model.window} tokens)."
    )


def _word(word: str, rng: np.random.Generator, taken: set[str]) -> str:
    suffix = next((end for end in _SUFFIXES.split() if word.endswith(end) and len(word) > len(end) + 2), "")
    syllables = max(1, round((len(word) - len(suffix)) / 4))
    while True:
        parts = [_draw(rng, _ONSETS) + _draw(rng, _VOWELS) + _draw(rng, _CODAS) * (k == syllables - 1)
                 for k in range(syllables)]  # fmt: skip
        found = "".join(parts) + suffix
        if found not in taken:
            return found


def _draw(rng: np.random.Generator, of: str) -> str:
    pieces = of.split()
    return pieces[int(rng.integers(len(pieces)))]


def _capitals(made: str, word: str) -> str:
    if word.isupper() and len(word) > 1:
        return made.upper()
    return made.capitalize() if word[0].isupper() else made
