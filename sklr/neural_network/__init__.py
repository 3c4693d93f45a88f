"""scikit-learn estimators with networks inside (fitting them needs the extra ``torch``)."""

from sklr.neural_network._callbacks import Checkpoint, ProgressPrinter
from sklr.neural_network._eeg_spdnet import EEGSPDNetClassifier
from sklr.neural_network._grassmann import GrassmannClassifier
from sklr.neural_network._manifold_clustering import ManifoldLinearizingClustering
from sklr.neural_network._mmcr import MMCR
from sklr.neural_network._quantization import LatentQuantizationFilter
from sklr.neural_network._spdnet import SPDNetClassifier

__all__ = [
    "Checkpoint",
    "EEGSPDNetClassifier",
    "GrassmannClassifier",
    "LatentQuantizationFilter",
    "MMCR",
    "ManifoldLinearizingClustering",
    "ProgressPrinter",
    "SPDNetClassifier",
]
