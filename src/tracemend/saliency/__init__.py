"""Which words: gradients, integrated gradients, attention, occlusion.

Weights of the words of the user's text, never of sub-word pieces, with their faithfulness beside random orders.
"""

from tracemend.saliency.attention import AttentionWeights, Rollout
from tracemend.saliency.coloured import STYLE, coloured
from tracemend.saliency.faithfulness import faithfulness
from tracemend.saliency.gradient import Gradient
from tracemend.saliency.input_x_gradient import InputXGradient
from tracemend.saliency.integrated_gradients import IntegratedGradients
from tracemend.saliency.method import Saliency
from tracemend.saliency.occlusion import Occlusion
from tracemend.saliency.result import SaliencyResult
from tracemend.saliency.words import Example, Word, encoded

__all__ = [
    "STYLE",
    "AttentionWeights",
    "Example",
    "Gradient",
    "InputXGradient",
    "IntegratedGradients",
    "Occlusion",
    "Rollout",
    "Saliency",
    "SaliencyResult",
    "Word",
    "coloured",
    "encoded",
    "faithfulness",
]
