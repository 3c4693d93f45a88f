"""Covariance features of multichannel trials, and classifiers on them."""

from sklr.covariance._augmented import AugmentedCovariance
from sklr.covariance._average import AugmentedCovarianceAverageSVC
from sklr.covariance._bures_wasserstein import BuresWassersteinScaler
from sklr.covariance._delays import augmented_covariance, augmented_covariance_grid, delay_embed
from sklr.covariance._embedding import select_embedding
from sklr.covariance._mdm import MDM
from sklr.covariance._recentering import GroupRecentering
from sklr.covariance._search import AugmentedCovarianceSVCCV
from sklr.covariance._svc import AugmentedCovarianceSVC
from sklr.covariance._tangent import TangentSpace

__all__ = [
    "MDM",
    "AugmentedCovariance",
    "AugmentedCovarianceAverageSVC",
    "AugmentedCovarianceSVC",
    "AugmentedCovarianceSVCCV",
    "BuresWassersteinScaler",
    "GroupRecentering",
    "TangentSpace",
    "augmented_covariance",
    "augmented_covariance_grid",
    "delay_embed",
    "select_embedding",
]
