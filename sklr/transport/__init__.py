"""Entropic optimal transport: plans, distances and domain adaptation."""

from sklr.transport._distances import (
    pairwise_transport_distances,
    sinkhorn_divergence,
    transport_distance,
)
from sklr.transport._entropic import EntropicTransport
from sklr.transport._projection import sinkhorn_projection
from sklr.transport._result import TransportResult
from sklr.transport._sinkhorn import sinkhorn, sinkhorn_newton

__all__ = [
    "EntropicTransport",
    "TransportResult",
    "pairwise_transport_distances",
    "sinkhorn",
    "sinkhorn_divergence",
    "sinkhorn_newton",
    "sinkhorn_projection",
    "transport_distance",
]
