"""Gaussian processes on manifolds that are known by points only."""

from sklr.gaussian_process._vector_field import VectorFieldGPRegressor

__all__ = ["VectorFieldGPRegressor"]
