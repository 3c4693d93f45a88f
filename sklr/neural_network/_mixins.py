"""What classifiers, transformers and clusterings add to the base: labels in, scores out."""

from numbers import Real
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import (
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from sklr._torch._batches import in_chunks
from sklr._torch._modules import probe
from sklr.neural_network._loop import TrainState
from sklr.utils._base import fit_context
from sklr.utils._validation import check_sample_weight


class TorchClassifierMixin(ClassifierMixin):
    """Classification: the network's outputs are logits, the loss is cross entropy.

    A subclass whose loss cannot be weighted (batch normalisation sees no weights) writes a ``fit``
    without `sample_weight` that calls ``_fit_classes``.
    """

    def _loss(self, module: Any, xb: Any, yb: Any, step: TrainState) -> Any:
        from torch.nn.functional import cross_entropy

        # Of each sample only where it will be weighted: on small data one operation counts.
        reduction = "mean" if step.batch_weights is None else "none"
        return cross_entropy(self._logits(module, xb), yb, reduction=reduction)

    def _logits(self, module: Any, xb: Any) -> Any:
        """Return the logits of a batch, of shape (n_samples, n_classes)."""
        return module(xb)

    def _check_module(self, module: Any, X: Any, n_out: int | None) -> None:
        probe(module, X, n_columns=n_out)

    def _validation_score(self, module: Any, X: Any, y: Any, step: TrainState) -> float:
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
        self._torch()
        with self._ready_to_train():
            X, y = self._validate(X, y, reset=True)
            check_classification_targets(y)
            X, y, weights = self._weighted(X, y, sample_weight)
            self.classes_, codes = np.unique(y, return_inverse=True)
            if len(self.classes_) < 2:
                raise ValueError(
                    f"{type(self).__name__} needs samples of at least two classes, got 1 class: "
                    f"{self.classes_.tolist()}"
                )
            if (X_val is None) != (y_val is None):
                raise ValueError("X_val and y_val must be given together")
            validation = None
            if X_val is not None:
                validation = (self._validate(X_val, reset=False), self._codes(y_val, "y_val"))
                if len(validation[0]) != len(validation[1]):
                    raise ValueError(
                        f"X_val has {len(validation[0])} samples, y_val {len(validation[1])}"
                    )
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
        self._torch()
        with self._ready_to_train():
            self._partial_fit(X, y, classes, sample_weight)
        return self

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> None:
        first = not hasattr(self, "module_")
        X, y = self._validate(X, y, reset=first)
        check_classification_targets(y)
        if first:
            if classes is None:
                raise ValueError("classes must be given on the first call to partial_fit")
            self.classes_ = np.unique(np.asarray(classes))
            if len(self.classes_) < 2:
                raise ValueError(f"classes must name at least two, got {self.classes_.tolist()}")
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"classes={np.unique(classes).tolist()} differ from those of the first call, "
                f"{self.classes_.tolist()}"
            )
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
                    f"every sample of class {lost[0]!r} has weight 0: leave the class out, or "
                    f"give it weight; only {len(np.unique(y[kept]))} of the classes would be left"
                )
            X, y, weights = X[kept], y[kept], weights[kept]
        return X, y, weights / weights.mean()

    def _codes(self, y: Any, name: str) -> np.ndarray:
        y = column_or_1d(np.asarray(y))
        known = np.isin(y, self.classes_)
        if not known.all():
            raise ValueError(
                f"{name} has labels that are not among the classes "
                f"{self.classes_.tolist()}: {np.unique(y[~known]).tolist()}"
            )
        return np.searchsorted(self.classes_, y)

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


class TorchTransformerMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Representation learning: ``transform`` returns what ``_embed`` makes of a batch."""

    def _embed(self, module: Any, xb: Any) -> Any:
        """Return the features of a batch, of shape (n_samples, n_features_out)."""
        return module(xb)

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
        self._torch()
        with self._ready_to_train():
            X = self._validate(X, reset=True)
            validation = None if X_val is None else (self._validate(X_val, reset=False), None)
            self._fit_network(X, validation=validation)
            self._n_features_out = self._infer(X[:1], self._embed).shape[1]
        return self

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
