"""A classifier with a network inside, made smaller after its training."""

from __future__ import annotations

import copy
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassifierMixin, MetaEstimatorMixin, clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch
from sklearn.utils._metadata_requests import _routing_enabled
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sklr.neural_network._classifier import TorchClassifierMixin
from sklr.neural_network._perceptron import PerceptronClassifier
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._imports import import_optional

if TYPE_CHECKING:
    from torch import nn


def _is_softmax(estimator: Any) -> bool:
    """Return whether a classifier's probabilities are the softmax of its network's logits."""
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        else:
            break
    if not isinstance(estimator, SGDClassifier):
        return True
    # Of more classes it is one against the others, and of other losses something else.
    return estimator.loss == "log_loss" and len(getattr(estimator, "classes_", "ab")) == 2


def _served_has(name: str) -> Any:
    def check(self: CompressedClassifier) -> bool:
        estimator = getattr(self, "estimator_", None)
        if estimator is None:
            estimator = self._estimator()
        return hasattr(estimator, name) and _is_softmax(estimator)

    return check


class CompressedClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Train a classifier with a network inside, then make the network smaller.

    The classifier is fitted, its network compressed on the training samples, and, if wanted,
    trained a little more. What predicts is the smaller network.

    Parameters
    ----------
    estimator : estimator, default=None
        The classifier: one of :mod:`sklr.neural_network`, or what
        :func:`~sklr.nn.compression.from_sklearn` takes (``MLPClassifier``, linear models, pipelines
        of scalers and one of these). A fitted one inside a ``FrozenEstimator`` is not trained
        again. None is a perceptron with one hidden layer of 128 units, trained for 200 epochs, of
        which the features are standardised first.
    compressor : estimator, default=None
        What makes the network smaller, of :mod:`sklr.nn.compression`; its parameters are
        ``compressor__rank`` and so on in a search. None is
        ``AtomicFeatureMimicking(rank="energy", energy=0.99)``, which keeps 99 % of the variance
        of each layer's outputs.
    fine_tune : int, default=0
        Epochs of training after the compression, with the loss and the first learning rate of the
        classifier; for models of scikit-learn, cross entropy by Adam with a learning rate of 0.001.

    Attributes
    ----------
    estimator_ : estimator
        The fitted classifier, before the compression.
    compressor_ : estimator
        The fitted compressor: ``compressor_.report_`` says what became of each layer,
        ``compressor_.ratio_`` which share of the parameters is left.
    module_ : torch.nn.Module
        The smaller network.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` has strings as column names.

    See Also
    --------
    sklr.nn.compression.AtomicFeatureMimicking : The default compressor.
    sklr.nn.compression.from_sklearn : The networks of scikit-learn's models.
    sklearn.neural_network.MLPClassifier : A perceptron.

    Notes
    -----
    ``fit`` hands further arguments on: with metadata routing where the classifier requests them,
    without it all of them. `sample_weight` reaches the fine-tuning too, and samples of weight 0 are
    left out of the compression.

    The time is that of the classifier's fit, of one pass over `X`, and of a decomposition a layer.

    References
    ----------
    .. [1] H. Yu et al., "Unified low-rank compression framework for click-through rate
       prediction", KDD 2024, arXiv:2405.18146.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklr.neural_network import CompressedClassifier
    >>> from sklr.nn.compression import AtomicFeatureMimicking
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = CompressedClassifier(
    ...     LogisticRegression(), compressor=AtomicFeatureMimicking(rank=7, targets="all")
    ... ).fit(X / 16, y)
    >>> classifier.module_[0].rank, round(classifier.compressor_.ratio_, 2)
    (7, 0.81)
    >>> bool(classifier.score(X / 16, y) > 0.9)
    True
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "compressor": [HasMethods(["fit", "transform"]), None],
        "fine_tune": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self, estimator: Any = None, *, compressor: Any = None, fine_tune: int = 0
    ) -> None:
        self.estimator = estimator
        self.compressor = compressor
        self.fine_tune = fine_tune

    def _estimator(self) -> Any:
        if self.estimator is not None:
            return self.estimator
        # As many epochs as scikit-learn's perceptron has: few samples make few steps.
        return PerceptronClassifier(max_iter=200, random_state=0)

    def _compressor(self) -> Any:
        from sklr._torch._module_first import ModuleEstimator
        from sklr.nn.compression import AtomicFeatureMimicking

        if self.compressor is None:
            return AtomicFeatureMimicking("energy", energy=0.99)
        if not isinstance(self.compressor, ModuleEstimator):
            raise TypeError(
                "compressor must be an estimator of sklr.nn.compression, such as "
                f"AtomicFeatureMimicking(), got {self.compressor!r}"
            )
        return clone(self.compressor)

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, **fit_params: Any) -> Any:
        """Train the classifier and make its network smaller.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples; the network is compressed on them too.
        y : array-like of shape (n_samples,)
            Labels.
        **fit_params : dict
            Further arguments of the classifier's ``fit``, such as `sample_weight`, `X_val` and
            `y_val`. With metadata routing those that the classifier requests.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        import_optional("torch", extra="torch", feature=type(self).__name__)
        shape = np.asarray(y).shape
        if len(shape) == 2 and shape[1] > 1:
            raise ValueError(f"y must have one label a sample, got shape {shape}")
        estimator, compressor = self._estimator(), self._compressor()
        if not is_classifier(estimator):
            raise TypeError(f"estimator must be a classifier, got {estimator!r}")
        if _routing_enabled():
            routed = process_routing(self, "fit", **fit_params)
        else:
            routed = Bunch(estimator=Bunch(fit=fit_params))
        given = routed.estimator.fit
        self.estimator_ = clone(estimator).fit(X, y, **given)
        self.classes_ = self.estimator_.classes_
        self._served = _served(self.estimator_)
        weights = given.get("sample_weight")
        self._compress(compressor, X, y, weights)
        extra = {} if weights is None else {"sample_weight": weights}
        for _ in range(self.fine_tune):
            self._served.partial_fit(X, y, **extra)
        return self

    def _compress(self, compressor: Any, X: Any, y: Any, weights: Any) -> None:
        served = self._served
        network = served.module_
        rows = served._validate(X, reset=False)
        labels = np.asarray(y).ravel()
        codes = np.searchsorted(self.classes_, labels)
        known = self.classes_[np.minimum(codes, len(self.classes_) - 1)] == labels
        if not np.all(known):
            raise ValueError(
                f"y has labels that are not among the classes {self.classes_.tolist()} of the "
                f"fitted estimator: {np.unique(labels[~known])[:5].tolist()}"
            )
        if weights is not None:
            kept = np.asarray(weights) > 0
            rows, codes = rows[kept], codes[kept]
        device = next(iter(network.parameters())).device
        self.compressor_ = compressor.fit(network, served._samples(rows, device), codes)
        served.module_ = self.compressor_.transform(network).eval()

    @property
    def module_(self) -> nn.Module:
        """The smaller network."""
        return self._after_fit("_served").module_

    @property
    def n_features_in_(self) -> int:
        """Number of features."""
        return self._after_fit("estimator_").n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the features."""
        return self._after_fit("estimator_").feature_names_in_

    def _after_fit(self, name: str) -> Any:
        if name not in vars(self):
            # Which hasattr understands.
            raise AttributeError(f"this {type(self).__name__} is not fitted")
        return vars(self)[name]

    def predict(self, X: Any) -> np.ndarray:
        """Return the label of the largest logit of the smaller network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels.
        """
        check_is_fitted(self)
        return self._served.predict(X)

    @available_if(_served_has("predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of the classes, where the classifier has them by a softmax.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``: the softmax of the smaller network's logits.
        """
        check_is_fitted(self)
        return self._served.predict_proba(X)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits of the smaller network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            Logits; for two classes, that of the second minus that of the first.
        """
        check_is_fitted(self)
        return self._served.decision_function(X)

    def get_metadata_routing(self) -> MetadataRouter:
        """Return who requests which arguments of ``fit``: the classifier does.

        Returns
        -------
        routing : MetadataRouter
            The routing.
        """
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(
                estimator=self._estimator(),
                method_mapping=MethodMapping().add(caller="fit", callee="fit"),
            )
        )


def _served(fitted: Any) -> Any:
    """Return an estimator of torch that predicts what a fitted classifier does."""
    from sklr.nn.compression import from_sklearn

    model = fitted
    while isinstance(model, FrozenEstimator):
        model = model.estimator
    if isinstance(model, TorchClassifierMixin):
        served = copy.copy(model)
        # Of the network before.
        served.__dict__.pop("_optimizer_states", None)
        if getattr(served, "early_stopping", False):
            served.early_stopping = False  # partial_fit has none
        return served
    network = from_sklearn(model)
    seed = getattr(model, "random_state", None)
    served = PerceptronClassifier(network, random_state=0 if seed is None else seed)
    served.module_ = network.eval()
    served.classes_ = model.classes_
    served.n_features_in_ = model.n_features_in_
    if hasattr(model, "feature_names_in_"):
        served.feature_names_in_ = model.feature_names_in_
    served.n_iter_, served.loss_curve_ = 0, []
    served._sample_shape = (model.n_features_in_,)
    served._made_with = served._structure()
    served._draw_seed()
    return served
