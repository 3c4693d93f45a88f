"""Measures of embeddings, clusterings and representations."""

from sklr.metrics._geodesic import geodesic_preservation_score

__all__ = ["geodesic_preservation_score"]
