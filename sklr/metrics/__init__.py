"""Measures of embeddings, clusterings and representations."""

from sklr.metrics._coding_rate import coding_rate, rate_reduction
from sklr.metrics._diffusion_entropy import (
    diffusion_spectral_entropy,
    diffusion_spectral_mutual_information,
    shannon_binned_entropy,
)
from sklr.metrics._geodesic import geodesic_preservation_score
from sklr.metrics._laws import energy_distance, wasserstein_distance_nd
from sklr.metrics._modularity import modularity_score
from sklr.metrics._retrieval import recall_at_k

__all__ = [
    "coding_rate",
    "diffusion_spectral_entropy",
    "diffusion_spectral_mutual_information",
    "energy_distance",
    "geodesic_preservation_score",
    "modularity_score",
    "rate_reduction",
    "recall_at_k",
    "shannon_binned_entropy",
    "wasserstein_distance_nd",
]
