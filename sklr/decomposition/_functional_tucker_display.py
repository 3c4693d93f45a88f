"""Figure of the latent functions of a functional Tucker model."""

import numpy as np
from sklearn.utils.validation import check_is_fitted


class LatentFunctionsDisplay:
    """Latent functions of one or several columns, with their bands.

    Make it with :meth:`from_estimator`. Functions are shown with unit root mean square over the
    samples' coordinates, because the core takes up any scale.

    Parameters
    ----------
    grids : list of ndarray of shape (n_points,)
        Coordinates of each panel.
    means : list of ndarray of shape (n_points, rank)
        Functions of each panel.
    stds : list of ndarray of shape (n_points, rank)
        Their standard deviations.
    names : list of str
        Labels of the horizontal axes.
    discrete : list of bool
        Whether the coordinates of a panel are categories.

    Attributes
    ----------
    axes_ : ndarray of shape (n_panels,)
        The axes, once plotted.
    figure_ : matplotlib.figure.Figure
        The figure, once plotted.

    See Also
    --------
    FunctionalTuckerRegressor : The model.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.decomposition import FunctionalTuckerRegressor, LatentFunctionsDisplay
    >>> X = np.random.default_rng(0).uniform(size=(80, 2))
    >>> y = np.sin(5 * X[:, 0]) * X[:, 1]
    >>> model = FunctionalTuckerRegressor(rank=1, n_init=1, random_state=0).fit(X, y)
    >>> display = LatentFunctionsDisplay.from_estimator(model)
    >>> len(display.axes_)
    2
    """

    def __init__(self, grids, means, stds, names, discrete):
        self.grids = grids
        self.means = means
        self.stds = stds
        self.names = names
        self.discrete = discrete

    @classmethod
    def from_estimator(cls, estimator, modes=None, *, n_points=300, names=None, axes=None):
        """Plot the functions of a fitted model.

        Parameters
        ----------
        estimator : FunctionalTuckerRegressor
            The fitted model.
        modes : sequence of int, default=None
            Columns to show; by default all.
        n_points : int, default=300
            Points of each curve.
        names : sequence of str, default=None
            Labels of the columns; by default their names in `fit`, or x0, x1 ...
        axes : sequence of matplotlib.axes.Axes, default=None
            Where to plot, one for each column; by default a new row of panels.

        Returns
        -------
        display : LatentFunctionsDisplay
            What was plotted.
        """
        check_is_fitted(estimator)
        modes = range(estimator.n_features_in_) if modes is None else list(modes)
        known = getattr(
            estimator, "feature_names_in_", [f"x{k}" for k in range(estimator.n_features_in_)]
        )
        names = [str(known[k]) for k in modes] if names is None else list(names)
        if len(names) != len(modes):
            raise ValueError(f"names must be {len(modes)}, one a column, got {len(names)}.")
        grids, means, stds, discrete = [], [], [], []
        for k in modes:
            at = estimator.coordinates_[k]
            is_category = estimator.length_scale_[k] == 0.0
            grid = at if is_category else np.linspace(at[0], at[-1], n_points)
            mean, std = estimator.latent_functions(k, grid, return_std=True)
            size = np.sqrt((estimator.latent_functions(k) ** 2).mean(axis=0))
            size = np.where(size > 0, size, 1.0)
            grids.append(grid)
            means.append(mean / size)
            stds.append(std / size)
            discrete.append(bool(is_category))
        return cls(grids, means, stds, names, discrete).plot(axes=axes)

    def plot(self, axes=None, *, width=1.96):
        """Draw curves and bands.

        Parameters
        ----------
        axes : sequence of matplotlib.axes.Axes, default=None
            Where to plot; by default a new row of panels.
        width : float, default=1.96
            Half-width of the bands in standard deviations.

        Returns
        -------
        display : LatentFunctionsDisplay
            Itself, with `axes_` and `figure_`.
        """
        if axes is None:
            import matplotlib.pyplot as plt

            n = len(self.grids)
            _, axes = plt.subplots(1, n, figsize=(3.6 * n, 3.0), layout="constrained")
        self.axes_ = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
        if len(self.axes_) != len(self.grids):
            raise ValueError(f"axes must be {len(self.grids)}, got {len(self.axes_)}.")
        for k, ax in enumerate(self.axes_):
            for r in range(self.means[k].shape[1]):
                mean, std = self.means[k][:, r], self.stds[k][:, r]
                if self.discrete[k]:
                    places = np.arange(len(mean)) + 0.15 * (r - 0.5 * (self.means[k].shape[1] - 1))
                    ax.errorbar(places, mean, yerr=width * std, fmt="o", ms=4, capsize=2)
                    ax.set_xticks(np.arange(len(mean)), [f"{v:g}" for v in self.grids[k]])
                else:
                    (line,) = ax.plot(self.grids[k], mean, linewidth=1.3)
                    ax.fill_between(
                        self.grids[k],
                        mean - width * std,
                        mean + width * std,
                        color=line.get_color(),
                        alpha=0.2,
                        linewidth=0,
                    )
            ax.set_xlabel(self.names[k])
            ax.spines[["top", "right"]].set_visible(False)
        self.axes_[0].set_ylabel("latent functions")
        self.figure_ = self.axes_[0].figure
        return self
