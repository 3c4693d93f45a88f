"""scikit-learn estimators with networks inside (fitting them needs the extra ``torch``)."""

from sklr.neural_network._adapters import AdapterClassifier
from sklr.neural_network._callbacks import Checkpoint, ProgressPrinter
from sklr.neural_network._compressed import CompressedClassifier
from sklr.neural_network._dynamic_subspaces import DynamicSubspaceEmbedding
from sklr.neural_network._eeg_spdnet import EEGSPDNetClassifier
from sklr.neural_network._grassmann import GrassmannClassifier
from sklr.neural_network._koopman import InformationKoopman
from sklr.neural_network._latent_spectral import LatentSpectralRegressor
from sklr.neural_network._lie import LieGroupConvClassifier
from sklr.neural_network._maestro import MaestroClassifier
from sklr.neural_network._maestro_display import SizeCurveDisplay
from sklr.neural_network._manifold_clustering import ManifoldLinearizingClustering
from sklr.neural_network._mmcr import MMCR
from sklr.neural_network._morph import MorphableClassifier
from sklr.neural_network._quantization import LatentQuantizationFilter
from sklr.neural_network._singular import PerturbedGenerativeModel
from sklr.neural_network._spdnet import SPDNetClassifier
from sklr.neural_network._subspace import SubspaceClassifier

__all__ = [
    "AdapterClassifier",
    "Checkpoint",
    "CompressedClassifier",
    "DynamicSubspaceEmbedding",
    "EEGSPDNetClassifier",
    "GrassmannClassifier",
    "InformationKoopman",
    "LatentQuantizationFilter",
    "LatentSpectralRegressor",
    "LieGroupConvClassifier",
    "MMCR",
    "MaestroClassifier",
    "ManifoldLinearizingClustering",
    "PerturbedGenerativeModel",
    "MorphableClassifier",
    "ProgressPrinter",
    "SPDNetClassifier",
    "SizeCurveDisplay",
    "SubspaceClassifier",
]
