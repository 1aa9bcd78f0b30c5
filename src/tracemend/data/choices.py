"""Multiple-choice questions whose answer is a letter."""

from __future__ import annotations

import numpy as np

from tracemend.data.prompts import PromptPairs
from tracemend.errors import DataError

_LETTERS = ("A", "B", "C", "D")
_CAPITALS = (
    ("France", "Paris"), ("Italy", "Rome"), ("Japan", "Tokyo"), ("Spain", "Madrid"), ("Germany", "Berlin"),
    ("Russia", "Moscow"), ("Egypt", "Cairo"), ("Greece", "Athens"), ("Austria", "Vienna"), ("Portugal", "Lisbon"),
    ("Ireland", "Dublin"), ("Poland", "Warsaw"), ("Cuba", "Havana"), ("Peru", "Lima"), ("Kenya", "Nairobi"),
    ("Norway", "Oslo"),
)  # fmt: skip


def letter_choices(count: int = 16, *, seed: int = 0) -> PromptPairs:
    """Questions for a capital with four cities to choose from (the letter task of Lieberum et al. 2023).

    In the corrupted prompt the right city has changed places with another one, so that another letter is right: the
    tokens are the same, in another order. Lieberum et al. 2023, "Does Circuit Analysis Interpretability Scale?",
    arXiv 2307.09458, asked questions of MMLU.

    Args:
        count: pairs, all of them different.
        seed: of the draw.

    Raises:
        DataError: fewer than one, or more than 1,000.

    Example:
        >>> letter_choices(1).frame.loc[0, "answer"]
        'A'
    """
    if not 1 <= count <= 1000:
        raise DataError(f"count is {count}; expected 1 to 1000.")
    rng = np.random.default_rng(seed)
    rows: list[dict[str, str]] = []
    seen: set[str] = set()
    while len(rows) < count:
        four = [_CAPITALS[i] for i in rng.permutation(len(_CAPITALS))[: len(_LETTERS)]]
        right, other = (int(i) for i in rng.permutation(len(_LETTERS))[:2])
        country = four[right][0]
        clean = _question(country, [city for _, city in four])
        four[right], four[other] = four[other], four[right]
        corrupted = _question(country, [city for _, city in four])
        if clean not in seen:
            seen.add(clean)
            rows.append({"clean": clean, "corrupted": corrupted, "answer": _LETTERS[right], "foil": _LETTERS[other]})
    return PromptPairs.make(rows)


def _question(country: str, cities: list[str]) -> str:
    choices = " ".join(f"({letter}) {city}" for letter, city in zip(_LETTERS, cities, strict=True))
    return f"Question: What is the capital of {country}? {choices}\nAnswer: The letter of the right answer is"
