"""Low-rank models of matrices: completion, factorisation, and recovery from measurements."""

from sklr.decomposition._alternating import alternating_minimization
from sklr.decomposition._factorization import MatrixFactorizationRegressor
from sklr.decomposition._imputer import LowRankImputer
from sklr.decomposition._sensing import MatrixSensingRegressor

__all__ = [
    "LowRankImputer",
    "MatrixFactorizationRegressor",
    "MatrixSensingRegressor",
    "alternating_minimization",
]
