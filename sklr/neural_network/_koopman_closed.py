"""A Koopman operator in closed form: dictionaries, ridges and kinds of forecast, compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sklr.neural_network._base import TorchEstimator
from sklr.neural_network._koopman_dictionaries import (
    RIDGE,
    Dictionary,
    Gaussians,
    Given,
    LeastSquares,
    Monomials,
)
from sklr.neural_network._koopman_forecast import LEAST, Dynamics, errors_by_step, log_error
from sklr.neural_network._koopman_spectrum import KoopmanSpectrum
from sklr.neural_network._koopman_trajectories import transitions
from sklr.utils._warnings import warn_user

# What "auto" tries.
_RIDGES = (0.0, 1e-10, 1e-8, 1e-6, 1e-3)
_WIDTHS = (0.5, 1.5, 4.0)
_DEGREES = (2, 3, 5)
# A simpler candidate is taken where its error is no more than 2 % above the least.
_SLACK = 0.02
_MOST_PAIRS = 5000
# A state so many times as far from the mean as half of them is an outlier.
_FAR = 20


class ClosedForms(KoopmanSpectrum, TorchEstimator):
    """Fits by least squares; `candidates_` and `steps_` say what was compared."""

    encoder: str | Callable[..., Any]
    encoder_: str
    degree: int
    n_centers: int
    kernel_width: float | str
    ridge: float | str
    relift: bool | str
    relift_: bool
    candidates_: list[dict[str, Any]]
    steps_: list[int]
    _variance: float

    def _dictionaries(self, n_pairs: int) -> list[Dictionary]:
        """Return the dictionaries to choose from, simple ones first."""
        widths = _WIDTHS if self.kernel_width == "auto" else (float(self.kernel_width),)
        if self.encoder_ == "callable":
            return [Given(self.encoder, self._scaling.unscaled)]  # type: ignore[arg-type]
        if self.encoder_ == "linear":
            return [Dictionary()]
        if self.encoder_ == "polynomial":
            return [Monomials(self.degree)]
        if self.encoder_ == "rbf":
            return [Gaussians(self.n_centers, width) for width in widths]
        n_centers = min(self.n_centers, n_pairs // 2)
        gaussians = [Gaussians(n_centers, width) for width in widths if n_centers]
        return [Dictionary(), *(Monomials(degree) for degree in _DEGREES), *gaussians]

    def _fit_closed(self, S: np.ndarray, bounds: Any, kept: Any, tests: Any) -> None:
        rng_seed = self._seed
        all_pairs = transitions(bounds)
        pairs = transitions(kept)
        pairs = pairs[np.linspace(0, len(pairs) - 1, min(len(pairs), _MOST_PAIRS)).astype(int)]
        dictionaries = self._dictionaries(len(pairs))
        ridges = _RIDGES if self.ridge == "auto" else (float(self.ridge),)
        relifts = (False, True) if self.relift == "auto" else (bool(self.relift),)
        best: tuple[Dictionary, float, bool] = (
            dictionaries[0],
            RIDGE if self.ridge == "auto" else float(self.ridge),
            relifts[0],
        )
        if len(tests[0]) and len(dictionaries) * len(ridges) * len(relifts) > 1:
            choices: list[tuple[np.ndarray, Dictionary, float, bool]] = []
            for dictionary in dictionaries:
                dictionary.fit(S[pairs], _rng(rng_seed))
                n_functions = dictionary.lift(S[:1]).shape[1]
                if self.encoder_ == "auto" and dictionary.name != "linear":
                    if 2 * n_functions > len(pairs) + 2 * S.shape[1]:
                        continue
                squares = LeastSquares(dictionary.lift, S, pairs)
                C = dictionary.decoder(S[pairs], dictionary.lift(S[pairs]))
                for ridge in ridges:
                    K = squares.solve(ridge)
                    dynamics = Dynamics(dictionary.lift, K, C=C, within=dictionary.within)
                    # Through the states or not is the same where the functions are the state.
                    for relift in relifts[: 1 if dictionary.name == "linear" else None]:
                        errors = self._errors(dynamics, S, tests, relift)
                        choices.append((errors, dictionary, ridge, relift))
                        about = {"ridge": ridge, "relift": relift, **dictionary.describes}
                        self._note(dictionary.name, errors, **about)
            least = min(log_error(choice[0]) for choice in choices)
            chosen = next(c for c in choices if log_error(c[0]) <= least + _SLACK)
            best = chosen[1:]
            self._warn_of_no_gain(chosen[0], S, tests)
        dictionary, self.ridge_, self.relift_ = best
        self.encoder_ = dictionary.name
        dictionary.fit(S, _rng(rng_seed))
        K = LeastSquares(dictionary.lift, S, all_pairs).solve(self.ridge_)
        some = np.linspace(0, len(S) - 1, min(len(S), 5000)).astype(int)
        C = dictionary.decoder(S[some], dictionary.lift(S[some]))
        self._dynamics = Dynamics(dictionary.lift, K, C=C, within=dictionary.within)
        self.n_iter_ = 1

    def _errors(self, dynamics: Dynamics, S: np.ndarray, tests: Any, relift: bool) -> np.ndarray:
        rows, ahead = tests
        return errors_by_step(dynamics, S, rows, ahead, relift, self.steps_, self._variance)

    def _warn_of_no_gain(self, errors: np.ndarray, S: np.ndarray, tests: Any) -> None:
        """Say so where the last state, or the mean, forecasts as well as the best candidate."""
        rows, ahead = tests
        simple = []
        for step in self.steps_:
            there = rows[ahead >= step]
            still = np.square(S[there] - S[there + step]).sum(axis=1).mean() / self._variance
            simple.append(min(float(np.sqrt(still)), 1.0))
        if log_error(errors) < log_error(np.array(simple)) or errors.max() <= LEAST:
            return
        size = np.abs(S).max(axis=1)
        if size.max() > _FAR * max(float(np.median(size)), 0.1):
            cause = (
                f"A state is {size.max():.3g} standard deviations from the mean, more than {_FAR} "
                "times as far as half of them: leave out such outliers, which a regression follows."
            )
        else:
            cause = (
                "What is observed may be a part of the state only (positions without velocities): "
                "give delayed copies beside it, or more trajectories."
            )
        warn_user(
            f"No candidate forecasts the states set aside better than their mean or the last state "
            f"does: errors of {np.round(errors, 3).tolist()} standard deviations after "
            f"{self.steps_} steps, {np.round(simple, 3).tolist()} without a model. {cause}"
        )

    def _note(self, encoder: str, errors: np.ndarray, **about: Any) -> None:
        self.candidates_.append({"encoder": encoder, **about, "errors": errors})


def _rng(seed: int) -> Any:
    return np.random.RandomState(seed)  # noqa: NPY002 (as scikit-learn draws)
