"""Low-rank models of matrices: completion, factorisation and recovery."""

from sklr.decomposition._alternating import alternating_minimization
from sklr.decomposition._factorization import MatrixFactorizationRegressor
from sklr.decomposition._imputer import LowRankImputer

__all__ = [
    "LowRankImputer",
    "MatrixFactorizationRegressor",
    "alternating_minimization",
]
