"""How a decoder does what it does: parts of its logits, heads that copy, patches that carry an answer over.

Every method measures beside a control, leaves the model as it was, and says how much memory it would take before it
takes it. Prompts come from :mod:`tracemend.data.prompts`.
"""

from __future__ import annotations

from tracemend.circuits.attention import Attention, AttentionResult
from tracemend.circuits.attention_only import AttentionOnly
from tracemend.circuits.circuit import Circuit
from tracemend.circuits.composition import composition
from tracemend.circuits.edit import Edit, EditResult
from tracemend.circuits.families import Families, FamiliesResult
from tracemend.circuits.feature_edges import FeatureEdges, FeatureEdgesResult, FeatureTexts
from tracemend.circuits.features import Features, FeaturesResult
from tracemend.circuits.graph import Graph, GraphResult
from tracemend.circuits.growth import Growth, GrowthResult
from tracemend.circuits.induction import Induction, InductionResult
from tracemend.circuits.layers import Layers, LayersResult
from tracemend.circuits.logits import Logits, LogitsResult
from tracemend.circuits.markov import MarkovSource
from tracemend.circuits.memories import Memories, MemoriesResult
from tracemend.circuits.ngrams import Ngrams, NgramsResult
from tracemend.circuits.patch import Patch, PatchResult
from tracemend.circuits.rank_one import RankOne, edited, read_edits, write_edits
from tracemend.circuits.repeats import Repeats
from tracemend.circuits.sae import SparseAutoencoder
from tracemend.circuits.sae_training import SaeTraining
from tracemend.circuits.stages import Stages
from tracemend.circuits.structure import Structure, StructureResult
from tracemend.circuits.subupdates import Subupdates, SubupdatesResult
from tracemend.circuits.superposition import Superposition, ToyModel
from tracemend.circuits.trace_facts import TraceFacts, TraceFactsResult
from tracemend.circuits.units import Units, UnitsResult

__all__ = [
    "Attention",
    "AttentionOnly",
    "AttentionResult",
    "Circuit",
    "Edit",
    "EditResult",
    "Families",
    "FamiliesResult",
    "FeatureEdges",
    "FeatureEdgesResult",
    "FeatureTexts",
    "Features",
    "FeaturesResult",
    "Graph",
    "GraphResult",
    "Growth",
    "GrowthResult",
    "Induction",
    "InductionResult",
    "Layers",
    "LayersResult",
    "Logits",
    "LogitsResult",
    "MarkovSource",
    "Memories",
    "MemoriesResult",
    "Ngrams",
    "NgramsResult",
    "Patch",
    "PatchResult",
    "RankOne",
    "Repeats",
    "SaeTraining",
    "SparseAutoencoder",
    "Stages",
    "Structure",
    "StructureResult",
    "Subupdates",
    "SubupdatesResult",
    "Superposition",
    "ToyModel",
    "TraceFacts",
    "TraceFactsResult",
    "Units",
    "UnitsResult",
    "composition",
    "edited",
    "read_edits",
    "write_edits",
]
