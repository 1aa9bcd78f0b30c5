"""Parameter-efficient tuning of text classifiers with PEFT.

Adapters on any family of models, checkpoints that a trace can use, and the same for a Trainer of one's own.
"""

from tracemend.tuning.adapters import KINDS, Kind
from tracemend.tuning.callback import CheckpointCallback
from tracemend.tuning.checkpoints import Checkpoint, checkpoints
from tracemend.tuning.classifier import TextClassifier
from tracemend.tuning.pooled import PooledClassifier
from tracemend.tuning.tune import Tuned, Tuning, tune

__all__ = [
    "KINDS",
    "Checkpoint",
    "CheckpointCallback",
    "Kind",
    "PooledClassifier",
    "TextClassifier",
    "Tuned",
    "Tuning",
    "checkpoints",
    "tune",
]
