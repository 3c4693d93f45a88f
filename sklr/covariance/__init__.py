"""Covariance features of multichannel trials."""

from sklr.covariance._augmented import (
    AugmentedCovariance,
    augmented_covariance,
    augmented_covariance_grid,
    delay_embed,
)

__all__ = [
    "AugmentedCovariance",
    "augmented_covariance",
    "augmented_covariance_grid",
    "delay_embed",
]
