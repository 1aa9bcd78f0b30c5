"""From an error to the training examples behind it.

Per-example gradients, influence scores, the candidates they point to, and detectors of wrong labels.
"""

from tracemend.trace.calibration import calibrated
from tracemend.trace.candidates import Candidates, candidates, driver_weights
from tracemend.trace.confident import confident_joint, label_quality, noise_estimate, pruned
from tracemend.trace.cross import Crossed, cross_posterior, trusted_posterior
from tracemend.trace.detectors import Detector
from tracemend.trace.dynamics import Dynamics, dynamics
from tracemend.trace.em import TrueLabels, true_labels
from tracemend.trace.gradients import Block, Gradients, Layout, gradient_batches, per_example_gradients
from tracemend.trace.influence import Influence
from tracemend.trace.live import LiveTrace, TraceCallback, query_gradients
from tracemend.trace.out_of_fold import out_of_fold_probabilities
from tracemend.trace.scores import flipped_factor, relabel_gain
from tracemend.trace.scoring import DataInf, EkFac, HeldQueries, Scored, TracedQueries, TracInScore, score
from tracemend.trace.similarity import embed, nearest_opposite, similarity_scores
from tracemend.trace.suspect_completions import SuspectCompletions
from tracemend.trace.tracin import TracIn, self_influence
from tracemend.trace.trusted import fitted_probabilities, head_inputs, label_free, trusted_probabilities

__all__ = [
    "Block",
    "Candidates",
    "Crossed",
    "DataInf",
    "Detector",
    "Dynamics",
    "EkFac",
    "Gradients",
    "HeldQueries",
    "Influence",
    "Layout",
    "LiveTrace",
    "Scored",
    "SuspectCompletions",
    "TracIn",
    "TracInScore",
    "TraceCallback",
    "TracedQueries",
    "TrueLabels",
    "calibrated",
    "candidates",
    "confident_joint",
    "cross_posterior",
    "driver_weights",
    "dynamics",
    "embed",
    "fitted_probabilities",
    "flipped_factor",
    "gradient_batches",
    "head_inputs",
    "label_free",
    "label_quality",
    "nearest_opposite",
    "noise_estimate",
    "out_of_fold_probabilities",
    "per_example_gradients",
    "pruned",
    "query_gradients",
    "relabel_gain",
    "score",
    "self_influence",
    "similarity_scores",
    "true_labels",
    "trusted_posterior",
    "trusted_probabilities",
]
