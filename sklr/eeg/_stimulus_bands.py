"""The usual peer for flickering stimuli: channels repeated in a narrow band at each frequency."""

from numbers import Real

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils._param_validation import Interval

from sklr.covariance._bands import band_pass
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._validation import check_trials


class StimulusBands(TransformerMixin, BaseEstimator):
    """Stack each trial's channels, filtered to a narrow band around each stimulus frequency.

    The covariance of what comes out has the power at each frequency on its diagonal blocks
    (M. Congedo, A. Barachant, A. Andreev, arXiv:1310.8115).

    Parameters
    ----------
    frequencies : sequence of float
        Stimulus frequencies in Hz.
    sfreq : float
        Samples a second.
    width : float, default=1.0
        Width of a band in Hz.
    """

    _parameter_constraints: dict = {
        "frequencies": ["array-like"],
        "sfreq": [Interval(Real, 0, None, closed="neither")],
        "width": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, frequencies, sfreq, width=1.0):
        self.frequencies = frequencies
        self.sfreq = sfreq
        self.width = width

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the trials; nothing is learned from them."""
        check_trials(self, X)
        return self

    def transform(self, X):
        """Return an array of shape (n_trials, n_frequencies * n_channels, n_times)."""
        X = check_trials(self, X, reset=False)
        half = self.width / 2
        bands = []
        for frequency in self.frequencies:
            band = (max(frequency - half, 1e-3), frequency + half)
            bands.append(band_pass(X, band, self.sfreq, order=2))
        return np.concatenate(bands, axis=1)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "n_features_in_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags
