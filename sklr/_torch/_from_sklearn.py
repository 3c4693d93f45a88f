"""Perceptrons and linear models of scikit-learn as networks, with the loss they minimise."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_array, check_is_fitted

_ACTIVATIONS = {"relu": "ReLU", "tanh": "Tanh", "logistic": "Sigmoid", "identity": "Identity"}
KINDS = (MLPClassifier, MLPRegressor, LogisticRegression, LinearRegression, Ridge)


@dataclass(frozen=True)
class Converted:
    """A fitted model as a network, and what it was fitted to.

    Attributes
    ----------
    module : torch.nn.Module
        Linear layers and activations in float64; what comes out are logits, or predictions.
    loss : str or callable
        The loss of a sample that the model minimises the mean of, see
        :func:`~sklr._torch._losses.sample_losses`.
    penalties : dict of str to float
        What the model's penalty adds to the curvature along each weight of a parameter, times
        the number of samples.
    X, y : ndarray
        Data as the network takes them: scaled by the steps before it, classes as integers.
    """

    module: Any
    loss: Any
    penalties: dict[str, float]
    X: Any = None
    y: Any = None


def is_convertible(model: Any) -> bool:
    """Return whether it is a model of scikit-learn that can be a network, or a pipeline to one."""
    last = model.steps[-1][1] if isinstance(model, Pipeline) else model
    return isinstance(last, KINDS)


def converted(model: Any, X: Any = None, y: Any = None, *, name: str) -> Converted:
    """Return a fitted model as a network, and data as that takes them.

    Parameters
    ----------
    model : estimator
        One of ``KINDS``, or a pipeline that ends with one.
    X, y : array-like or None
        Data as the model takes them.
    name : str
        Who asks, for messages.

    Raises
    ------
    NotFittedError
        The model is not fitted.
    ValueError
        The data are not those of the model.
    """
    if isinstance(model, Pipeline):
        check_is_fitted(model)
        if X is not None and len(model) > 1:
            X = model[:-1].transform(X)
        model = model.steps[-1][1]
    check_is_fitted(model)
    found = _perceptron(model) if hasattr(model, "coefs_") else _linear(model)
    if X is not None:
        X = check_array(X, dtype=np.float64, input_name="X")
        if X.shape[1] != model.n_features_in_:
            raise ValueError(
                f"{name}: X has {X.shape[1]} features, {type(model).__name__} was fitted with "
                f"{model.n_features_in_}"
            )
    if y is not None:
        if isinstance(found.loss, _OfWeightedClasses):
            found.loss.see(np.asarray(y).reshape(-1))
        y = _targets(model, y, name)
        if X is not None and len(X) != len(y):
            raise ValueError(f"{name}: X has {len(X)} samples and y has {len(y)}")
    return Converted(found.module, found.loss, found.penalties, X, y)


def _targets(model: Any, y: Any, name: str) -> np.ndarray:
    y = np.asarray(y)
    classes = getattr(model, "classes_", None)
    if classes is None:
        y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
        return y.reshape(len(y), -1)
    if y.ndim == 2 and y.shape[1] > 1:  # several labels a sample
        return y.astype(np.float64)
    y = y.reshape(-1)
    index = np.searchsorted(classes, y)
    known = classes[np.minimum(index, len(classes) - 1)] == y
    if not np.all(known):
        raise ValueError(
            f"{name}: y has {np.unique(y[~known])[:5].tolist()}, which are none of the classes "
            f"that {type(model).__name__} was fitted with"
        )
    return index.astype(np.int64)


def _layer(weight: Any, bias: Any) -> Any:
    import torch
    from torch import nn

    weight = torch.tensor(np.asarray(weight, dtype=np.float64), device="cpu")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight)
    if bias is not None:
        layer.bias = nn.Parameter(torch.tensor(np.asarray(bias, np.float64), device="cpu"))
    return layer


def _perceptron(model: Any) -> Converted:
    from torch import nn

    parts: list[Any] = []
    for W, b in zip(model.coefs_, model.intercepts_):
        if parts:
            parts.append(getattr(nn, _ACTIVATIONS[model.activation])())
        parts.append(_layer(W.T, b))
    loss: Any = {
        "identity": _half_squares,
        "softmax": "cross_entropy",
        "logistic": _all_labels,
        "exp": _poisson,
    }[model.out_activation_]
    if loss is _all_labels and model.n_outputs_ == 1:
        loss = "binary_cross_entropy"
    penalties = {f"{2 * i}.weight": float(model.alpha) for i in range(len(model.coefs_))}
    return Converted(nn.Sequential(*parts), loss, penalties)


def _all_labels(output: Any, target: Any) -> Any:
    """Return the sum of the log losses of all labels."""
    from torch.nn import functional

    target = target.reshape(output.shape).to(output.dtype)
    losses = functional.binary_cross_entropy_with_logits(output, target, reduction="none")
    return losses.sum(dim=1)


def _half_squares(output: Any, target: Any) -> Any:
    """Return half the sum of the squared errors of all targets, whose gradient the model takes."""
    return (output - target.reshape(output.shape).to(output.dtype)).square().sum(dim=1) / 2


def _poisson(output: Any, target: Any) -> Any:
    """Return half the Poisson deviance of each sample, but for what the targets alone give."""
    target = target.reshape(output.shape).to(output.dtype)
    return (output.exp() - target * output).sum(dim=1)


def _penalties_of_logistic(model: Any) -> dict[str, float]:
    """Return the penalty's curvature: an absolute value has none where it has a derivative."""
    lasso = {"l1": 1.0, "l2": 0.0, None: 1.0}.get(model.penalty, model.l1_ratio or 0.0)
    penalty = (1.0 - lasso) / model.C
    penalties = {"0.weight": penalty}
    if model.solver == "liblinear" and model.fit_intercept:
        penalties["0.bias"] = penalty / model.intercept_scaling**2
    return penalties


class _OfWeightedClasses:
    """A loss whose samples count as the model's `class_weight` says; "balanced" by all targets."""

    def __init__(self, loss: str, class_weight: Any, classes: np.ndarray) -> None:
        self.loss, self.class_weight, self.classes = loss, class_weight, classes
        self.weights: Any = None

    def see(self, y: np.ndarray) -> None:
        from sklearn.utils.class_weight import compute_class_weight

        self.weights = compute_class_weight(self.class_weight, classes=self.classes, y=y)

    def __call__(self, output: Any, target: Any) -> Any:
        import torch

        from sklr._torch._losses import unchecked_losses

        losses = unchecked_losses(output, target, self.loss, "LogisticRegression", look=False)
        weights = torch.as_tensor(self.weights, dtype=losses.dtype, device=losses.device)
        return losses * weights[target.reshape(-1).long()]


def _linear(model: Any) -> Converted:
    from torch import nn

    coef = np.atleast_2d(model.coef_)
    bias = np.broadcast_to(np.asarray(model.intercept_, np.float64), len(coef))
    module = nn.Sequential(_layer(coef, bias.copy() if model.fit_intercept else None))
    if isinstance(model, LogisticRegression):
        loss: Any = "binary_cross_entropy" if len(coef) == 1 else "cross_entropy"
        if model.class_weight is not None:
            loss = _OfWeightedClasses(loss, model.class_weight, model.classes_)
        return Converted(module, loss, _penalties_of_logistic(model))
    alpha = np.broadcast_to(np.asarray(getattr(model, "alpha", 0.0), np.float64), len(coef))
    # One number for all outputs; several alphas would need one for each row.
    penalty = float(alpha[0]) if np.all(alpha == alpha[0]) else float("nan")
    return Converted(module, "squared_error", {"0.weight": 2 * penalty / len(coef)})
