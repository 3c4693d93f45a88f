"""PyTorch bricks: modules, losses, optimisers and functions (needs the extra ``torch``).

A name is imported on first use, so that ``import sklr.nn`` itself loads no torch.
"""

import importlib
from typing import Any

from sklr.utils._imports import import_optional

# Public name -> the file that holds it.
_HOMES = {
    "BiMap": "_spd",
    "FeatureDropout": "_views",
    "GaussianNoise": "_views",
    "GrassmannLinear": "_grassmann",
    "LogEig": "_spd",
    "MMCRLoss": "_mmcr",
    "ManifoldLinearizingLoss": "_coding_rate",
    "RandomAffine2d": "_views",
    "RandomViews": "_views",
    "ReEig": "_spd",
    "RiemannianSGD": "_riemannian",
    "SPDBatchNormAI": "_spd_batchnorm",
    "SPDBatchNormBW": "_spd_batchnorm",
    "coding_rate": "_coding_rate",
    "compressed_coding_rate": "_coding_rate",
    "doubly_stochastic": "_coding_rate",
    "mmcr_loss": "_mmcr",
    "split_manifold_parameters": "_riemannian",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sklr.nn' has no attribute {name!r}")
    import_optional("torch", extra="torch", feature=f"sklr.nn.{name}")
    value = getattr(importlib.import_module(f"sklr.nn.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
