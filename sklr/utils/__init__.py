"""Helpers that every subpackage shares."""

from sklr.utils._discovery import all_estimators, all_module_estimators
from sklr.utils._graph import to_adjacency
from sklr.utils._graph_folder import load_graph, save_graph
from sklr.utils._warm_up import warm_up

__all__ = [
    "all_estimators",
    "all_module_estimators",
    "load_graph",
    "save_graph",
    "to_adjacency",
    "warm_up",
]
