"""Low-rank matrices: regression on measurements of them."""

from sklr.decomposition._sensing import MatrixSensingRegressor

__all__ = ["MatrixSensingRegressor"]
