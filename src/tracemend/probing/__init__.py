"""What a model's representations and predictions hold.

Each figure comes with the controls that make it mean something: untrained weights, labels without meaning, word types.
"""

from tracemend.probing.attention_trace import AttentionTrace
from tracemend.probing.cloze import ClozeProbe
from tracemend.probing.coreference import CoreferenceProbe
from tracemend.probing.edge import EdgeProbe
from tracemend.probing.head_coreference import HeadCoreference
from tracemend.probing.head_patterns import HeadPatterns
from tracemend.probing.head_pruning import HeadPruning
from tracemend.probing.heads import HeadProbe
from tracemend.probing.layers import LayerProbe
from tracemend.probing.minimal_pairs import MinimalPairsProbe
from tracemend.probing.prompt_search import PromptSearch
from tracemend.probing.prompting import PromptingProbe
from tracemend.probing.result import ProbeResult
from tracemend.probing.structural import StructuralProbe

__all__ = [
    "AttentionTrace",
    "ClozeProbe",
    "CoreferenceProbe",
    "EdgeProbe",
    "HeadCoreference",
    "HeadPatterns",
    "HeadProbe",
    "HeadPruning",
    "LayerProbe",
    "MinimalPairsProbe",
    "ProbeResult",
    "PromptSearch",
    "PromptingProbe",
    "StructuralProbe",
]
