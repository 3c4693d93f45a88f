"""Parameters and checks that the estimators of matrix completion share."""

from numbers import Integral, Real

from sklearn.utils._param_validation import Interval, StrOptions

from sklr.decomposition._completion_data import Settings

CONSTRAINTS: dict = {
    "n_components": [Interval(Integral, 1, None, closed="left"), None],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "bias_alpha": [Interval(Real, 0, None, closed="left")],
    "alpha_scaling": [StrOptions({"none", "count", "uncertainty"})],
    "loss": [StrOptions({"squared", "huber", "absolute"})],
    "solver": [StrOptions({"auto", "cg", "cholesky"})],
    "n_inner": [Interval(Integral, 1, None, closed="left")],
    "fit_bias": ["boolean"],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "random_state": ["random_state"],
    "n_jobs": [Integral, None],
    "verbose": ["verbose"],
}


def resolve_rank(n_components, shape):
    """Return the rank, or say why it cannot be: None is 10, or half of a small matrix's side."""
    smallest = min(shape)
    if n_components is None:
        return min(10, max(1, smallest // 2))
    if n_components > smallest:
        raise ValueError(
            f"n_components={n_components} must be at most min(shape)={smallest}, "
            f"the matrix has shape {tuple(shape)}."
        )
    return int(n_components)


def make_settings(estimator, rank):
    """Collect an estimator's parameters for the engine."""
    return Settings(
        rank=rank,
        alpha=float(estimator.alpha),
        bias_alpha=float(estimator.bias_alpha),
        power=1.0 if estimator.alpha_scaling == "count" else 0.0,
        uncertainty=estimator.alpha_scaling == "uncertainty",
        loss=estimator.loss,
        solver=estimator.solver,
        n_inner=int(estimator.n_inner),
        fit_bias=bool(estimator.fit_bias),
        max_iter=int(estimator.max_iter),
        tol=float(estimator.tol),
        n_jobs=estimator.n_jobs,
    )


def not_converged(settings, model):
    """Words of the ConvergenceWarning."""
    what = "the objective"
    if settings.uncertainty:
        what = "the objective (in units of the noise, which is estimated)"
    last = f"lowered {what} by {model.last_gain:.2g} of it, tol={settings.tol:g}"
    if not 0 <= model.last_gain <= 1:
        last = "solved regressions that are singular: fewer values than factors"
    return (
        f"alternating minimisation did not converge in max_iter={settings.max_iter} sweeps: the "
        f"last one {last}. Raise max_iter, tol or alpha."
    )
