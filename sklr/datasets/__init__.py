"""Generators of the synthetic settings; nothing is downloaded."""

from sklr.datasets._eeg import make_ar2_trials, make_motor_imagery
from sklr.datasets._graphs import make_attributed_sbm

__all__ = ["make_ar2_trials", "make_attributed_sbm", "make_motor_imagery"]
