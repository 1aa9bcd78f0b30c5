"""Labelled text in one shape, and prompts with completions: readers that name the bad rows, and exporters.

Also treebanks, minimal pairs, labelled spans and concept sets, splits without leaks, label noise made on purpose,
reference data sets, the embedded demo set, and the ledger of every decision on examples.
"""

from __future__ import annotations

from tracemend.data.cloze_sets import read_cloze, read_kinds, read_primed
from tracemend.data.completions import Completions, CompletionSplits
from tracemend.data.concepts import Concepts, read_concepts
from tracemend.data.constituents import Constituent, constituent_spans, read_trees, trees_beside, with_constituents
from tracemend.data.decision import Decision
from tracemend.data.demo import demo
from tracemend.data.export import write
from tracemend.data.facts import PLAIN, Fact, Facts, read_facts
from tracemend.data.functional import (
    ContrastSet,
    Direction,
    FunctionalTest,
    checklist,
    read_contrasts,
    read_functional,
    thinned,
)
from tracemend.data.ledger import Ledger
from tracemend.data.noise import KINDS, Noise, corrupt
from tracemend.data.pairs import MinimalPairs, read_pairs
from tracemend.data.parlai import bot_adversarial_dialogue, multi_turn_safety, single_turn_safety
from tracemend.data.pronoun_sets import gum_pronouns, read_pronouns, read_winobias, read_winogender
from tracemend.data.pronouns import Pronoun, Pronouns, read_gap
from tracemend.data.rationales import read_rationales, read_words
from tracemend.data.readers import read, read_completions, read_texts, read_unlabelled
from tracemend.data.reference import REFERENCES, available, available_folder, reference
from tracemend.data.schema import Examples, Labelled, Splits
from tracemend.data.span_tasks import coreference_spans, pos_spans, question_spans, read_evidence, relation_spans
from tracemend.data.spans import SpanExamples, dependency_spans, entity_spans, gum_entities, read_spans
from tracemend.data.split_files import read_splits
from tracemend.data.splits import halves, make_splits, sample
from tracemend.data.treebanks import Sentence, Treebank, read_bio, read_conllu, read_treebank
from tracemend.data.words import words_of

__all__ = [
    "KINDS",
    "PLAIN",
    "REFERENCES",
    "CompletionSplits",
    "Completions",
    "Concepts",
    "Constituent",
    "ContrastSet",
    "Decision",
    "Direction",
    "Examples",
    "Fact",
    "Facts",
    "FunctionalTest",
    "Labelled",
    "Ledger",
    "MinimalPairs",
    "Noise",
    "Pronoun",
    "Pronouns",
    "Sentence",
    "SpanExamples",
    "Splits",
    "Treebank",
    "available",
    "available_folder",
    "bot_adversarial_dialogue",
    "checklist",
    "constituent_spans",
    "coreference_spans",
    "corrupt",
    "demo",
    "dependency_spans",
    "entity_spans",
    "gum_entities",
    "gum_pronouns",
    "halves",
    "make_splits",
    "multi_turn_safety",
    "pos_spans",
    "question_spans",
    "read",
    "read_bio",
    "read_cloze",
    "read_completions",
    "read_concepts",
    "read_conllu",
    "read_contrasts",
    "read_evidence",
    "read_facts",
    "read_functional",
    "read_gap",
    "read_kinds",
    "read_pairs",
    "read_primed",
    "read_pronouns",
    "read_rationales",
    "read_spans",
    "read_splits",
    "read_texts",
    "read_treebank",
    "read_trees",
    "read_unlabelled",
    "read_winobias",
    "read_winogender",
    "read_words",
    "reference",
    "relation_spans",
    "sample",
    "single_turn_safety",
    "thinned",
    "trees_beside",
    "with_constituents",
    "words_of",
    "write",
]
