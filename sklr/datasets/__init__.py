"""Generators of the synthetic settings; nothing is downloaded."""

from sklr.datasets._eeg import make_ar2_trials, make_motor_imagery

__all__ = ["make_ar2_trials", "make_motor_imagery"]
