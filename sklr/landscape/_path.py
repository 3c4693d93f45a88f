"""The loss along the line between two networks."""

from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from sklr._torch._from_sklearn import converted, is_convertible
from sklr.landscape._lanczos import leading_pairs
from sklr.landscape._operator import HessianOperator, check_options, objective_of
from sklr.utils._axes import new_axes
from sklr.utils._progress import progress


@dataclass
class LossPath:
    """The loss along the line between two networks.

    Attributes
    ----------
    t : ndarray of shape (n_points,)
        From 0, the first network, to 1, the second.
    loss : ndarray of shape (n_points,)
        Mean loss.
    accuracy : ndarray of shape (n_points,) or None
        Share of samples whose class is right; None for a regression, or a loss of one's own.
    test_loss, test_accuracy : ndarray of shape (n_points,) or None
        The same on test data, where there are any.
    top_eigenvalue : ndarray of shape (n_points,) or None
        Largest eigenvalue of the Hessian, where it was asked for.
    barrier : float
        How far the loss rises above the line between its ends, at most; 0 where it does not.
    distance : float
        Distance of the networks' parameters.
    """

    t: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray | None
    test_loss: np.ndarray | None
    test_accuracy: np.ndarray | None
    top_eigenvalue: np.ndarray | None
    distance: float
    barrier: float = field(init=False)

    def __post_init__(self) -> None:
        between = (1 - self.t) * self.loss[0] + self.t * self.loss[-1]
        self.barrier = float(np.maximum(self.loss - between, 0).max())


def loss_path(
    model_a: Any,
    model_b: Any,
    X: Any,
    y: Any = None,
    *,
    n_points: int = 25,
    X_test: Any = None,
    y_test: Any = None,
    loss: Any = "auto",
    curvature: bool = False,
    batch_size: int | None = None,
    dtype: str = "auto",
    random_state: Any = None,
    verbose: int = 0,
) -> LossPath:
    """Follow the loss on the straight line between two networks of one make.

    Where it rises between two solutions they lie in different basins, or look so: neurons of one
    may be those of the other in another order.

    Parameters
    ----------
    model_a, model_b : torch.nn.Module or scikit-learn model
        Two networks with the same parameters; neither is changed. Or two fitted models of
        scikit-learn, see :class:`HessianOperator`.
    X : array-like, tensor, tuple, dict, list of batches or DataLoader
        Inputs, as :class:`HessianOperator` takes them.
    y : array-like or None
        Targets; None where `X` has batches.
    n_points : int, default=25
        Points on the line, both ends included.
    X_test, y_test : array-like or None, default=None
        Further data, on which loss and accuracy are taken too.
    loss : str or callable, default="auto"
        As for :class:`HessianOperator`.
    curvature : bool, default=False
        Whether the largest eigenvalue of the Hessian is computed at each point.
    batch_size : int or None, default=None
        Samples that run through the network at a time; None finds how many fit.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Precision; "auto" is float64 up to 100,000 parameters.
    random_state : int, RandomState instance or None, default=None
        Decides first vectors where `curvature` is True.
    verbose : int, default=0
        1 shows the progress.

    Returns
    -------
    path : LossPath
        `t`, `loss`, `accuracy`, `test_loss`, `test_accuracy`, `top_eigenvalue`, `barrier` and
        `distance`.

    Raises
    ------
    ValueError
        The networks have other parameters.

    See Also
    --------
    LossPathDisplay : The path as a figure.
    HessianSpectrum : The curvature at one point.

    Notes
    -----
    The networks are in evaluation mode. Running statistics of batch normalisations are moved
    along the line too, and are not those of the networks in between: with them a barrier may be
    theirs.

    References
    ----------
    .. [1] I. J. Goodfellow, O. Vinyals and A. M. Saxe, "Qualitatively characterizing neural
       network optimization problems", ICLR 2015, arXiv:1412.6544.
    .. [2] L. Sagun, U. Evci, V. U. Guney, Y. Dauphin and L. Bottou, "Empirical analysis of the
       Hessian of over-parametrized neural networks", 2017, arXiv:1706.04454.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklr.landscape import loss_path
    >>> X, y = load_iris(return_X_y=True)
    >>> models = [LogisticRegression(C=C, max_iter=999).fit(X, y) for C in (0.1, 10)]
    >>> loss_path(*models, X, y).barrier  # a convex loss has none
    0.0
    """
    import torch

    name = "loss_path"
    check_options(name, loss, "hessian", 0.0, batch_size, dtype)
    if not isinstance(n_points, Integral) or n_points < 2:
        raise ValueError(f"{name}: n_points must be a whole number of at least 2, got {n_points!r}")
    if (X_test is None) and (y_test is not None):
        raise ValueError(f"{name}: y_test goes with X_test")
    settings = {"loss": loss, "weight_decay": 0.0, "batch_size": batch_size, "dtype": dtype}
    objective, _ = objective_of(model_a, X, y, name=name, **settings)
    test = None
    if X_test is not None:
        test, _ = objective_of(model_a, X_test, y_test, name=name, **settings)
    if is_convertible(model_b):
        model_b = converted(model_b, name=name).module
    ends = [_state(objective.network), _state(model_b)]
    _check_same(*ends)
    a, b = ({key: value.to(objective.device) for key, value in end.items()} for end in ends)
    keys = [key for key, value in a.items() if value.is_floating_point()]
    a.update({key: a[key].clone() for key in keys})
    parameters = {key for key, _ in objective.network.named_parameters()}
    distance = sum(float((a[k].double() - b[k].double()).square().sum()) for k in parameters) ** 0.5
    t = np.linspace(0, 1, n_points)
    rows: dict[str, list[Any]] = {key: [] for key in ("loss", "acc", "test", "test_acc", "top")}
    seed = check_random_state(random_state).randint(2**31)
    for at in progress(t, total=n_points, description=name, verbose=verbose):
        for one in (objective, test):
            if one is None:
                continue
            one._kept = {}
            with torch.inference_mode(False), torch.no_grad():
                own = _state(one.network)
                for key in keys:
                    own[key].copy_(torch.lerp(a[key], b[key].to(a[key].dtype), float(at)))
        found = [_loss_and_accuracy(one) for one in (objective, test) if one is not None]
        rows["loss"].append(found[0][0])
        rows["acc"].append(found[0][1])
        if test is not None:
            rows["test"].append(found[1][0])
            rows["test_acc"].append(found[1][1])
        if curvature:
            operator = HessianOperator._of(objective, None, "hessian")
            pairs, _ = leading_pairs(
                operator.matvec,
                objective.n_parameters,
                1,
                which="largest",
                n_steps=None,
                tol=1e-4,
                rng=np.random.RandomState(seed),
            )
            rows["top"].append(pairs.eigenvalues[0])
    columns = {
        key: np.array(values, dtype=np.float64) if values and values[0] is not None else None
        for key, values in rows.items()
    }
    assert columns["loss"] is not None
    return LossPath(
        t,
        columns["loss"],
        columns["acc"],
        columns["test"],
        columns["test_acc"],
        columns["top"],
        distance,
    )


def _state(module: Any) -> dict[str, Any]:
    return {
        key: value.detach() for key, value in [*module.named_parameters(), *module.named_buffers()]
    }


def _check_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    shapes = [{key: tuple(value.shape) for key, value in state.items()} for state in (one, other)]
    if shapes[0] != shapes[1]:
        keys = [key for key in {**one, **other} if shapes[0].get(key) != shapes[1].get(key)]
        shown = [f"{key!r}: {shapes[0].get(key)} and {shapes[1].get(key)}" for key in keys[:5]]
        raise ValueError(
            f"loss_path: the networks must have the same parameters; they differ in "
            f"{', '.join(shown)}"
        )


def _loss_and_accuracy(objective: Any) -> tuple[float, float | None]:
    right = total = 0
    known = True
    for output, target in objective.outputs():
        if target.is_floating_point() or objective.loss not in (
            *(None, "auto", "cross_entropy", "binary_cross_entropy"),
        ):
            known = False
            break
        if output.shape == (*target.shape, 1) or output.shape == target.shape:
            chosen = (output.reshape(target.shape) > 0).to(target.dtype)
        else:
            chosen = output.argmax(dim=-1)
        right += int((chosen == target).sum())
        total += target.numel()
    return objective.mean_loss(), right / total if known and total else None


class LossPathDisplay:
    """Loss and accuracy along the line between two networks.

    Parameters
    ----------
    path : LossPath
        What :func:`loss_path` returns.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes of the loss, once drawn.
    accuracy_ax_ : matplotlib.axes.Axes or None
        Those of the accuracy, on the right.
    figure_ : matplotlib.figure.Figure
        The figure, once drawn.
    lines_ : list of matplotlib.lines.Line2D
        What was drawn.

    See Also
    --------
    loss_path : What is drawn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklr.landscape import LossPathDisplay, loss_path
    >>> X, y = load_iris(return_X_y=True)
    >>> models = [LogisticRegression(C=C, max_iter=999).fit(X, y) for C in (0.1, 10)]
    >>> LossPathDisplay(loss_path(*models, X, y)).plot().ax_.get_ylabel()
    'Loss'
    """

    def __init__(self, path: LossPath) -> None:
        self.path = path

    def plot(self, *, ax: Any = None) -> "LossPathDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None is a new figure.

        Returns
        -------
        self : LossPathDisplay
            With the figure's parts.
        """
        path = self.path
        self.ax_, self.figure_ = new_axes(ax, "LossPathDisplay")
        self.accuracy_ax_, self.lines_ = None, []
        many = path.test_loss is not None
        name = "training" if many else "loss"
        self.lines_ += self.ax_.plot(path.t, path.loss, color="C0", label=name)
        if many:
            self.lines_ += self.ax_.plot(path.t, path.test_loss, "--", color="C0", label="test")
        self.ax_.set_xlabel("Between the networks")
        self.ax_.set_ylabel("Loss", color="C0")
        if path.accuracy is not None:
            self.accuracy_ax_ = self.ax_.twinx()
            self.lines_ += self.accuracy_ax_.plot(path.t, path.accuracy, color="C1")
            if path.test_accuracy is not None:
                self.lines_ += self.accuracy_ax_.plot(path.t, path.test_accuracy, "--", color="C1")
            self.accuracy_ax_.set_ylabel("Accuracy", color="C1")
        if many:
            self.ax_.legend()
        return self
