"""What clusterings add to the base: labels of the training samples, and of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClusterMixin
from sklearn.utils.validation import check_is_fitted

from sklr.neural_network._base import TorchEstimator
from sklr.utils._base import fit_context

if TYPE_CHECKING:
    # The mixin stands left of the base, whose methods it calls.
    _Base = TorchEstimator
else:
    _Base = object


class TorchClusterMixin(ClusterMixin, _Base):
    """Clustering: after the training ``_label`` sets ``labels_``; ``_assign`` is ``predict``."""

    def _assign(self, X: np.ndarray) -> np.ndarray:
        """Return the cluster of each of some validated samples."""
        raise NotImplementedError

    def _label(self, X: np.ndarray) -> None:
        """Set ``labels_`` of the validated training samples, and what else belongs to them."""
        self.labels_ = self._assign(X)

    def _check_samples(self, X: np.ndarray) -> None:
        """Refuse parameters that do not suit so many samples."""

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Any:
        """Train the network, and label the samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples; of any shape that `module` takes, when it is given.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        with self._ready_to_train():
            given, X = X, self._validate(X, reset=True)
            self._check_samples(X)
            self._fit_network(X)
            # Anew: labels are computed in the precision of inference.
            self._label(self._validate(given, reset=False))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the cluster of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Numbers of the clusters. Training samples may get another label than in ``labels_``,
            which comes from all of them at once.
        """
        check_is_fitted(self)
        return self._assign(self._validate(X, reset=False))
