"""scikit-learn's perceptrons and linear models as networks of torch."""

from typing import Any

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model._base import LinearClassifierMixin, LinearModel
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklr._torch._untouched import plain_tensors

_ACTIVATIONS = {"identity": None, "logistic": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


def from_sklearn(estimator: Any) -> Any:
    """Return a fitted scikit-learn model as a network with equal predictions.

    Parameters
    ----------
    estimator : estimator
        A fitted ``MLPClassifier``, ``MLPRegressor``, or linear model that predicts by ``coef_``
        and ``intercept_`` (logistic regression, ridge, linear support vector machines, ...). A
        pipeline is taken too where scalers (standard, min-max, max-abs, robust), ``PCA`` or
        ``TruncatedSVD`` stand before such a model: they go into the first layer. Of a search,
        its best estimator.

    Returns
    -------
    network : torch.nn.Sequential
        Linear layers and activations, in the precision of the model's weights (mostly double:
        ``.float()`` makes it single). A classifier's network returns a logit for each of its
        classes (for two classes, 0 and the decision function), so that ``argmax(dim=1)`` is the
        place in ``classes_``, and for an ``MLPClassifier`` or a multinomial ``LogisticRegression``
        the softmax are the probabilities. With several labels a sample, a logit above 0 is a yes.
        A regressor's network returns (n_samples, n_outputs).

    Raises
    ------
    TypeError
        The model is none of these.
    NotFittedError
        It is not fitted.

    See Also
    --------
    AtomicFeatureMimicking : Makes the network smaller.
    sklr.neural_network.CompressedClassifier : Does all of it inside a pipeline.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklr.nn.compression import from_sklearn
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    >>> network = from_sklearn(model)
    >>> labels = network(torch.from_numpy(X)).argmax(dim=1)
    >>> bool((labels.numpy() == model.predict(X)).all())
    True
    """
    model, before = _unwrapped(estimator)
    check_is_fitted(model)
    activation: str | None = None
    if isinstance(model, (MLPClassifier, MLPRegressor)):
        if model.out_activation_ not in ("identity", "softmax", "logistic"):
            raise TypeError(
                f"from_sklearn: the outputs of {model!r} go through {model.out_activation_}, which "
                "no layer of the network does"
            )
        # A layer's coefs_ are (inputs, outputs).
        weights = [W.T for W in model.coefs_]
        biases = list(model.intercepts_)
        activation = model.activation
    elif isinstance(model, (LinearClassifierMixin, LinearModel)):
        coef = model.coef_.toarray() if hasattr(model.coef_, "toarray") else model.coef_
        weights = [np.atleast_2d(coef)]
        biases = [np.broadcast_to(np.atleast_1d(model.intercept_), (len(weights[0]),))]
    else:
        raise TypeError(
            "from_sklearn takes a fitted MLPClassifier, MLPRegressor or linear model with coef_ "
            f"and intercept_, or a pipeline of scalers and one of these, got {type(model).__name__}"
        )
    if is_classifier(model) and len(weights[-1]) == 1:
        # One logit says which of two classes; a class has one each here.
        zero = np.zeros_like(weights[-1])
        weights[-1] = np.vstack([zero, weights[-1]])
        biases[-1] = np.concatenate([[0.0], biases[-1]])
    for matrix, shift in reversed(before):
        W = weights[0].astype(np.float64)
        biases[0] = biases[0] + W @ shift
        weights[0] = W @ matrix if matrix.ndim == 2 else W * matrix
    dtype = torch.float32 if weights[-1].dtype == np.float32 else torch.float64
    layers: list[nn.Module] = []
    made = _ACTIVATIONS[activation] if activation is not None else None
    with plain_tensors():
        for W, b in zip(weights, biases):
            if layers and made is not None:
                layers.append(made())
            linear = nn.Linear(W.shape[1], W.shape[0], device="meta", dtype=dtype)
            linear.weight = nn.Parameter(torch.from_numpy(np.array(W)).to(dtype))
            linear.bias = nn.Parameter(torch.from_numpy(np.array(b)).to(dtype))
            layers.append(linear)
        return nn.Sequential(*layers)


def _unwrapped(estimator: Any) -> tuple[Any, list[tuple[np.ndarray, np.ndarray]]]:
    """Return the model itself, and the affine maps before it: (matrix or its diagonal, shift)."""
    before: list[tuple[np.ndarray, np.ndarray]] = []
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            *steps, (_, last) = estimator.steps
            before += [
                _affine(step, name) for name, step in steps if step not in (None, "passthrough")
            ]
            estimator = last
        else:
            return estimator, before


def _affine(step: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(
        step, (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, PCA, TruncatedSVD)
    ):
        raise TypeError(
            f"from_sklearn: the step {name!r} of the pipeline is a {type(step).__name__}; scalers, "
            "PCA and TruncatedSVD may stand before the model"
        )
    check_is_fitted(step)
    if getattr(step, "clip", False):
        raise TypeError(f"from_sklearn: the step {name!r} clips values, which no layer does")
    if isinstance(step, (PCA, TruncatedSVD)):
        matrix = step.components_.astype(np.float64)
        if getattr(step, "whiten", False):
            # Directions without variance are divided by what PCA itself takes for 0.
            least = np.finfo(step.explained_variance_.dtype).eps
            matrix = matrix / np.maximum(np.sqrt(step.explained_variance_), least)[:, None]
        mean = getattr(step, "mean_", None)
        shift = np.zeros(len(matrix)) if mean is None else -matrix @ mean
        return matrix, shift
    n = step.n_features_in_
    if isinstance(step, MinMaxScaler):
        return np.asarray(step.scale_), np.asarray(step.min_)
    centre = step.mean_ if isinstance(step, StandardScaler) else getattr(step, "center_", None)
    if isinstance(step, StandardScaler) and not step.with_mean:
        centre = None
    scale = np.ones(n) if step.scale_ is None else 1 / np.asarray(step.scale_)
    return scale, np.zeros(n) if centre is None else -np.asarray(centre) * scale
