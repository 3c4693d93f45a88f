"""Forecasts and spectra of nonlinear systems by a linear operator: DMD to deep."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_is_fitted

from sklr._torch._batches import batch_bounds
from sklr._torch._modules import mlp, output_width, own_module, probe
from sklr.neural_network._base import TorchEstimator, training_constraints
from sklr.neural_network._input import warn_caller
from sklr.neural_network._koopman_dictionaries import (
    Dictionary,
    Gaussians,
    Given,
    LeastSquares,
    Monomials,
    with_spectral_radius,
)
from sklr.neural_network._koopman_forecast import (
    Dynamics,
    errors_by_step,
    fit_scaling,
    log_error,
    steps_to_compare,
)
from sklr.neural_network._koopman_spectrum import KoopmanSpectrum, pairs_of
from sklr.neural_network._koopman_trajectories import (
    forecast_starts,
    hold_out,
    read_trajectories,
    transitions,
    window_starts,
)
from sklr.neural_network._loop import TrainState
from sklr.utils._base import fit_context

if TYPE_CHECKING:
    from torch import Tensor, nn

# What "auto" tries.
_RIDGES = (0.0, 1e-10, 1e-8, 1e-6, 1e-3)
_WIDTHS = (0.5, 1.5, 4.0)
_DEGREES = (2, 3, 5)
# A simpler candidate is taken where its error is no more than 2 % above the least.
_SLACK = 0.02
_MOST_PAIRS = 5000
_RIDGE = 1e-6


class InformationKoopman(
    KoopmanSpectrum, ClassNamePrefixFeaturesOutMixin, TransformerMixin, TorchEstimator
):
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
    ridge_ : float
        The ridge; of a network, that of the closed form.
    candidates_ : list of dict
        What was tried on states set aside: its "encoder", "ridge", "relift" and so on, and
        "errors", the root mean squared error in standard deviations after each of `steps_`. Empty
        where nothing was to be chosen, or the trajectories are too short to set some aside.
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
            warn_caller("all states of X are equal: forecasts repeat them", UserWarning)
        self._draw_seed()
        is_module = _is_module(self.encoder)
        self.encoder_ = (
            "module" if is_module else self.encoder if isinstance(self.encoder, str) else "callable"
        )
        closed = self.encoder_ not in ("network", "module")
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

    # Closed forms.

    def _dictionaries(self, n_pairs: int) -> list[Dictionary]:
        """Return the dictionaries to choose from, simple ones first."""
        widths = _WIDTHS if self.kernel_width == "auto" else (float(self.kernel_width),)
        if self.encoder_ == "callable":
            return [Given(self.encoder, self._scaling.unscaled)]  # type: ignore[arg-type]
        if self.encoder_ == "linear":
            return [Dictionary()]
        if self.encoder_ == "polynomial":
            return [Monomials(self.degree)]
        if self.encoder_ == "rbf":
            return [Gaussians(self.n_centers, width) for width in widths]
        n_centers = min(self.n_centers, n_pairs // 2)
        gaussians = [Gaussians(n_centers, width) for width in widths if n_centers]
        return [Dictionary(), *(Monomials(degree) for degree in _DEGREES), *gaussians]

    def _fit_closed(self, S: np.ndarray, bounds: Any, kept: Any, tests: Any) -> None:
        rng_seed = self._seed
        all_pairs = transitions(bounds)
        pairs = transitions(kept)
        pairs = pairs[np.linspace(0, len(pairs) - 1, min(len(pairs), _MOST_PAIRS)).astype(int)]
        dictionaries = self._dictionaries(len(pairs))
        ridges = _RIDGES if self.ridge == "auto" else (float(self.ridge),)
        relifts = (False, True) if self.relift == "auto" else (bool(self.relift),)
        best: tuple[Dictionary, float, bool] = (
            dictionaries[0],
            _RIDGE if self.ridge == "auto" else float(self.ridge),
            relifts[0],
        )
        if len(tests[0]) and len(dictionaries) * len(ridges) * len(relifts) > 1:
            choices: list[tuple[float, Dictionary, float, bool]] = []
            for dictionary in dictionaries:
                dictionary.fit(S[pairs], _rng(rng_seed))
                n_functions = dictionary.lift(S[:1]).shape[1]
                if self.encoder_ == "auto" and dictionary.name != "linear":
                    if 2 * n_functions > len(pairs) + 2 * S.shape[1]:
                        continue
                squares = LeastSquares(dictionary.lift, S, pairs)
                C = dictionary.decoder(S[pairs], dictionary.lift(S[pairs]))
                for ridge in ridges:
                    K = squares.solve(ridge)
                    dynamics = Dynamics(dictionary.lift, K, C=C, within=dictionary.within)
                    # Through the states or not is the same where the functions are the state.
                    for relift in relifts[: 1 if dictionary.name == "linear" else None]:
                        errors = self._errors(dynamics, S, tests, relift)
                        choices.append((log_error(errors), dictionary, ridge, relift))
                        about = {"ridge": ridge, "relift": relift, **dictionary.describes}
                        self._note(dictionary.name, errors, **about)
            least = min(choice[0] for choice in choices)
            best = next(c[1:] for c in choices if c[0] <= least + _SLACK)
        dictionary, self.ridge_, self.relift_ = best
        self.encoder_ = dictionary.name
        dictionary.fit(S, _rng(rng_seed))
        K = LeastSquares(dictionary.lift, S, all_pairs).solve(self.ridge_)
        some = np.linspace(0, len(S) - 1, min(len(S), 5000)).astype(int)
        C = dictionary.decoder(S[some], dictionary.lift(S[some]))
        self._dynamics = Dynamics(dictionary.lift, K, C=C, within=dictionary.within)
        self.n_iter_ = 1

    def _errors(self, dynamics: Dynamics, S: np.ndarray, tests: Any, relift: bool) -> np.ndarray:
        rows, ahead = tests
        return errors_by_step(dynamics, S, rows, ahead, relift, self.steps_, self._variance)

    def _note(self, encoder: str, errors: np.ndarray, **about: Any) -> None:
        self.candidates_.append({"encoder": encoder, **about, "errors": errors})

    # The network.

    def _fit_trained(self, S: np.ndarray, kept: Any, held: Any, tests: Any) -> None:
        length = self._window_length(kept)
        self._windows = window_starts(kept, length)[:, None] + np.arange(length)
        validation = None
        if self.early_stopping:
            starts = window_starts(held, length) if held else np.empty(0, int)
            if not len(starts):
                raise ValueError(
                    f"early_stopping needs windows of {length} states in what validation_fraction="
                    f"{self.validation_fraction} sets aside, and there are none: give more or "
                    "longer trajectories, a smaller window, or early_stopping=False"
                )
            validation = S[starts[:, None] + np.arange(length)], None
        with self._ready_to_train():
            self._fit_network(S, validation=validation)
            self._choose_operator(S, kept, tests)
        del self._windows

    def _choose_operator(self, S: np.ndarray, kept: Any, tests: Any) -> None:
        """Take the learned operator or one in closed form, whichever forecasts better."""
        import torch

        self._dynamics = Dynamics(self._latents_of, self._learned_operator(), self._states_of)
        self.ridge_ = _RIDGE if self.ridge == "auto" else float(self.ridge)
        operators = {"learned": self._dynamics.K}
        if self.refit_operator:
            pairs = transitions(kept)
            squares = LeastSquares(self._latents_of, S, pairs)
            operators["closed form"] = squares.solve(self.ridge_)
        relifts = (False, True) if self.relift == "auto" else (bool(self.relift),)
        choices = [(0.0, relifts[0], list(operators.values())[-1])]
        if len(tests[0]) and len(operators) * len(relifts) > 1:
            choices = []
            for name, K in operators.items():
                self._dynamics.K = K
                for relift in relifts:
                    errors = self._errors(self._dynamics, S, tests, relift)
                    choices.append((log_error(errors), relift, K))
                    self._note(self.encoder_, errors, operator=name, relift=relift)
        _, self.relift_, self._dynamics.K = min(choices, key=lambda choice: choice[0])
        with torch.no_grad():
            weight: Any = self.module_["operator"].weight  # type: ignore[index]
            weight.copy_(torch.as_tensor(self._dynamics.K, dtype=weight.dtype))

    def _window_length(self, bounds: Any) -> int:
        """Return how many consecutive states a window has, and what that switches off."""
        shortest = min(end - first for first, end in bounds)
        length = self.window + 1
        if shortest < length:
            which = min(range(len(bounds)), key=lambda i: bounds[i][1] - bounds[i][0])
            warn_caller(
                f"window={self.window} is shortened to {shortest - 1}: the shortest trajectory "
                f"(number {which} of those trained on) has {shortest} states; leave short ones "
                "out, or lower window",
                UserWarning,
            )
            length = shortest
        self._coherent = self.alpha > 0 and length > 2 * self.n_neighbors
        if self.alpha > 0 and not self._coherent:
            warn_caller(
                f"windows of {length} states have none with n_neighbors={self.n_neighbors} on "
                "both sides: the coherence in time is left out, as with alpha=0",
                UserWarning,
            )
        return length

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        import torch
        from torch import nn

        if self.encoder_ == "module":
            encoder = own_module(self.encoder, n_in)
            width = output_width(encoder, n_in, what="encoder")
        else:
            width = self.n_components
            encoder = mlp(n_in, self.hidden_layer_sizes, width, activation=nn.SiLU)
        if self.decoder is not None:
            decoder = own_module(self.decoder, width)
        else:
            backwards = list(self.hidden_layer_sizes)[::-1]
            decoder = mlp(width, backwards, n_in, activation=nn.SiLU)
        operator = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            operator.weight.copy_(torch.eye(width))
        return nn.ModuleDict({"encoder": encoder, "decoder": decoder, "operator": operator})

    def _check_module(self, module: Any, X: Tensor, n_out: Any) -> None:
        Z = probe(module["encoder"], X, what="encoder")
        probe(module["decoder"], Z, n_columns=X.shape[1], what="decoder")

    def _batches(self, step: TrainState) -> Iterator[Any]:
        import torch

        windows = torch.as_tensor(self._windows)
        order = torch.randperm(len(windows), generator=step.shuffle)
        bounds = batch_bounds(len(windows), self._windows_of_a_batch())
        for first, end in zip(bounds[:-1], bounds[1:]):
            yield windows[order[first:end]].reshape(-1).to(step.X.device)

    def _n_batches(self, step: TrainState) -> int:
        return len(batch_bounds(len(self._windows), self._windows_of_a_batch())) - 1

    def _windows_of_a_batch(self) -> int:
        return 64 if self.batch_size == "auto" else int(self.batch_size)

    def _learning_rate_factor(self, step: TrainState) -> float:
        return 0.8 ** (step.epoch // 20)

    def _loss(self, module: Any, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        return self._loss_of_windows(
            module, xb.reshape(-1, self._windows.shape[1], xb.shape[-1]), step
        )

    def _loss_of_windows(self, module: Any, windows: Tensor, step: TrainState) -> Tensor:
        """Return the loss of windows, (n_windows, n_states, n_features)."""
        from sklr.nn import temporal_infonce, von_neumann_entropy

        n, length, width = windows.shape
        Z = module["encoder"](windows.reshape(-1, width)).reshape(n, length, -1)
        ahead = module["operator"](Z[:, :-1])
        # One pass of the decoder for latents as they are and as they are forecast.
        both = module["decoder"](torch_cat(Z, ahead))
        states = windows.reshape(-1, width)
        now = (both[: len(states)] - states).square().mean()
        forecast = (both[len(states) :] - windows[:, 1:].reshape(-1, width)).square().mean()
        linear = (Z[:, 1:] - ahead).square().mean()
        loss = forecast + self.reconstruction_weight * now + self.beta * linear
        step.log("forecast", forecast)
        step.log("reconstruction", now)
        step.log("linearity", linear)
        if self._coherent:
            coherence = temporal_infonce(Z, self.n_neighbors, self.temperature)
            loss = loss + self.alpha * coherence
            step.log("coherence", coherence)
        if self.gamma > 0:
            entropy = von_neumann_entropy(Z)
            loss = loss - self.gamma * entropy
            step.log("entropy", entropy)
        return loss

    def _step(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        import torch

        from sklr._torch._device import mixed_precision

        for optimizer in step.optimizers:
            optimizer.zero_grad(set_to_none=True)
        with mixed_precision(step.device):
            loss = self._loss(module, xb, yb, step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        for optimizer in step.optimizers:
            optimizer.step()
        return loss.detach()

    def _validation_score(self, module: nn.Module, X: Tensor, y: Any, step: TrainState) -> float:
        import torch

        step.index = None  # these windows are not in step.X: nothing is logged
        module.eval()
        with torch.no_grad():
            score = -float(self._loss_of_windows(module, X, step))
        module.train()
        return score

    def _latents_of(self, S: np.ndarray) -> np.ndarray:
        return self._infer(S, lambda module, xb: module["encoder"](xb))  # type: ignore[index]

    def _states_of(self, Z: np.ndarray) -> np.ndarray:
        return self._infer(Z, lambda module, zb: module["decoder"](zb))  # type: ignore[index]

    def _learned_operator(self) -> np.ndarray:
        weight = self.module_["operator"].weight  # type: ignore[index]
        return weight.detach().cpu().double().numpy().copy()

    # What a fitted estimator answers.

    def transform(self, X: Any) -> Any:
        """Return the latents of states.

        Parameters
        ----------
        X : array-like of shape (n_steps, n_features), or a stack or list of such
            States.

        Returns
        -------
        Z : ndarray of shape (n_steps, n_components_), or a stack or list of such
            Latents.
        """
        check_is_fitted(self)
        read = read_trajectories(self, X, reset=False)
        container = _get_output_config("transform", self)["dense"]
        if read.layout != "table" and container != "default":
            raise ValueError(
                f"set_output(transform={container!r}) is for one table, and X is a {read.layout} "
                "of trajectories: set it to 'default', or transform each trajectory"
            )
        return read.laid_out(self._dynamics.lift(self._scaling.scaled(read.states)))

    def inverse_transform(self, Z: Any) -> Any:
        """Return the states of latents.

        Parameters
        ----------
        Z : array-like of shape (n_steps, n_components_), or a stack or list of such
            Latents.

        Returns
        -------
        X : ndarray of shape (n_steps, n_features), or a stack or list of such
            States, in their own units.
        """
        check_is_fitted(self)
        read = read_trajectories(self, Z, reset=False, checked=False)
        if read.states.shape[1] != self.n_components_:
            raise ValueError(
                f"Z has {read.states.shape[1]} columns, and there are {self.n_components_} latents"
            )
        return read.laid_out(self._scaling.unscaled(self._dynamics.states_of(read.states)))

    def predict(self, X: Any, n_steps: int = 1) -> Any:
        """Forecast from every state; the state so many steps later is returned.

        Parameters
        ----------
        X : array-like of shape (n_states, n_features), or a stack or list of such
            States.
        n_steps : int, default=1
            Steps.

        Returns
        -------
        X_later : ndarray of shape (n_states, n_features), or a stack or list of such
            States, in their own units.
        """
        check_is_fitted(self)
        _check_steps(n_steps)
        read = read_trajectories(self, X, reset=False)
        S = self._scaling.scaled(read.states)
        for states in self._dynamics.run(S, n_steps, self.relift_):
            last = states
        self._warn_of_lost(last, n_steps)
        return read.laid_out(self._scaling.unscaled(last))

    def forecast(self, X: Any, n_steps: int, relift: bool | None = None) -> np.ndarray:
        """Forecast from initial states; all states on the way are returned.

        Parameters
        ----------
        X : array-like of shape (n_initial, n_features)
            Initial states.
        n_steps : int
            Steps.
        relift : bool, default=None
            Whether to go through the states at each step; None is `relift_`.

        Returns
        -------
        trajectories : ndarray of shape (n_initial, n_steps, n_features)
            States, in their own units; the first is one step after the initial one.
        """
        check_is_fitted(self)
        _check_steps(n_steps)
        read = read_trajectories(self, X, reset=False)
        if read.layout != "table":
            raise ValueError(
                "forecast takes initial states, (n_initial, n_features), not trajectories"
            )
        if not (relift is None or isinstance(relift, (bool, np.bool_))):
            raise ValueError(f"relift must be True, False or None, got {relift!r}")
        S = self._scaling.scaled(read.states)
        through = self.relift_ if relift is None else bool(relift)
        out = np.empty((len(S), n_steps, read.states.shape[1]))
        for step, states in enumerate(self._dynamics.run(S, n_steps, through)):
            out[:, step] = self._scaling.unscaled(states)
        self._warn_of_lost(out[:, -1], n_steps)
        return out

    def score(self, X: Any, y: Any = None) -> float:
        """Return minus the error of forecasts, mean over `horizon` steps.

        Parameters
        ----------
        X : array-like of shape (n_steps, n_features), or a stack or list of such
            Trajectories; forecasts start at up to 100 of their states.
        y : None
            Ignored.

        Returns
        -------
        score : float
            Minus the root mean squared error in standard deviations of the training states, mean
            over the steps; -1000 at least.
        """
        check_is_fitted(self)
        read = read_trajectories(self, X, reset=False, shortest=2)
        S = self._scaling.scaled(read.states)
        rows, ahead = forecast_starts(read.bounds, self.horizon)
        at = range(1, int(ahead.max()) + 1)
        variance = self._variance
        return -float(
            errors_by_step(self._dynamics, S, rows, ahead, self.relift_, at, variance).mean()
        )

    def _warn_of_lost(self, states: np.ndarray, n_steps: int) -> None:
        lost = int(np.isnan(states).any(axis=1).sum())
        if lost:
            largest = float(np.abs(self.koopman_eigenvalues_).max())
            warn_caller(
                f"{lost} of {len(states)} forecasts left the floating point numbers within "
                f"{n_steps} steps and are NaN from there (largest eigenvalue {largest:.3g}); "
                "forecast fewer steps, or fit with spectral_radius=1, a larger ridge or another "
                "relift",
                RuntimeWarning,
            )

    def save_weights(self, path: Any) -> None:
        """Write the weights of the network to a file; closed forms have none.

        Parameters
        ----------
        path : str or path
            Where to; with the ending ``.safetensors`` in that format (needs the package
            safetensors), else in torch's own.
        """
        self._require_network("save_weights")
        super().save_weights(path)

    def load_weights(self, path: Any) -> InformationKoopman:
        """Read weights for the fitted network from a file; no code in the file is run.

        Eigenvalues and eigenfunctions follow; `modes_` and what was measured on the training data
        stay.

        Parameters
        ----------
        path : str or path
            A file of :meth:`save_weights`, of a ``Checkpoint``, or any ``state_dict`` of tensors.

        Returns
        -------
        self : object
            The estimator with these weights; unchanged when the file is refused.
        """
        self._require_network("load_weights")
        super().load_weights(path)
        self._dynamics.K = self._learned_operator()
        self._set_eigenvalues()
        return self

    def _require_network(self, what: str) -> None:
        check_is_fitted(self)
        if not hasattr(self, "module_"):
            raise ValueError(
                f"{what} is for networks, and the encoder is {self.encoder_!r}: use pickle"
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def torch_cat(Z: Tensor, ahead: Tensor) -> Tensor:
    import torch

    return torch.cat([Z.flatten(0, 1), ahead.flatten(0, 1)])


def _rng(seed: int) -> Any:
    return np.random.RandomState(seed)  # noqa: NPY002 (as scikit-learn draws)


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _check_steps(n_steps: Any) -> None:
    if isinstance(n_steps, bool) or not isinstance(n_steps, Integral) or n_steps < 1:
        raise ValueError(f"n_steps must be an integer of at least 1, got {n_steps!r}")
