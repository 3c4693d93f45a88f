"""Spectra with known answers: linear models, gauge directions, ranks, outliers, quadrature."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.landscape import (  # noqa: E402
    HessianOperator,
    HessianSpectrum,
    HessianSpectrumDisplay,
    lanczos,
    stochastic_lanczos_quadrature,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 6)) * np.arange(1, 7)


def perceptron(*widths, act=nn.Tanh, seed=0):
    torch.manual_seed(seed)
    layers = []
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1]).double()


def test_linear_regression_has_the_gram_matrix():
    """Mean squared error: H = 2/N X'X, for C outputs once each, over C."""
    model = LinearRegression(fit_intercept=False)
    wanted = 2 / 50 * X.T @ X
    found = HessianSpectrum(n_eigenvalues=3).fit(model.fit(X, X[:, 0]), X, X[:, 0])
    values = np.linalg.eigvalsh(wanted)[::-1]
    assert_allclose(found.eigenvalues_, values, rtol=1e-10)
    assert found.trace_ == pytest.approx(np.trace(wanted), rel=1e-12)
    assert found.frobenius_norm_ == pytest.approx(np.linalg.norm(wanted), rel=1e-12)
    Y = X[:, :2] + RNG.standard_normal((50, 2))
    H = HessianOperator(model.fit(X, Y), X, Y).to_dense()
    assert_allclose(H, np.kron(np.eye(2) / 2, wanted), atol=1e-12)
    ridge = Ridge(5.0, fit_intercept=False).fit(X, X[:, 0])
    with_penalty = HessianOperator(ridge, X, X[:, 0], weight_decay="model").to_dense()
    assert_allclose(with_penalty, wanted + 2 * 5 / 50 * np.eye(6), atol=1e-12)


def test_logistic_regression_has_its_textbook_hessian():
    y = (X[:, 0] + RNG.standard_normal(50) > 0).astype(int)
    model = LogisticRegression(fit_intercept=False, C=0.5).fit(X, y)
    p = model.predict_proba(X)[:, 1]
    wanted = X.T @ (X * (p * (1 - p))[:, None]) / 50
    assert_allclose(HessianOperator(model, X, y).to_dense(), wanted, atol=1e-13)
    found = HessianSpectrum(weight_decay="model").fit(model, X, y)
    assert_allclose(
        found.eigenvalues_, np.linalg.eigvalsh(wanted)[::-1] + 1 / (0.5 * 50), rtol=1e-10
    )
    assert found.negative_share_ == 0


def test_gauge_directions_are_in_the_null_space():
    network, y = perceptron(6, 5, 3), np.arange(50) % 3
    op = HessianOperator(network, X, y)
    same = np.zeros(op.n_parameters)
    same[op.parameter_slices["2.bias"]] = 1  # softmax does not see a constant
    assert np.abs(op @ same).max() < 1e-14
    # A ReLU network at a critical point: weights of one layer up, of the next down.
    data = X[:, :2] / 3
    targets = np.maximum(data @ [[1.0], [0.5]], 0)
    exact = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        exact[0].weight[:] = torch.tensor([[1.0, 0.5]])
        exact[2].weight[:] = 1.0
        exact[0].bias[:] = exact[2].bias[:] = 0.0
    op = HessianOperator(exact, data, targets)
    assert np.abs(op.gradient()).max() < 1e-14
    assert np.abs(op @ np.array([1.0, 0.5, 0, -1, 0])).max() < 1e-13
    assert_allclose(HessianOperator(exact, data, targets, curvature="residual").to_dense(), 0)


def test_gauss_newton_has_the_rank_of_samples_times_classes_less_one():
    network, y = perceptron(6, 8, 4), np.arange(5) % 4
    data = X[:5]
    found = HessianSpectrum(curvature="ggn").fit(network, data, y)
    assert found.n_parameters_ == 92
    assert (found.nodes_ > 1e-10).sum() == 5 * 3
    assert found.nodes_.min() > -1e-12
    parts = [HessianOperator(network, data, y, curvature=c).trace() for c in ("ggn", "residual")]
    whole = HessianOperator(network, data, y)
    assert sum(parts) == pytest.approx(whole.trace(), rel=1e-10)
    assert whole.trace(400, random_state=0) == pytest.approx(whole.trace(), rel=0.2)


def test_operator_is_one_of_scipy():
    network, y = perceptron(6, 5, 3), np.arange(50) % 3
    op = HessianOperator(network, X, y)
    H = op.to_dense()
    assert isinstance(op, LinearOperator) and op.shape == (53, 53) and op.dtype == np.float64
    assert_allclose(op @ np.eye(53)[:, :40], H[:, :40], atol=1e-14)
    assert_allclose(op.T @ np.ones(53), H.sum(0), atol=1e-13)
    assert_allclose(op.diagonal(), np.diag(H), atol=1e-14)
    wanted = np.linalg.eigvalsh(H)[-3:]
    assert_allclose(eigsh(op, 3, which="LA", return_eigenvectors=False), wanted, rtol=1e-9)
    shifted = HessianOperator(network, X, y, weight_decay=0.7)
    assert_allclose(shifted.to_dense(), H + 0.7 * np.eye(53), atol=1e-14)
    small = HessianOperator(network, X, y, dtype="float32")
    assert small.dtype == np.float32
    assert_allclose(small.to_dense(), H, atol=1e-5)


def spiked(n=300, seed=0):
    rng = np.random.default_rng(seed)
    values = np.r_[-3, rng.uniform(-0.1, 0.1, n - 5), 10, 10, 7, 5]
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return (Q * values) @ Q.T, np.sort(values)


def test_lanczos_finds_both_ends_without_ghosts():
    A, values = spiked()
    A = A + 1e-3 * np.diag(np.linspace(0, 1, 300))  # the double eigenvalue splits
    values = np.linalg.eigvalsh(A)
    for n_steps in (None, 100, 300):
        found = lanczos(A, 6, which="both", n_steps=n_steps, tol=1e-8, random_state=0)
        assert found.n_steps >= (n_steps or 0)
        top = found.eigenvalues[found.eigenvalues > 0.2]
        assert_allclose(top, values[::-1][:4], atol=1e-9)  # each once
        assert found.eigenvalues[-1] == pytest.approx(values[0], abs=1e-9)
        gram = found.eigenvectors @ found.eigenvectors.T
        assert_allclose(gram, np.eye(len(gram)), atol=1e-10)
        true = np.linalg.norm(
            A @ found.eigenvectors.T - found.eigenvectors.T * found.eigenvalues, axis=0
        )
        assert (true <= found.residuals + 1e-12).all()


def test_lanczos_on_few_distinct_eigenvalues_finds_all_of_them():
    A = np.diag([4.0, 4, 4, 1, 1, 0])
    found = lanczos(A, 6, random_state=0)
    assert_allclose(found.eigenvalues, [4, 4, 4, 1, 1, 0], atol=1e-12)
    assert lanczos(np.zeros((4, 4)), 2, random_state=0).eigenvalues.tolist() == [0, 0]


def test_lanczos_says_what_has_not_converged_and_refuses_nonsense():
    A, _ = spiked()
    with pytest.warns(ConvergenceWarning, match=r"lanczos: \d+ of 8 eigenpairs .* after 10 steps"):
        lanczos(A, 8, n_steps=10, random_state=0)
    for args, message in (
        ({"n_eigenvalues": 301}, "from 1 to 300"),
        ({"which": "LA"}, "which must be"),
        ({"n_steps": 0}, "n_steps must be"),
    ):
        with pytest.raises(ValueError, match=message):
            lanczos(A, **args)
    with pytest.raises(ValueError, match="square"):
        lanczos(A[:5])
    with pytest.raises(ValueError, match="not finite"):
        lanczos(np.full((3, 3), np.nan), 1)


def test_quadrature_has_the_moments_of_the_spectrum():
    A, values = spiked()
    n = len(A)
    nodes, weights = stochastic_lanczos_quadrature(A, n_probes=40, n_steps=25, random_state=0)
    assert_allclose(weights.sum(axis=1), 1)
    for power in (1, 2, 3):
        moments = n * (weights * nodes**power).sum(axis=1)
        error = moments.std(ddof=1) / 40**0.5
        assert abs(moments.mean() - (values**power).sum()) < 4 * error
    U = np.linalg.eigh(A)[1].T[[0, -1, -2, -3, -4]]
    nodes, weights = stochastic_lanczos_quadrature(A, n_probes=40, deflate=U, random_state=0)
    assert np.abs(nodes).max() < 0.1 + 1e-9
    traces = (n - 5) * (nodes * weights).sum(axis=1) + 29
    assert traces.std() < moments.std() / 20
    assert abs(traces.mean() - values.sum()) < 4 * traces.std() / 40**0.5
    with pytest.raises(ValueError, match=r"deflate must have shape \(k, 300\)"):
        stochastic_lanczos_quadrature(A, deflate=U[:, :9])


def test_methods_agree():
    network, y = perceptron(6, 20, 3), np.arange(50) % 3
    exact = HessianSpectrum("exact", n_eigenvalues=4).fit(network, X / 3, y)
    for method in ("lanczos", "slq"):
        found = HessianSpectrum(method, n_eigenvalues=4, random_state=0).fit(network, X / 3, y)
        assert_allclose(found.eigenvalues_, exact.eigenvalues_, rtol=1e-7, atol=1e-9)
        assert_allclose(np.abs((found.eigenvectors_ * exact.eigenvectors_).sum(1)), 1, atol=1e-6)
        assert found.n_outliers_ == exact.n_outliers_
    assert abs(found.trace_ - exact.trace_) < 5 * found.trace_std_ + 1e-6
    assert found.frobenius_norm_ == pytest.approx(exact.frobenius_norm_, rel=0.1)  # ten probes
    assert found.negative_share_ == pytest.approx(exact.negative_share_, abs=0.05)
    again = HessianSpectrum(n_eigenvalues=200).fit(network, X / 3, y)
    assert_allclose(again.eigenvalues_, again.nodes_[::-1])


def test_density_integrates_to_one():
    network, y = perceptron(6, 5, 3), np.arange(50) % 3
    found = HessianSpectrum().fit(network, X, y)
    for scale, there in (
        ("linear", lambda v: v),
        (
            "symlog",
            lambda v: np.sign(v) * np.log10(1 + np.abs(v) / (1e-4 * np.abs(found.nodes_).max())),
        ),
    ):
        grid, density = found.density(scale=scale)
        assert np.trapezoid(density, there(grid)) == pytest.approx(1, abs=0.01)
    assert found.density([0.0, 1.0])[1].shape == (2,)
    with pytest.raises(ValueError, match="scale must be"):
        found.density(scale="log")
    with pytest.raises(ValueError, match="knows no density"):
        HessianSpectrum("lanczos").fit(network, X, y).density()
    with pytest.raises(NotFittedError):
        HessianSpectrum().density()


def clusters(k, width, seed):
    """The small version of the paper's experiment: overlapping clusters, a hundred steps."""
    rng = np.random.default_rng(seed)
    means = np.linalg.qr(rng.standard_normal((20, 20)))[0][:k] * 0.5 * 20**0.5
    y = np.arange(2000) % k
    data = means[y] + rng.standard_normal((2000, 20))
    network = perceptron(20, width, k, seed=seed)
    step = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    X, t = torch.from_numpy(data), torch.from_numpy(y)
    for _ in range(100):
        step.zero_grad()
        nn.functional.cross_entropy(network(X), t).backward()
        step.step()
    return network, data, y


@pytest.mark.parametrize("k", [2, 5])
def test_outliers_are_one_less_than_the_classes(k):
    """Sagun et al.: the outliers carry the classes (overlapping clusters, few steps)."""
    network, data, y = clusters(k, 10, seed=0)
    found = HessianSpectrum("lanczos", which="largest", random_state=0).fit(network, data, y)
    assert found.n_outliers_ == k - 1
    assert found.outlier_gap_ > 1.4


def test_sharpness_falls_with_weight_scale_for_a_model_of_scikit_learn():
    y = np.array(["a", "b"])[(X[:, 0] > 0).astype(int)]
    model = MLPClassifier((4,), solver="lbfgs", alpha=1.0, random_state=0, max_iter=2000).fit(X, y)
    found = HessianSpectrum(weight_decay="model").fit(model, X, y)
    assert found.n_parameters_ == 33 and found.eigenvalues_[0] > 0
    assert found.loss_ < 0.5


def test_refusals():
    network, y = perceptron(6, 5, 3), np.arange(50) % 3
    for params, message in (
        ({"method": "slq", "n_eigenvalues": 54}, "n_eigenvalues=54, and the network has 53"),
        ({"weight_decay": "model"}, "is for models of scikit-learn"),
        ({"loss": lambda o, t: o.sum()}, "loss must return the loss of each of the"),
    ):
        with pytest.raises(ValueError, match=message):
            HessianSpectrum(**params).fit(network, X, y)
    with pytest.raises(ValueError, match="GiB for the matrix of 30003 parameters"):
        HessianSpectrum("exact").fit(perceptron(10000, 3), np.zeros((2, 10000)), [0, 1])
    with pytest.raises(NotFittedError):
        HessianSpectrum().fit(MLPClassifier(), X, y)
    with pytest.raises(TypeError, match="HessianSpectrum takes a torch.nn.Module first"):
        HessianSpectrum().fit("network", X, y)
    for params, message in (
        ({"curvature": "gauss"}, "curvature must be one of"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"dtype": "half"}, "dtype must be"),
        ({"batch_size": 0}, "batch_size must be"),
    ):
        with pytest.raises(ValueError, match=message):
            HessianOperator(network, X, y, **params)


def test_display_draws():
    pytest.importorskip("matplotlib")
    network, y = perceptron(6, 5, 3), np.arange(50) % 3
    found = HessianSpectrum().fit(network, X, y)
    display = HessianSpectrumDisplay.from_estimator(found, label="trained")
    assert display.ax_.get_yscale() == "log" and display.ax_.get_xscale() == "symlog"
    assert display.line_.get_label() == "trained"
    again = display.plot(ax=display.ax_)
    assert again.figure_ is display.figure_


@pytest.mark.parametrize(
    "params, share",
    [
        ({"l1_ratio": 1.0, "solver": "saga"}, 0.0),
        ({"l1_ratio": 0.25, "solver": "saga"}, 0.75),
        ({"solver": "liblinear"}, 1.0),
        ({"C": np.inf}, 0.0),
    ],
)
def test_the_penalty_of_a_logistic_regression_is_its_own(params, share):
    X, y = np.random.default_rng(0).standard_normal((40, 2)), np.arange(40) % 2
    model = LogisticRegression(**{"C": 0.5, "max_iter": 5000, **params}).fit(X, y)
    plain = HessianOperator(model, X, y).to_dense()
    added = np.diag(HessianOperator(model, X, y, weight_decay="model").to_dense() - plain)
    with_bias = share if params.get("solver") == "liblinear" else 0.0
    assert_allclose(added, np.array([share, share, with_bias]) / 0.5 / 40, atol=1e-12)


@pytest.mark.parametrize("class_weight", ["balanced", {"a": 5.0, "b": 0.5}])
def test_weights_of_classes_are_in_the_loss(class_weight):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 3)), np.where(np.arange(60) % 4, "b", "a")
    model = LogisticRegression(class_weight=class_weight, tol=1e-10).fit(X, y)
    found = HessianSpectrum().fit(model, X, y)
    # At the solution the gradient of the loss is what the penalty pulls.
    assert_allclose(found.gradient_norm_, np.linalg.norm(model.coef_) / 60, rtol=1e-5)
