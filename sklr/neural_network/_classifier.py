"""Mixin of classifiers: labels in, logits and probabilities out."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_sample_weight
from sklearn.utils.validation import check_is_fitted

from sklr._torch._batches import in_chunks
from sklr._torch._modules import probe
from sklr.neural_network._base import TorchEstimator
from sklr.neural_network._loop import TrainState
from sklr.neural_network._targets import (
    check_labels,
    codes_of,
    encode_labels,
    labels_of_partial_fit,
    validation_pair,
)
from sklr.utils._base import fit_context
from sklr.utils._validation import check_sample_weight

if TYPE_CHECKING:
    from torch import Tensor, nn

    # The mixin stands left of the base, whose methods it calls.
    _Base = TorchEstimator
else:
    _Base = object


class TorchClassifierMixin(ClassifierMixin, _Base):
    """Classification: labels in, the network's outputs are logits, the loss is cross entropy.

    A subclass whose loss cannot be weighted (batch normalisation sees no weights) writes a ``fit``
    without `sample_weight` that calls ``_fit_classes``.
    """

    _task = "classification"
    classes_: np.ndarray

    def _loss(self, module: nn.Module, xb: Tensor, yb: Tensor, step: TrainState) -> Tensor:
        from torch.nn.functional import cross_entropy

        # Of each sample only where it will be weighted: on small data one operation counts.
        reduction = "mean" if step.batch_weights is None else "none"
        return cross_entropy(self._logits(module, xb), yb, reduction=reduction)

    def _logits(self, module: nn.Module, xb: Tensor) -> Tensor:
        """Return the logits of a batch, of shape (n_samples, n_classes)."""
        return module(xb)

    def _check_module(self, module: nn.Module, X: Tensor, n_out: Any) -> None:
        probe(module, X, n_columns=n_out)

    def _validation_score(self, module: nn.Module, X: Tensor, y: Any, step: TrainState) -> float:
        """Return the accuracy."""
        import torch

        with torch.no_grad():
            logits = in_chunks(module, X, lambda m, xb, _: self._logits(m, xb), step.device)
        return float((logits.argmax(dim=1) == y.to(logits.device)).double().mean())

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, X_val: Any = None, y_val: Any = None
    ) -> Any:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss; a sample of weight 0 is left out.
        X_val : array-like of shape (n_validation, n_features), default=None
            Samples that are scored after each epoch; ``early_stopping`` uses them instead of
            setting some of `X` aside.
        y_val : array-like of shape (n_validation,), default=None
            Labels of `X_val`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit_classes(X, y, sample_weight, X_val, y_val)

    def _fit_classes(self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any) -> Any:
        with self._ready_to_train():
            X, y = self._validate(X, y, reset=True)
            check_labels(y)
            X, y, weights = self._weighted(X, y, sample_weight)
            self.classes_, codes = encode_labels(self, y)
            validation = validation_pair(self, X_val, y_val, self._codes)
            self._fit_network(
                X, codes, n_out=len(self.classes_), weights=weights, validation=validation
            )
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """Train for one more epoch on some samples; optimisers go on where they were.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,)
            Labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever be seen; needed on the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss.

        Returns
        -------
        self : object
            The estimator after the epoch.
        """
        with self._ready_to_train():
            self._partial_fit(X, y, classes, sample_weight)
        return self

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> None:
        first = not hasattr(self, "module_")
        X, y = self._validate(X, y, reset=first)
        check_labels(y)
        self.classes_ = labels_of_partial_fit(self, classes, first=first)
        X, y, weights = self._weighted(X, y, sample_weight)
        codes = self._codes(y, "y")
        self._fit_one_epoch(X, codes, n_out=len(self.classes_), weights=weights)

    def _weighted(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
        """Return samples, labels and weights without those of weight 0; weights may be None."""
        class_weight = getattr(self, "class_weight", None)
        if sample_weight is None and class_weight is None:
            return X, y, None
        weights = np.ones(len(X))
        if sample_weight is not None:
            weights = check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
        if class_weight is not None:
            if isinstance(class_weight, dict) and not all(
                isinstance(value, Real) and 0 <= float(value) < np.inf
                for value in class_weight.values()
            ):
                raise ValueError(
                    f"class_weight must have finite weights of at least 0, got {class_weight}"
                )
            weights = weights * compute_sample_weight(class_weight, y)
        kept = weights > 0
        if not kept.all():
            lost = np.setdiff1d(y, y[kept])
            if len(lost):
                raise ValueError(
                    f"every sample of class {lost[0]!r} has weight 0 by sample_weight or "
                    "class_weight: leave the class out, or give it weight; only "
                    f"{len(np.unique(y[kept]))} of the classes would be left"
                )
            X, y, weights = X[kept], y[kept], weights[kept]
        return X, y, weights / weights.mean()

    def _codes(self, y: Any, name: str) -> np.ndarray:
        return codes_of(y, self.classes_, name)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            Logits; for two classes, that of the second minus that of the first.
        """
        logits = self._scores(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict(self, X: Any) -> np.ndarray:
        """Return the label of the largest logit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels.
        """
        logits = self._scores(X)
        return self.classes_[logits.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of the classes: the softmax of the logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; rows sum to 1.
        """
        return softmax(self._scores(X), axis=1)

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self._infer(self._validate(X, reset=False), self._logits)
