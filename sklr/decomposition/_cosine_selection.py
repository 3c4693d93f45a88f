"""Rows of a table in the few cosines that hold most of it."""

from numbers import Integral
from typing import Any, Self

import numpy as np
import scipy.fft
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._validation import check_array, validate_data


class DCTColumnSelection(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""Keep the cosines that rows are made of, chosen from the whole cosine basis.

    Rows, taken as signals of equal steps (spectra, series, profiles), are written in the
    orthonormal cosine basis (DCT-II), and the frequencies with the largest columns are kept.
    Nothing is decomposed: what is fitted is a list of frequencies.

    Parameters
    ----------
    n_components : int, float or None, default=None
        Number of frequencies; or, between 0 and 1, the share of the sum of squares (of magnitudes
        with ``norm="l1"``) that they are to hold, as few as do. None keeps all, which is a
        rotation of the rows.
    norm : {"l2", "l1"}, default="l2"
        What columns are ranked by. With "l2" no other frequencies leave less of `X`.

    Attributes
    ----------
    frequencies_ : ndarray of shape (n_components_,)
        The frequencies kept, ascending: k goes through k / 2 periods along a row.
    energy_ratio_ : ndarray of shape (n_components_,)
        Share of the sum of squares of `X` that each holds.
    scores_ : ndarray of shape (n_features_in_,)
        Norm of the column of each frequency, kept or not.
    n_components_ : int
        Number of frequencies kept.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, when `X` has them.

    See Also
    --------
    sklearn.decomposition.PCA : Leaves least of the samples it is fitted on, with whatever basis.
    sklr.nn.optim.dct_select : The same for a torch tensor.

    Notes
    -----
    O(n_samples n_features log n_features) to fit and to transform, and no matrix is stored. `X`
    is not centred: frequency 0 holds the mean of each row. The order of the columns matters;
    where neighbours have nothing to do with each other no few cosines hold much, and PCA is what
    to take.

    References
    ----------
    .. [1] N. Ahmed, T. Natarajan and K. R. Rao, "Discrete cosine transform", IEEE Trans. Comput.
       C-23(1), 1974, doi:10.1109/T-C.1974.223784.
    .. [2] I.-V. Modoranu et al., "SVD-free low-rank adaptive gradient optimization for large
       language models", arXiv:2505.17967, 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.decomposition import DCTColumnSelection
    >>> t = (np.arange(50) + 0.5) / 50
    >>> amplitudes = np.random.default_rng(0).normal(size=(20, 2))
    >>> X = amplitudes @ np.cos(np.pi * np.outer([3, 7], t))
    >>> select = DCTColumnSelection(n_components=0.999).fit(X)
    >>> select.frequencies_
    array([3, 7])
    >>> bool(np.allclose(select.inverse_transform(select.transform(X)), X))
    True
    """

    _parameter_constraints: dict = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            None,
        ],
        "norm": [StrOptions({"l1", "l2"})],
    }

    def __init__(self, n_components: int | float | None = None, *, norm: str = "l2") -> None:
        self.n_components = n_components
        self.norm = norm

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Choose the frequencies.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows that are signals.
        y : None
            Ignored.

        Returns
        -------
        self : DCTColumnSelection
            Fitted.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        n = X.shape[1]
        if isinstance(self.n_components, Integral) and self.n_components > n:
            raise ValueError(
                f"n_components={self.n_components} must be at most the number of features, {n}"
            )
        # In units of the largest value, whose square neither overflows nor vanishes.
        unit = float(np.abs(X).max()) or 1.0
        S = scipy.fft.dct(X.astype(np.float64) / unit, axis=1, norm="ortho", overwrite_x=True)
        energy = np.square(S).sum(axis=0)
        ranked = energy if self.norm == "l2" else np.abs(S).sum(axis=0)
        order = np.argsort(-ranked, kind="stable")
        self.frequencies_ = np.sort(order[: self._number(ranked[order])])
        self.n_components_ = len(self.frequencies_)
        self._n_features_out = self.n_components_
        self.scores_ = unit * (np.sqrt(ranked) if self.norm == "l2" else ranked)
        self.energy_ratio_ = energy[self.frequencies_] / (energy.sum() or 1.0)
        return self

    def _number(self, ranked: np.ndarray) -> int:
        """Return how many frequencies are kept, of measures in descending order."""
        if self.n_components is None:
            return len(ranked)
        if isinstance(self.n_components, Integral):
            return int(self.n_components)
        held = np.cumsum(ranked)
        if not held[-1]:
            return 1
        return int(np.searchsorted(held, self.n_components * held[-1] * (1 - 1e-15))) + 1

    def transform(self, X: Any) -> np.ndarray:
        """Write rows in the frequencies kept.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_components_)
            Amplitudes of orthonormal cosines.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return scipy.fft.dct(X, axis=1, norm="ortho")[:, self.frequencies_]

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return rows that are sums of the cosines kept.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Amplitudes.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features_in_)
            Rows.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=[np.float64, np.float32])
        if X.shape[1] != self.n_components_:
            raise ValueError(
                f"X has {X.shape[1]} columns, and there are {self.n_components_} components"
            )
        S = np.zeros((len(X), self.n_features_in_), dtype=X.dtype)
        S[:, self.frequencies_] = X
        return scipy.fft.idct(S, axis=1, norm="ortho", overwrite_x=True)

    @property
    def components_(self) -> np.ndarray:
        """The cosines kept, ndarray of shape (n_components_, n_features_in_)."""
        check_is_fitted(self)
        return self.inverse_transform(np.eye(self.n_components_))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
