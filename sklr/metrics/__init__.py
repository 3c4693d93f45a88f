"""Scores of partitions and of representations."""

from sklr.metrics._modularity import modularity_score

__all__ = ["modularity_score"]
