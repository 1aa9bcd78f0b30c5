"""Short instructions with right answers, written for the tests."""

from __future__ import annotations

from tracemend.data import Completions

_CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Egypt": "Cairo", "Austria": "Vienna",
    "Greece": "Athens", "Norway": "Oslo", "Peru": "Lima", "Cuba": "Havana", "Russia": "Moscow", "Poland": "Warsaw",
}  # fmt: skip
_OPPOSITES = {
    "hot": "cold", "big": "small", "up": "down", "fast": "slow", "light": "dark", "happy": "sad", "old": "young",
    "rich": "poor", "full": "empty", "hard": "soft", "wet": "dry", "loud": "quiet",
}  # fmt: skip
_PLURALS = {
    "dog": "dogs", "child": "children", "mouse": "mice", "foot": "feet", "box": "boxes", "city": "cities",
    "man": "men", "leaf": "leaves", "tooth": "teeth", "house": "houses", "baby": "babies", "bus": "buses",
}  # fmt: skip
_COLOURS = {
    "grass": "green", "snow": "white", "coal": "black", "a banana": "yellow", "blood": "red", "the sky": "blue",
    "an orange": "orange", "chocolate": "brown", "milk": "white", "the sun": "yellow", "a tomato": "red",
    "a frog": "green",
}  # fmt: skip


def instructions() -> Completions:
    """48 of them, four kinds by turns."""
    kinds = [
        ("What is the capital of {}?", "The capital of {} is {}.", _CAPITALS),
        ("What is the opposite of {}?", "The opposite of {} is {}.", _OPPOSITES),
        ("What is the plural of {}?", "The plural of {} is {}.", _PLURALS),
        ("What colour is {}?", "The colour of {} is {}.", _COLOURS),
    ]
    made = [
        (prompt.format(asked), completion.format(asked, answer))
        for row in zip(*(answers.items() for _, _, answers in kinds), strict=True)
        for (prompt, completion, _), (asked, answer) in zip(kinds, row, strict=True)
    ]
    return Completions.make([prompt for prompt, _ in made], [completion for _, completion in made])
