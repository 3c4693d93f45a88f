"""Riemannian geometry of arrays: functions that know nothing of estimators."""

from sklr.geometry._spd import mean_riemann, tangent_space

__all__ = ["mean_riemann", "tangent_space"]
