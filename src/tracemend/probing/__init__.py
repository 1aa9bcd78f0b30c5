"""What a model's representations and predictions hold.

Each figure comes with the controls that make it mean something: untrained weights, labels without meaning, word types.
"""

from tracemend.probing.cloze import ClozeProbe
from tracemend.probing.coreference import CoreferenceProbe
from tracemend.probing.edge import EdgeProbe
from tracemend.probing.layers import LayerProbe
from tracemend.probing.minimal_pairs import MinimalPairsProbe
from tracemend.probing.result import ProbeResult
from tracemend.probing.structural import StructuralProbe

__all__ = [
    "ClozeProbe",
    "CoreferenceProbe",
    "EdgeProbe",
    "LayerProbe",
    "MinimalPairsProbe",
    "ProbeResult",
    "StructuralProbe",
]
