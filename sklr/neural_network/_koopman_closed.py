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
from sklr.neural_network._koopman_forecast import (
    LEAST,
    Cleaned,
    Dynamics,
    errors_by_step,
    log_error,
)
from sklr.neural_network._koopman_spectrum import KoopmanSpectrum
from sklr.neural_network._koopman_trajectories import transitions
from sklr.utils._warnings import warn_user

# What "auto" tries.
_RIDGES = (0.0, 1e-10, 1e-8, 1e-6, 1e-3)
_RIDGES_OF_INSTRUMENTS = (1e-8, 1e-3)
_WIDTHS = (0.5, 1.5, 4.0)
_DEGREES = (2, 3, 5)
# A simpler candidate is taken where its error is no more than 2 % above the least.
_SLACK = 0.02
_MOST_PAIRS = 5000
# A state so many times as far from the mean as half of them is an outlier.
_FAR = 20
# Up to such a share of states that are far, and alone, are outliers though forecasts succeed.
_RARE = 2e-3


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
    instruments: bool | str
    instruments_: bool
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
        pairs = _some(transitions(kept), _MOST_PAIRS)
        triples = _some(_with_a_row_before(kept), _MOST_PAIRS)
        if self.instruments is True and not len(_with_a_row_before(bounds)):
            raise ValueError(
                "instruments=True needs a trajectory of at least 3 states, and the longest has 2"
            )
        fits = [False, True] if self.instruments == "auto" else [bool(self.instruments)]
        fits = fits if len(triples) else fits[:1]
        dictionaries = self._dictionaries(len(pairs))
        ridges = _RIDGES if self.ridge == "auto" else (float(self.ridge),)
        relifts = (False, True) if self.relift == "auto" else (bool(self.relift),)
        best: tuple[Dictionary, bool, float, bool] = (
            dictionaries[0],
            fits[0],
            RIDGE if self.ridge == "auto" else float(self.ridge),
            relifts[0],
        )
        lift: Callable[[np.ndarray], np.ndarray]
        n_choices = len(dictionaries) * len(fits) * len(ridges) * len(relifts)
        if len(tests[0]) and n_choices > 1 and (len(triples) or not fits[0]):
            choices: list[tuple[np.ndarray, Dictionary, bool, float, bool]] = []
            for dictionary in dictionaries:
                dictionary.fit(S[pairs], _rng(rng_seed))
                n_functions = dictionary.lift(S[:1]).shape[1]
                if self.encoder_ == "auto" and dictionary.name != "linear":
                    if 2 * n_functions > len(pairs) + 2 * S.shape[1]:
                        continue
                C = dictionary.decoder(S[pairs], dictionary.lift(S[pairs]))
                regression = LeastSquares(dictionary.lift, S, pairs)
                for instruments in fits:
                    squares = regression
                    if instruments:
                        squares = LeastSquares(dictionary.lift, S, triples, True)
                    few = instruments and self.ridge == "auto"
                    for ridge in _RIDGES_OF_INSTRUMENTS if few else ridges:
                        K = squares.solve(ridge)
                        # Through the states or not is the same where the functions are the state.
                        for relift in relifts[: 1 if dictionary.name == "linear" else None]:
                            lift = dictionary.lift
                            if instruments and not relift:
                                lift = Cleaned(lift, K, regression.solve(ridge))
                            dynamics = Dynamics(lift, K, C=C, within=dictionary.within)
                            errors = self._errors(dynamics, S, tests, relift)
                            choices.append((errors, dictionary, instruments, ridge, relift))
                            about = {"ridge": ridge, "relift": relift, "instruments": instruments}
                            self._note(dictionary.name, errors, **about, **dictionary.describes)
            least = min(log_error(choice[0]) for choice in choices)
            chosen = next(c for c in choices if log_error(c[0]) <= least + _SLACK)
            best = chosen[1:]
            self._warn_of_no_gain(chosen[0], S, tests)
        dictionary, self.instruments_, self.ridge_, self.relift_ = best
        self.encoder_ = dictionary.name
        dictionary.fit(S, _rng(rng_seed))
        lift = dictionary.lift
        K = of_regression = LeastSquares(lift, S, transitions(bounds)).solve(self.ridge_)
        if self.instruments_:
            K = LeastSquares(lift, S, _with_a_row_before(bounds), True).solve(self.ridge_)
            if not self.relift_:
                lift = Cleaned(lift, K, of_regression)
        some = np.linspace(0, len(S) - 1, min(len(S), 5000)).astype(int)
        C = dictionary.decoder(S[some], dictionary.lift(S[some]))
        self._dynamics = Dynamics(lift, K, C=C, within=dictionary.within)
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
        if errors.max() <= LEAST:
            return
        size = np.abs(S).max(axis=1)
        far = _FAR * max(float(np.median(size)), 0.1)
        # Some states far from all others, between states that are not: no event that comes again.
        beside = np.pad(size, 1)
        alone = (size > far) & (np.maximum(beside[:-2], beside[2:]) <= far / 4)
        gains = log_error(errors) < log_error(np.array(simple))
        if gains and not 0 < alone.sum() <= max(1, _RARE * len(S)):
            return
        if size.max() > far:
            cause = (
                f"A state is {size.max():.3g} standard deviations from the mean, more than {_FAR} "
                "times as far as half of them: leave out such outliers, which a regression follows."
            )
            if gains:
                warn_user(cause)
                return
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


def _with_a_row_before(bounds: Any) -> np.ndarray:
    return transitions([(first + 1, end) for first, end in bounds])


def _some(rows: np.ndarray, most: int) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]


def _rng(seed: int) -> Any:
    return np.random.RandomState(seed)  # noqa: NPY002 (as scikit-learn draws)
