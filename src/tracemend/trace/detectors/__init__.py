"""Detectors of wrong labels, one a file, all registered under ``trace.``.

Each ranks the training labels by suspicion and is compared with a random order.
"""

from tracemend.trace.detectors.aum import Aum
from tracemend.trace.detectors.confident_learning import ConfidentLearning
from tracemend.trace.detectors.consensus import Consensus
from tracemend.trace.detectors.data_maps import DataMaps
from tracemend.trace.detectors.datainf import DataInfInfluence
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion
from tracemend.trace.detectors.ekfac import EkFacInfluence
from tracemend.trace.detectors.em import Em
from tracemend.trace.detectors.forgetting import Forgetting
from tracemend.trace.detectors.gbair import Gbair
from tracemend.trace.detectors.loss import Loss
from tracemend.trace.detectors.mean_influence import MeanInfluence
from tracemend.trace.detectors.others_labels import OthersLabels
from tracemend.trace.detectors.out_of_fold_loss import OutOfFoldLoss
from tracemend.trace.detectors.outlier_gradients import OutlierGradients
from tracemend.trace.detectors.own_influence import SelfInfluence
from tracemend.trace.detectors.random_order import RandomOrder
from tracemend.trace.detectors.simifeat import SimiFeat
from tracemend.trace.detectors.similarity import Similarity
from tracemend.trace.detectors.trusted_model import TrustedModel

__all__ = [
    "Aum",
    "ConfidentLearning",
    "Consensus",
    "DataInfInfluence",
    "DataMaps",
    "Detector",
    "EkFacInfluence",
    "Em",
    "Forgetting",
    "Gbair",
    "Loss",
    "MeanInfluence",
    "OthersLabels",
    "OutOfFoldLoss",
    "OutlierGradients",
    "RandomOrder",
    "SelfInfluence",
    "SimiFeat",
    "Similarity",
    "Subject",
    "Suspicion",
    "TrustedModel",
]
