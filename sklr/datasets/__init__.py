"""Generators of the synthetic settings; nothing is downloaded."""

from sklr.datasets._eeg import make_ar2_trials, make_motor_imagery
from sklr.datasets._molrg import make_molrg

__all__ = ["make_ar2_trials", "make_molrg", "make_motor_imagery"]
