"""scikit-learn estimators for low-rank, low-dimensional and Riemannian structure.

Subpackages are imported on first use, so that ``import sklr`` stays light.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_SUBPACKAGES = (
    "cluster",
    "covariance",
    "datasets",
    "decomposition",
    "eeg",
    "gaussian_process",
    "geometry",
    "landscape",
    "manifold",
    "metrics",
    "neural_network",
    "nn",
    "transport",
    "utils",
)

__all__ = [*_SUBPACKAGES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"sklr.{name}")
    raise AttributeError(f"module 'sklr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_SUBPACKAGES))
