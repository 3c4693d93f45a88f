"""Generators of the synthetic settings; nothing is downloaded."""

from sklr.datasets._eeg import make_ar2_trials, make_motor_imagery, make_ssvep
from sklr.datasets._fields import make_burgers, make_darcy, make_navier_stokes
from sklr.datasets._graphs import make_attributed_sbm
from sklr.datasets._manifolds import make_geodesic_swiss_roll, make_random_walk_tree
from sklr.datasets._molrg import make_molrg
from sklr.datasets._sensing import make_matrix_sensing

__all__ = [
    "make_ar2_trials",
    "make_attributed_sbm",
    "make_burgers",
    "make_darcy",
    "make_geodesic_swiss_roll",
    "make_matrix_sensing",
    "make_molrg",
    "make_motor_imagery",
    "make_navier_stokes",
    "make_random_walk_tree",
    "make_ssvep",
]
