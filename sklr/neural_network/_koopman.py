"""Forecasts and spectra of nonlinear systems by a linear operator: DMD to deep."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from sklr.neural_network._base import training_constraints
from sklr.neural_network._koopman_answers import KoopmanAnswers
from sklr.neural_network._koopman_dictionaries import with_spectral_radius
from sklr.neural_network._koopman_forecast import fit_scaling, steps_to_compare
from sklr.neural_network._koopman_spectrum import pairs_of
from sklr.neural_network._koopman_trajectories import (
    forecast_starts,
    hold_out,
    read_trajectories,
    transitions,
)
from sklr.utils._base import fit_context
from sklr.utils._warnings import warn_user


class InformationKoopman(KoopmanAnswers):
    r"""Linear dynamics on functions of the state of a nonlinear system.

    States :math:`x_n` become latents :math:`z_n = f(x_n)`, in which a step is linear,
    :math:`z_{n+1} = K z_n`. The functions are given (dynamic mode decomposition, monomials,
    Gaussians, a function of yours; :math:`K` is then found by least squares), or a network that is
    trained so that latents are coherent in time, move linearly, and use all their dimensions. The
    default tries those in closed form on trajectories set aside, and takes what forecasts best.

    Parameters
    ----------
    encoder : str, callable or Module, default="auto"
        The functions of the state. "auto" chooses among "linear", "polynomial" and "rbf" by
        forecasts of states set aside. "linear" is affine dynamic mode decomposition, "polynomial"
        adds monomials up to `degree`, "rbf" Gaussians around `n_centers` states, "network" trains
        a perceptron. A callable makes an array (n_states, n_functions) of states in their own
        units, or it is a torch Module, which is copied and trained in place of the perceptron.
    n_components : int, default=16
        Latents of the network; a Module and dictionaries have as many as they make.
    degree : int, default=3
        Highest degree of "polynomial". More than 250 monomials are not made: with many features
        they are of leading principal coordinates.
    n_centers : int, default=400
        Gaussians of "rbf", around states drawn from the training data.
    kernel_width : float or "auto", default="auto"
        Their standard deviation, in medians of the distance of two states. "auto" chooses by
        forecasts of states set aside.
    ridge : float or "auto", default="auto"
        Weight of the squared operator, where the mean square of each function is 1. "auto" chooses
        by forecasts of states set aside.
    relift : bool or "auto", default="auto"
        Whether forecasts go through the states at each step: better where the functions are not
        closed under the dynamics, and no longer linear. Of "rbf" they stay within the range of the
        training states, widened by half of it on either side. "auto" chooses by forecasts of
        states set aside.
    instruments : bool or "auto", default="auto"
        In closed form: whether the operator is found by instrumental variables, the functions one
        step before (two-stage least squares). Noise of the measurements, other in each state, then
        makes it neither smaller nor its rates of growth lower, as it does in a regression. Latents
        of states are then those from which a step is that of the regression (unless `relift_`).
        "auto" chooses by forecasts of states set aside.
    horizon : int, default=50
        Steps of those forecasts, and of `score`.
    spectral_radius : float, default=None
        Eigenvalues of the operator beyond this size are moved back to it; 1 makes it stable.
    dt : float, default=1.0
        Time between states, the unit of `continuous_eigenvalues_`.
    standardize : bool, default=True
        Whether each feature gets unit variance; False (fields, images) scales all alike.
    alpha : float, default=0.01
        Network: weight of the coherence in time (:func:`~sklr.nn.temporal_infonce`).
    beta : float, default=1.0
        Network: weight of the squared error of a step in the latents.
    gamma : float, default=0.01
        Network: weight of the entropy of the latents (:func:`~sklr.nn.von_neumann_entropy`).
    reconstruction_weight : float, default=1.0
        Network: weight of the squared error of the decoder without a step.
    n_neighbors : int, default=3
        Network: states before and after that count as near in time.
    temperature : float, default=0.07
        Network: temperature of the coherence.
    window : int, default=16
        Network: consecutive states that are looked at together, beside the first.
    hidden_layer_sizes : array-like of int, default=(64, 64)
        Network: widths of the encoder's hidden layers, and in reverse of the decoder's.
    decoder : Module, default=None
        Network: from latents to standardised states; None is a perceptron.
    refit_operator : bool, default=True
        Network: whether the operator is fitted again in closed form at the end, where that
        forecasts states set aside better.
    solver : {"adam", "adamw", "sgd"}, default="adam"
        Network: optimiser.
    learning_rate : float, default=1e-3
        Network: first learning rate; each 20 epochs it is multiplied by 0.8.
    weight_decay : float, default=0.0
        Network: weight decay.
    {max_iter}
    batch_size : int or "auto", default="auto"
        Network: windows of a batch; "auto" is 64.
    {early_stopping}
    validation_fraction : float, default=0.2
        Share of the trajectories set aside for all that "auto" chooses, for `early_stopping` and
        for `refit_operator`; with fewer than five trajectories, of the end of each. In closed form
        the final fit has them too.
    n_iter_no_change : int, default=20
        Epochs without improvement before it stops.
    {tol}
    {dtype}
    {device}
    {random_state}
    {verbose}
    {callbacks}

    Attributes
    ----------
    encoder_ : str
        The encoder: one of the names above, "callable" or "module".
    koopman_operator_ : ndarray of shape (n_components_, n_components_)
        :math:`K`, for columns of latents.
    koopman_eigenvalues_ : complex ndarray of shape (n_components_,)
        Its eigenvalues, largest first.
    continuous_eigenvalues_ : complex ndarray of shape (n_components_,)
        Their logarithms over `dt`: rates of growth (-inf where an eigenvalue is 0), and
        frequencies in radians a unit of time.
    modes_ : complex ndarray of shape (n_components_, n_features_in_)
        What each eigenfunction adds to the state; least squares where a network decodes.
    effective_dimension_ : float
        Exponential of the entropy of the latents' covariance, between 1 and `n_components_`.
    n_components_ : int
        Latents.
    relift_ : bool
        Whether forecasts go through the states.
    instruments_ : bool
        Whether the operator was found by instrumental variables.
    ridge_ : float
        The ridge; of a network, that of the closed form.
    candidates_ : list of dict
        What was tried on states set aside: its "encoder", "ridge", "relift", "instruments" and so
        on, and "errors", the root mean squared error in standard deviations after each of
        `steps_`. Empty where nothing was to be chosen, or the trajectories are too short to set
        some aside.
    steps_ : list of int
        Steps at which candidates were compared.
    mean_, scale_ : ndarray of shape (n_features_in_,)
        What states are scaled with; a callable's are not centred.
    dt_ : float
        Time between states.
    n_iter_ : int
        Epochs done; 1 in closed form.
    module_ : torch.nn.Module
        The trained network; only with one, as the next three.
    {loss_curve_}
    loss_terms_ : dict of {str: list of float}
        Terms of the loss by epoch.
    validation_scores_ : list of float
        Minus the loss of windows set aside; only with `early_stopping`.
    n_features_in_ : int
        Features of a state.
    {feature_names_in_}

    See Also
    --------
    sklr.nn.von_neumann_entropy : The entropy of latents.
    sklearn.kernel_ridge.KernelRidge : A step without a spectrum.

    Notes
    -----
    deeptime and PyDMD have many more methods in closed form. An operator of D functions costs
    O(n D^2 + D^3), a forecast step O(D^2); an epoch of the network O(n window) passes.

    References
    ----------
    .. [1] X. Cheng, W. Yuan, Y. Yang, Y. Zhang, S. Cheng, Y. He and Z. Sun, "Information shapes
       Koopman representation", ICLR 2026, arXiv:2510.13025.
    .. [2] M. O. Williams, I. G. Kevrekidis and C. W. Rowley, "A data-driven approximation of the
       Koopman operator: extending dynamic mode decomposition", J. Nonlinear Sci. 25 (2015),
       doi:10.1007/s00332-015-9258-5.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.neural_network import InformationKoopman
    >>> t = np.arange(0, 20, 0.1)[:, None]
    >>> swings = [a * np.hstack([np.cos(2 * t), np.sin(2 * t)]) for a in (1.0, 0.5, 2.0, 1.5, 0.7)]
    >>> koopman = InformationKoopman(dt=0.1, random_state=0).fit(swings)
    >>> koopman.encoder_
    'linear'
    >>> bool(np.isclose(koopman.continuous_eigenvalues_.imag.max(), 2))
    True
    >>> koopman.forecast([[1.0, 0.0]], n_steps=30).shape
    (1, 30, 2)
    """

    _parameter_constraints: dict = {
        "encoder": [StrOptions({"auto", "linear", "polynomial", "rbf", "network"}), callable],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "degree": [Interval(Integral, 1, None, closed="left")],
        "n_centers": [Interval(Integral, 1, None, closed="left")],
        "kernel_width": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "ridge": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "relift": [StrOptions({"auto"}), "boolean"],
        "instruments": [StrOptions({"auto"}), "boolean"],
        "horizon": [Interval(Integral, 1, None, closed="left")],
        "spectral_radius": [Interval(Real, 0, None, closed="neither"), None],
        "dt": [Interval(Real, 0, None, closed="neither")],
        "standardize": ["boolean"],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="left")],
        "reconstruction_weight": [Interval(Real, 0, None, closed="left")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "window": [Interval(Integral, 1, None, closed="left")],
        "decoder": [HasMethods("parameters"), None],
        "refit_operator": ["boolean"],
        **training_constraints(
            "hidden_layer_sizes",
            "solver",
            "learning_rate",
            "weight_decay",
            "max_iter",
            "batch_size",
            "early_stopping",
            "validation_fraction",
            "n_iter_no_change",
            "tol",
            "dtype",
            "device",
            "random_state",
            "verbose",
            "callbacks",
        ),
    }
    _own_names = ("encoder",)
    _network_parameters = ("encoder", "n_components", "decoder")

    def __init__(
        self,
        encoder: str | Callable[..., Any] = "auto",
        *,
        n_components: int = 16,
        degree: int = 3,
        n_centers: int = 400,
        kernel_width: float | str = "auto",
        ridge: float | str = "auto",
        relift: bool | str = "auto",
        instruments: bool | str = "auto",
        horizon: int = 50,
        spectral_radius: float | None = None,
        dt: float = 1.0,
        standardize: bool = True,
        alpha: float = 0.01,
        beta: float = 1.0,
        gamma: float = 0.01,
        reconstruction_weight: float = 1.0,
        n_neighbors: int = 3,
        temperature: float = 0.07,
        window: int = 16,
        hidden_layer_sizes: Sequence[int] = (64, 64),
        decoder: Any = None,
        refit_operator: bool = True,
        solver: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        max_iter: int = 100,
        batch_size: int | str = "auto",
        early_stopping: bool = False,
        validation_fraction: float = 0.2,
        n_iter_no_change: int = 20,
        tol: float = 1e-4,
        dtype: str = "auto",
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        callbacks: Any = None,
    ) -> None:
        self.encoder = encoder
        self.n_components = n_components
        self.degree = degree
        self.n_centers = n_centers
        self.kernel_width = kernel_width
        self.ridge = ridge
        self.relift = relift
        self.instruments = instruments
        self.horizon = horizon
        self.spectral_radius = spectral_radius
        self.dt = dt
        self.standardize = standardize
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.reconstruction_weight = reconstruction_weight
        self.n_neighbors = n_neighbors
        self.temperature = temperature
        self.window = window
        self.hidden_layer_sizes = hidden_layer_sizes
        self.decoder = decoder
        self.refit_operator = refit_operator
        self.solver = solver
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> InformationKoopman:
        """Fit the operator on trajectories.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_features)
            Trajectories, of any lengths; or an array of shape (n_trajectories, n_steps,
            n_features), or a table of shape (n_steps, n_features), which is one trajectory in the
            order of its rows.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        read = read_trajectories(self, X, reset=True, shortest=2)
        if np.all(read.states == read.states[0]):
            warn_user("all states of X are equal: forecasts repeat them", UserWarning)
        self._draw_seed()
        is_module = _is_module(self.encoder)
        self.encoder_ = (
            "module" if is_module else self.encoder if isinstance(self.encoder, str) else "callable"
        )
        closed = self.encoder_ not in ("network", "module")
        if not closed and self.instruments is True:
            raise ValueError(
                f"instruments=True is for operators in closed form, and encoder={self.encoder!r} "
                "trains one: take 'auto' or False"
            )
        self.instruments_ = False
        reduce = self.encoder_ not in ("callable", "module")
        self._scaling = fit_scaling(read.states, self.standardize, reduce)
        if self.encoder_ == "callable":  # states are read off its functions, not off a constant
            self._scaling.mean = np.zeros_like(self._scaling.mean)
        self.mean_, self.scale_ = self._scaling.mean, self._scaling.scale
        S = self._scaling.scaled(read.states)
        self._variance = max(float(S.var(axis=0).sum()), np.finfo(float).tiny)
        self.dt_ = float(self.dt)
        rng = np.random.RandomState(self._seed)  # noqa: NPY002 (as scikit-learn draws)
        kept, held = hold_out(read.bounds, self.validation_fraction, rng)
        self.candidates_: list[dict[str, Any]] = []
        self.steps_: list[int] = []
        tests = forecast_starts(held, self.horizon) if held else (np.empty(0, int),) * 2
        if len(tests[0]):
            self.steps_ = steps_to_compare(int(tests[1].max()))
        if closed:
            self._fit_closed(S, read.bounds, kept, tests)
        else:
            self._fit_trained(S, kept, held, tests)
        K = self._dynamics.K
        if self.spectral_radius is not None:
            self._dynamics.K = with_spectral_radius(K, self.spectral_radius)
        self.n_components_ = self._n_features_out = len(K)
        some = np.linspace(0, len(S) - 1, min(len(S), 5000)).astype(int)
        pairs = pairs_of(self._dynamics, S, transitions(read.bounds))
        self._set_spectrum(self._dynamics.lift(S[some]), S[some], pairs)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)
