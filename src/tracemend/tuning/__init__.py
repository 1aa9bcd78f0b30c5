"""Parameter-efficient tuning of text classifiers, and of models that write, with PEFT.

Adapters on any family of models, checkpoints that a trace can use, and the same for a Trainer of one's own.
"""

from tracemend.tuning.adapted import Adapted
from tracemend.tuning.adapters import KINDS, Kind
from tracemend.tuning.callback import CheckpointCallback
from tracemend.tuning.checkpoints import Checkpoint, checkpoints
from tracemend.tuning.classifier import TextClassifier
from tracemend.tuning.completion import CompletionModel
from tracemend.tuning.pooled import PooledClassifier
from tracemend.tuning.predictor import Predictor
from tracemend.tuning.tune import Tuned, Tuning, tune
from tracemend.tuning.tune_completions import TunedCompletions, tune_completions

__all__ = [
    "KINDS",
    "Adapted",
    "Checkpoint",
    "CheckpointCallback",
    "CompletionModel",
    "Kind",
    "PooledClassifier",
    "Predictor",
    "TextClassifier",
    "Tuned",
    "TunedCompletions",
    "Tuning",
    "checkpoints",
    "tune",
    "tune_completions",
]
