"""What transformers add to the base: features out, learnt without targets or with labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from sklr._torch._modules import probe
from sklr.neural_network._base import TorchEstimator
from sklr.neural_network._targets import (
    codes_of,
    encode_labels,
    labels_of_partial_fit,
    validation_pair,
)
from sklr.utils._base import fit_context

if TYPE_CHECKING:
    from torch import Tensor, nn

    # The mixin stands left of the base, whose methods it calls.
    _Base = TorchEstimator
else:
    _Base = object


class _Features(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Base):
    """What both kinds share: ``transform`` returns what ``_embed`` makes of a batch."""

    def _embed(self, module: nn.Module, xb: Tensor) -> Tensor:
        """Return the features of a batch, of shape (n_samples, n_features_out)."""
        return module(xb)

    def _check_module(self, module: nn.Module, X: Tensor, n_out: Any) -> None:
        probe(module, X, function=self._embed)

    def _count_features(self, X: np.ndarray) -> None:
        self._n_features_out = self._infer(X[:1], self._embed).shape[1]

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features_out)
            Features.
        """
        check_is_fitted(self)
        return self._infer(self._validate(X, reset=False), self._embed)


class TorchTransformerMixin(_Features):
    """Representation learning without targets."""

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, X_val: Any = None) -> Any:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples.
        y : None
            Ignored.
        X_val : array-like of shape (n_validation, n_features), default=None
            Samples whose loss is computed after each epoch; ``early_stopping`` uses them instead
            of setting some of `X` aside.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        with self._ready_to_train():
            X = self._validate(X, reset=True)
            validation = None if X_val is None else (self._validate(X_val, reset=False), None)
            self._fit_network(X, validation=validation)
            self._count_features(X)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Any:
        """Train for one more epoch on some samples; optimisers go on where they were.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The estimator after the epoch.
        """
        with self._ready_to_train():
            X = self._validate(X, reset=not hasattr(self, "module_"))
            self._fit_one_epoch(X)
            self._count_features(X)
        return self


class TorchSupervisedTransformerMixin(_Features):
    """Representation learning with labels, of which the loss gets the numbers of the classes."""

    _task = "classification"
    classes_: np.ndarray

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None) -> Any:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,)
            Labels.
        X_val : array-like of shape (n_validation, n_features), default=None
            Samples whose loss is computed after each epoch; ``early_stopping`` uses them instead
            of setting some of `X` aside.
        y_val : array-like of shape (n_validation,), default=None
            Labels of `X_val`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        with self._ready_to_train():
            X, y = self._validate(X, y, reset=True)
            check_classification_targets(y)
            self.classes_, codes = encode_labels(self, y)
            validation = validation_pair(
                self, X_val, y_val, lambda y, name: codes_of(y, self.classes_, name)
            )
            self._fit_network(X, codes, n_out=len(self.classes_), validation=validation)
            self._count_features(X)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Any:
        """Train for one more epoch on some samples; optimisers go on where they were.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,)
            Labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever be seen; None, on the first call, takes those of `y`.

        Returns
        -------
        self : object
            The estimator after the epoch.
        """
        with self._ready_to_train():
            first = not hasattr(self, "module_")
            X, y = self._validate(X, y, reset=first)
            check_classification_targets(y)
            if first and classes is None:
                classes = y
            self.classes_ = labels_of_partial_fit(self, classes, first=first)
            self._fit_one_epoch(X, codes_of(y, self.classes_, "y"), n_out=len(self.classes_))
            self._count_features(X)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
