"""Measures of point clouds and representations."""

from sklr.metrics._diffusion_entropy import (
    diffusion_spectral_entropy,
    diffusion_spectral_mutual_information,
    shannon_binned_entropy,
)

__all__ = [
    "diffusion_spectral_entropy",
    "diffusion_spectral_mutual_information",
    "shannon_binned_entropy",
]
