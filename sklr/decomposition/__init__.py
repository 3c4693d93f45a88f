"""Low-rank models of matrices, tensors and functions: completion, recovery, compression."""

from sklr.decomposition._alternating import alternating_minimization
from sklr.decomposition._chebyshev import cheb_points, cheb_values_to_coefficients
from sklr.decomposition._chebyshev_tucker import ChebyshevTucker
from sklr.decomposition._chebyshev_tucker_regressor import ChebyshevTuckerRegressor
from sklr.decomposition._cosine_selection import DCTColumnSelection
from sklr.decomposition._factorization import MatrixFactorizationRegressor
from sklr.decomposition._functional_tucker import FunctionalTuckerRegressor
from sklr.decomposition._functional_tucker_display import LatentFunctionsDisplay
from sklr.decomposition._implicit import ImplicitFactorization
from sklr.decomposition._imputer import LowRankImputer
from sklr.decomposition._newton_kernel import newton_kernel_cp
from sklr.decomposition._sensing import MatrixSensingRegressor
from sklr.decomposition._tucker import hosvd, rhosvd

__all__ = [
    "ChebyshevTucker",
    "ChebyshevTuckerRegressor",
    "DCTColumnSelection",
    "FunctionalTuckerRegressor",
    "ImplicitFactorization",
    "LatentFunctionsDisplay",
    "LowRankImputer",
    "MatrixFactorizationRegressor",
    "MatrixSensingRegressor",
    "alternating_minimization",
    "cheb_points",
    "cheb_values_to_coefficients",
    "hosvd",
    "newton_kernel_cp",
    "rhosvd",
]
