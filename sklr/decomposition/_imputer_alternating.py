"""The engine of alternating minimisation behind LowRankImputer: entries in, values out."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from sklr.decomposition._completion import exact_rows, leave_one_out, minimise, scaled
from sklr.decomposition._completion_data import Model, ObservedEntries, transposed
from sklr.decomposition._completion_numpy import predict_pairs
from sklr.decomposition._parameters import make_settings, not_converged, resolve_rank
from sklr.utils._warnings import warn_user

#: What parameters of this method are where they are None.
DEFAULTS = {
    "alpha": 0.1,
    "bias_alpha": 0.1,
    "alpha_scaling": "none",
    "loss": "squared",
    "solver": "auto",
    "n_inner": 3,
    "fit_bias": True,
}
TOL = 1e-5


def entries_of(X, mask):
    """Observed entries by row; of a sparse matrix `mask` says which of the stored ones count."""
    if sp.issparse(X):
        indptr = np.concatenate([[0], np.cumsum(mask)])[X.indptr].astype(np.int64)
        indices, values = (X.indices, X.data) if mask.all() else (X.indices[mask], X.data[mask])
        return ObservedEntries(indptr, indices.astype(np.int32, copy=False), values, values[:0])
    indptr = np.concatenate([[0], np.cumsum(mask.sum(axis=1))]).astype(np.int64)
    numbers = np.broadcast_to(np.arange(X.shape[1], dtype=np.int32), X.shape)
    return ObservedEntries(indptr, numbers[mask], X[mask], X[:0, 0])


class AlternatingTable:
    """A table fitted by alternating minimisation: the columns' factors, and how rows get theirs.

    Parameters
    ----------
    settings : Settings
        Of the engine.
    model : Model
        Fitted; its rows are not kept.
    """

    def __init__(self, settings, model):
        self.settings = settings
        self.components = np.ascontiguousarray(model.V.T)
        self.mean = model.mean
        self.feature_bias = model.col_bias
        self.scale = model.scale
        self.delta, self.cut = float(model.delta), float(model.cut)
        self.noise = model.scale * model.noise_share**0.5
        self.col_variances = model.col_variances

    def rows(self, entries):
        """Factors and biases of rows, by one exact regression each on their observed values."""
        dtype = entries.values.dtype
        V = np.ascontiguousarray(self.components.T, dtype=dtype)
        model = Model(
            mean=self.mean,
            scale=self.scale,
            U=np.zeros((entries.n, V.shape[1]), dtype=dtype),
            V=V,
            row_bias=np.zeros(entries.n, dtype=dtype),
            col_bias=self.feature_bias.astype(dtype),
            delta=self.delta,
            cut=self.cut,
            noise_share=(self.noise / self.scale) ** 2 if self.scale else 1.0,
            col_variances=self.col_variances,
        )
        exact_rows(entries, model, scaled(self.settings, model))
        return model

    def values(self, entries):
        """Values of all columns."""
        model = self.rows(entries)
        values = model.U @ model.V.T
        values += model.row_bias[:, None]
        values += model.col_bias + model.dtype.type(model.mean)
        return values

    def pairs(self, entries, rows, cols):
        """Values at single positions; `rows` number those of `entries`."""
        model = self.rows(entries)
        mean = model.dtype.type(model.mean)
        return predict_pairs(rows, cols, mean, model.row_bias, model.col_bias, model.U, model.V)

    def score(self, entries):
        """Minus the error of each value predicted from the others of its row."""
        entries = entries._replace(values=entries.values.astype(np.float64))
        model = self.rows(entries)
        squared, absolute = leave_one_out(entries, model, scaled(self.settings, model))
        if self.settings.loss == "squared":
            return -float(np.sqrt(squared / len(entries.values)))
        return -absolute / len(entries.values)


def fit_alternating(estimator, entries, shape):
    """Fit by alternating minimisation, set the estimator's attributes, return an AlternatingTable.

    Parameters
    ----------
    estimator : LowRankImputer
        Whose parameters count.
    entries : ObservedEntries
        Observed entries by row.
    shape : tuple
        Of the table.

    Returns
    -------
    fitted : AlternatingTable
        What new rows need.
    """
    given = {name: getattr(estimator, name) for name in (*DEFAULTS, "tol")}
    chosen = {n: DEFAULTS.get(n, TOL) if value is None else value for n, value in given.items()}
    parameters = SimpleNamespace(max_iter=estimator.max_iter, n_jobs=estimator.n_jobs, **chosen)
    rank = None if estimator.n_components == "auto" else estimator.n_components
    settings = make_settings(parameters, resolve_rank(rank, shape))
    plain = settings.loss == "squared" and not settings.uncertainty and settings.power == 0
    settings = replace(settings, follow_noise=plain and given["alpha"] is None)
    rng = check_random_state(estimator.random_state)
    model = minimise(
        entries, transposed(entries, shape[1]), settings, rng, verbose=estimator.verbose
    )
    if not model.converged:
        warn_user(
            not_converged(settings, model),
            ConvergenceWarning,
        )
    model.orthogonalise()
    settings = replace(
        settings,
        alpha=settings.alpha * model.ridge_share,
        bias_alpha=settings.bias_alpha * model.ridge_share,
    )
    fitted = AlternatingTable(settings, model)
    estimator.components_ = fitted.components
    estimator.mean_ = fitted.mean
    estimator.feature_bias_ = fitted.feature_bias
    estimator.n_components_ = settings.rank
    estimator.n_iter_ = max(len(model.history), 1)
    estimator.objective_ = np.array(model.history)
    estimator.scale_ = fitted.scale
    estimator.delta_ = fitted.delta
    estimator.cut_ = fitted.cut
    estimator.noise_ = fitted.noise
    loss = entries.squared_loss(model, settings)
    estimator.training_rmse_ = float(np.sqrt(loss / len(entries.values)))
    return fitted
