"""Pretrained language models of every family, and access to what goes on inside them.

``load`` and ``tiny`` make a :class:`LanguageModel`; ``embedded`` lists those that need no network. ``sites`` names
the activations that ``capture`` reads and ``edit`` changes (``edits`` holds the usual changes, :class:`Replay` runs
a decoder from one of its blocks on). ``represent`` gives vectors of words and sentences, ``random_weights`` the same
network untrained.
"""

from tracemend.models.embedded import EmbeddedModel, embedded
from tracemend.models.hooks import capture, edit
from tracemend.models.language_model import Family, LanguageModel
from tracemend.models.load import load
from tracemend.models.random_weights import random_weights
from tracemend.models.replay import Replay
from tracemend.models.representations import Representations, align, represent
from tracemend.models.sites import Site, register_site, site, sites
from tracemend.models.tiny import tiny

__all__ = [
    "EmbeddedModel",
    "Family",
    "LanguageModel",
    "Replay",
    "Representations",
    "Site",
    "align",
    "capture",
    "edit",
    "embedded",
    "load",
    "random_weights",
    "register_site",
    "represent",
    "site",
    "sites",
    "tiny",
]
