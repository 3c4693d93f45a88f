"""Low-rank models of matrices: completion, factorisation, and recovery from measurements."""

from sklr.decomposition._alternating import alternating_minimization
from sklr.decomposition._factorization import MatrixFactorizationRegressor
from sklr.decomposition._functional_tucker import FunctionalTuckerRegressor
from sklr.decomposition._functional_tucker_display import LatentFunctionsDisplay
from sklr.decomposition._imputer import LowRankImputer
from sklr.decomposition._sensing import MatrixSensingRegressor

__all__ = [
    "FunctionalTuckerRegressor",
    "LatentFunctionsDisplay",
    "LowRankImputer",
    "MatrixFactorizationRegressor",
    "MatrixSensingRegressor",
    "alternating_minimization",
]
