"""How much noise is added to data on a low-dimensional set before a generator is fitted."""

from __future__ import annotations

from typing import Any

import joblib
import numpy as np
from sklearn.base import clone

from sklr._torch._rng import derive_seeds
from sklr.metrics import energy_distance

# What "auto" tries, in units of the data's scale.
LEVELS = (0.0, 0.02, 0.05, 0.1, 0.2)
# Samples that are drawn from each candidate.
_DRAWN = 2000
# Samples below which too few would be set aside to compare anything.
FEWEST = 20


def rate(n_samples: int, n_components: int) -> float:
    """Return the noise that theory asks for, in units of the data's scale.

    It is of the order n^(-b / (2 (b + d))) for a generator that is b times differentiable, here 2;
    the factor is ours.
    """
    return 0.25 * n_samples ** (-1.0 / (2 + n_components))


def levels(n_samples: int, n_components: int) -> list[float]:
    """Return what "auto" tries: the fixed levels, and theory's in the place of the nearest."""
    wanted = rate(n_samples, n_components)
    positive = LEVELS[1:]
    nearest = min(positive, key=lambda level: abs(np.log(level / wanted)))
    return [wanted if level == nearest else level for level in LEVELS]


def split(n_samples: int, fraction: float, rng: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return rows to fit on, and rows set aside (two of each at least)."""
    held = min(max(2, round(fraction * n_samples)), n_samples - 2)
    order = rng.permutation(n_samples)
    return np.sort(order[held:]), np.sort(order[:held])


def noise_path(
    estimator: Any, X: np.ndarray, units: Any, unit: float, seed: int
) -> dict[float, float]:
    """Return for each noise how far what is generated is from samples set aside.

    Parameters
    ----------
    estimator : PerturbedGenerativeModel
        Its clones are fitted, in as many processes as its `n_jobs` says.
    X : ndarray of shape (n_samples, n_features)
        Samples.
    units : float or ndarray of shape (n_features,)
        Distances are measured in these.
    unit : float
        One of the levels in units of `noise_scale`.
    seed : int
        Seeds the split, and the fits, each alike.

    Returns
    -------
    path : dict of float to float
        Noise, in units of `noise_scale`, to energy distance.
    """
    split_seed, fit_seed, draw_seed = derive_seeds(seed, 4, 3)
    rng = np.random.RandomState(split_seed)  # noqa: NPY002 (as scikit-learn draws)
    kept, held = split(len(X), estimator.validation_fraction, rng)
    noises = [unit * level for level in levels(len(X), estimator.n_components)]

    def error(noise: float) -> float:
        fit = clone(estimator).set_params(
            noise_scale=noise, n_jobs=None, callbacks=None, verbose=0, random_state=fit_seed
        )
        fit._compares = False
        drawn = fit.fit(X[kept]).sample(_DRAWN, random_state=draw_seed)
        return energy_distance(drawn / units, X[held] / units)

    jobs = (joblib.delayed(error)(noise) for noise in noises)
    return dict(zip(noises, joblib.Parallel(n_jobs=estimator.n_jobs)(jobs), strict=True))
