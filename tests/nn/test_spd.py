"""SPD layers: gradients also where eigenvalues are equal, and the official formulas as oracle."""

import math
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch.autograd import gradcheck  # noqa: E402

from sklr.covariance import BuresWassersteinScaler  # noqa: E402
from sklr.geometry import bw_distance, bw_mean, mean_riemann, tangent_space  # noqa: E402
from sklr.nn import BiMap, LogEig, ReEig, SPDBatchNormAI, SPDBatchNormBW  # noqa: E402
from sklr.nn._spd import _functional as F  # noqa: E402

CLOSE = {"rtol": 1e-11, "atol": 1e-11}


def spd(n=8, d=5, seed=0):
    A = np.random.default_rng(seed).standard_normal((n, d, 3 * d))
    return torch.tensor(A @ A.transpose(0, 2, 1) / (3 * d))


def with_repeated(n=3, d=5, seed=0):
    """Matrices with an eigenvalue of multiplicity three."""
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, d, d)))[0]
    return torch.tensor((Q * np.array([0.5, 2.0, 2.0, 2.0, 3.0])) @ Q.transpose(0, 2, 1))


def learnt(layer, seed=0, size=0.3):
    """Move the parameters away from their start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(size * noise)
    return layer


def root(X):
    w, V = torch.linalg.eigh(X)
    return (V * w.clamp_min(0).sqrt()[..., None, :]) @ V.mT


def power(X, p):
    w, V = torch.linalg.eigh(X)
    return (V * (w**p)[..., None, :]) @ V.mT


def official(X, layer):
    """The layer as its formulas are written: log, transports, roots of squares, exp."""
    n, theta = layer.n, layer.power
    eye = torch.eye(n, dtype=X.dtype)
    M = eye if layer.metric is None else layer.metric
    half, inverse = root(M), torch.linalg.inv(root(M))
    Y = inverse @ power(X, theta) @ inverse
    G = inverse @ power(layer.bias, theta) @ inverse
    with torch.no_grad():
        B = Y.mean(0)
        b_half = root(B)
        b_inverse = torch.linalg.inv(b_half)
        S = root(b_half @ Y @ b_half).mean(0)
        B = b_inverse @ S @ S @ b_inverse
        b_half = root(B)
        b_inverse = torch.linalg.inv(b_half)
        traces = (Y.diagonal(dim1=1, dim2=2).sum(1) + B.trace()) - 2 * root(
            b_half @ Y @ b_half
        ).diagonal(dim1=1, dim2=2).sum(1)
        var = traces.mean() / theta**2

    def transport(V, P, Q, U):
        """From P to Q, which commute and have the eigenvectors U."""
        p, q = ((U.mT @ A @ U).diagonal() for A in (P, Q))
        ratio = ((q[:, None] + q) / (p[:, None] + p)).sqrt()
        return U @ (ratio * (U.mT @ V @ U)) @ U.mT

    C = b_half @ root(b_half @ Y @ b_half) @ b_inverse
    V = transport(C + C.mT - 2 * B, B, eye, torch.linalg.eigh(B)[1])
    V = V * layer.scale / (var + layer.eps).sqrt()
    g, U = torch.linalg.eigh(G)
    V = transport(V, eye, G, U)
    L = U @ ((U.mT @ V @ U) / (g[:, None] + g)) @ U.mT
    return power(half @ (G + V + L @ G @ L) @ half, 1 / theta)


@pytest.mark.parametrize("make", [spd, with_repeated], ids=["distinct", "repeated"])
@pytest.mark.parametrize(
    "function",
    [
        F.spd_log,
        F.sym_exp,
        lambda X: F.spd_log(X, 0.7),
        lambda X: F.spd_floor(X, 0.7),
    ],
    ids=["log", "exp", "floored log", "floor"],
)
def test_gradients_of_spectral_functions(make, function):
    X = make(3).requires_grad_()
    assert gradcheck(lambda X: function(F.symmetrise(X)), X)


def test_exponentials_of_a_pair():
    A, B = spd(2)
    repeated = torch.stack((with_repeated(1)[0], torch.zeros(5, 5, dtype=torch.float64)))
    for X in (torch.stack((A, B)), repeated):
        X.requires_grad_()
        found = F.sym_exp_pair(F.symmetrise(X))
        wanted = [torch.matrix_exp(part) for part in (X[0], -X[0], X[1])]
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
        assert gradcheck(lambda X: F.sym_exp_pair(F.symmetrise(X)), X)


@pytest.mark.parametrize("make", [spd, with_repeated], ids=["distinct", "repeated"])
def test_gradients_of_the_power(make):
    X = make(3).requires_grad_()
    p = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda X, p: F.spd_power(F.symmetrise(X), p), (X, p))


@pytest.mark.parametrize("make", [spd, with_repeated], ids=["distinct", "repeated"])
def test_gradients_of_the_centred_log(make):
    b, U = torch.linalg.eigh(spd(1, seed=4)[0])
    P = (U.mT @ spd(1, seed=5)[0]).requires_grad_()
    assert gradcheck(
        lambda X, P: F.symmetrise(F.centred_log(F.symmetrise(X), P, b)),
        (make(3).requires_grad_(), P),
    )
    # The sandwich itself with an eigenvalue three times.
    eye = torch.eye(5, dtype=torch.float64)
    one = torch.ones(5, dtype=torch.float64)
    assert gradcheck(lambda X: F.centred_log(F.symmetrise(X), eye, one), make(3).requires_grad_())


@pytest.mark.parametrize("G", [spd(1)[0], with_repeated(1)[0], torch.eye(5).double()])
def test_gradients_of_the_move_from_the_identity(G):
    """Also where all eigenvalues of G are equal, as at the start of training."""
    V, U = 0.2 * spd(3, seed=2), torch.linalg.eigh(spd(1, seed=4)[0])[1]
    T, factor = spd(1, seed=5)[0], torch.tensor(0.7, dtype=torch.float64)
    inputs = tuple(x.clone().requires_grad_() for x in (V, G, T, factor))

    def call(V, G, T, factor):
        return F.exp_from_identity(F.symmetrise(V), U, F.symmetrise(G), T, factor)[0]

    assert gradcheck(call, inputs)


@pytest.mark.parametrize("make", [spd, with_repeated], ids=["distinct", "repeated"])
@pytest.mark.parametrize("theta", [1.0, 0.6])
def test_gradients_of_the_layer(make, theta):
    """In evaluation mode and without a metric, as no gradient goes through the centre."""
    layer = SPDBatchNormBW(5, power=theta, learn_metric=False)
    layer(spd(9, seed=1))
    layer.eval()
    names, values = zip(*layer.named_parameters())

    def call(X, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters)), (F.symmetrise(X),))

    assert gradcheck(call, (make(3).requires_grad_(), *values))


@pytest.mark.parametrize("make", [spd, with_repeated], ids=["distinct", "repeated"])
def test_gradients_of_the_affine_invariant_layer(make):
    layer = SPDBatchNormAI(5)
    layer(spd(9, seed=1))
    layer.eval()
    names, values = zip(*layer.named_parameters())

    def call(X, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters)), (F.symmetrise(X),))

    assert gradcheck(call, (make(3).requires_grad_(), *values))


@pytest.mark.parametrize("theta", [1.0, 0.5])
@pytest.mark.parametrize("learn_metric", [False, True])
def test_fused_layer_is_the_official_one(theta, learn_metric):
    layer = learnt(SPDBatchNormBW(5, power=theta, learn_metric=learn_metric))
    X, Y = spd(12).requires_grad_(), spd(12).requires_grad_()
    weights = spd(12, seed=3)
    fused, written = layer(X), official(Y, layer)
    torch.testing.assert_close(fused, written, rtol=1e-12, atol=1e-12)
    # Distinct eigenvalues: autograd through eigh is right for the written form.
    got = torch.autograd.grad((fused * weights).sum(), [X, *layer.parameters()])
    wanted = torch.autograd.grad((written * weights).sum(), [Y, *layer.parameters()])
    for a, b in zip(got, wanted):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("theta", [1.0, 0.5])
@pytest.mark.parametrize("learn_metric", [False, True])
def test_output_has_exactly_the_bias_as_mean_and_the_scale_as_deviation(theta, learn_metric):
    layer = learnt(SPDBatchNormBW(5, power=theta, learn_metric=learn_metric, mean_iter=60, eps=0.0))
    with torch.no_grad():
        layer.log_scale.fill_(math.log(0.2))
        Z = layer(spd(20)).numpy()
        assert layer.n_folded == 0
        settings = {"power": theta}
        if learn_metric:
            settings["metric"] = layer.metric.numpy()
        bias = layer.bias.numpy()
    np.testing.assert_allclose(bw_mean(Z, **settings), bias, atol=1e-9)
    var = bw_distance(Z, bias, squared=True, **settings).mean()
    assert var == pytest.approx(0.04, rel=1e-8)


def test_variance_of_the_papers_code_does_not_normalise():
    layer = SPDBatchNormBW(5, mean_iter=60, eps=0.0, variance="identity", learn_metric=False)
    X = spd(20)
    Z = layer(X).detach().numpy()
    var = bw_distance(Z, np.eye(5), squared=True).mean()
    assert abs(var - 1.0) > 0.05
    assert float(layer.running_var) == pytest.approx(
        bw_distance(X.numpy(), np.eye(5), squared=True).mean()
    )


@pytest.mark.parametrize("theta", [1.0, 0.5])
def test_layer_and_scaler_agree(theta):
    X = spd(20)
    layer = learnt(SPDBatchNormBW(5, power=theta, mean_iter=80, eps=0.0))
    with torch.no_grad():
        Z = layer(X).numpy()
        scaler = BuresWassersteinScaler(
            metric=layer.metric.numpy(),
            bias=layer.bias.numpy(),
            scale=float(layer.scale),
            power=theta,
            tol=1e-14,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 1e-14 may be below what rounding allows
        wanted = scaler.fit_transform(X.numpy())
    np.testing.assert_allclose(Z, wanted, atol=1e-12)
    np.testing.assert_allclose(layer.running_mean, scaler.mean_, atol=1e-12)
    assert float(layer.running_var) == pytest.approx(scaler.var_, rel=1e-12)


@pytest.mark.parametrize(
    "layer", [SPDBatchNormBW(5, momentum=1.0), SPDBatchNormAI(5, momentum=1.0)]
)
def test_training_and_evaluation_agree_on_one_whole_batch(layer):
    X = spd(20)
    trained = learnt(layer)(X)
    torch.testing.assert_close(layer.eval()(X), trained, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("cls", [SPDBatchNormBW, SPDBatchNormAI])
def test_statistics_are_buffers(cls):
    layer = learnt(cls(5))
    for seed in range(3):
        layer(spd(10, seed=seed))
    other = cls(5)
    other.load_state_dict(layer.state_dict())
    X = spd(4)
    assert torch.equal(other.eval()(X), layer.eval()(X))
    assert layer.to(torch.float32).running_mean.dtype == torch.float32
    out = layer(X.float())
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), other(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cls", [SPDBatchNormBW, SPDBatchNormAI])
def test_first_batches_are_averaged(cls):
    """After two batches that are scaled copies the identity at the start is forgotten."""
    layer, X = cls(5), spd(10)
    for size in (4.0, 9.0):
        layer(size * X)
    mean = (bw_mean if cls is SPDBatchNormBW else mean_riemann)(X.numpy())
    middle = 2.5**2 if cls is SPDBatchNormBW else 6.0
    np.testing.assert_allclose(layer.running_mean, middle * mean, rtol=0.02, atol=1e-2)


@pytest.mark.parametrize("cls", [SPDBatchNormBW, SPDBatchNormAI])
def test_rotations_commute_with_the_layer_and_channels_share_statistics(cls):
    X = spd(12)
    Q = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    torch.testing.assert_close(cls(5)(Q @ X @ Q.mT), Q @ cls(5)(X) @ Q.mT, **CLOSE)
    torch.testing.assert_close(cls(5)(X.reshape(4, 3, 5, 5)).reshape(12, 5, 5), cls(5)(X), **CLOSE)


def test_one_by_one_matrices():
    x = torch.rand(40, dtype=torch.float64) * 8 + 1
    layer = SPDBatchNormBW(1, eps=0.0, learn_metric=False)
    with torch.no_grad():
        layer.log_scale.fill_(math.log(0.3))
    r = x.sqrt()
    wanted = (1 + 0.3 * (r - r.mean()) / r.std(correction=0)) ** 2
    torch.testing.assert_close(layer(x[:, None, None])[:, 0, 0], wanted, **CLOSE)


def test_affine_invariant_layer_whitens_to_unit_deviation():
    layer = SPDBatchNormAI(5, eps=0.0, mean_iter=40)
    Z = layer(spd(20)).detach().numpy()
    np.testing.assert_allclose(mean_riemann(Z), np.eye(5), atol=1e-8)
    vectors = tangent_space(Z, np.eye(5))
    assert (vectors**2).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-8)


def test_folded_matrices_are_counted_and_results_stay_semidefinite():
    layer = SPDBatchNormBW(5)
    with torch.no_grad():
        layer.log_scale.fill_(math.log(20.0))
    Z = layer(spd(20))
    assert layer.n_folded > 0
    assert float(torch.linalg.eigvalsh(Z).min().detach()) > -1e-9


def test_bimap_stays_on_the_manifold_and_learns_the_leading_subspace():
    torch.manual_seed(0)
    layer = BiMap(6, 2, dtype=torch.float64)
    C = torch.diag(torch.tensor([9.0, 4.0, 1.0, 0.5, 0.2, 0.1], dtype=torch.float64))
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(200):
        loss = -layer(C).trace()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(layer(C).trace().detach()) == pytest.approx(13.0, rel=1e-3)
    W = layer.weight.detach()
    torch.testing.assert_close(W @ W.mT, torch.eye(2, dtype=torch.float64), **CLOSE)


def test_logeig_is_the_tangent_space_at_the_identity():
    X = spd(6)
    got = LogEig(vectorize=True)(X).numpy()
    np.testing.assert_allclose(got, tangent_space(X.numpy(), np.eye(5)), atol=1e-12)
    both = LogEig()(ReEig(0.7)(X))
    torch.testing.assert_close(LogEig(0.7)(X), both, **CLOSE)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: BiMap(3, 4), "out_features must be from 1 to in_features=3, got 4"),
        (lambda: ReEig(0.0), "floor must be above 0"),
        (lambda: LogEig(-1.0), "floor must be above 0"),
        (lambda: SPDBatchNormBW(3, momentum=0.0), "momentum"),
        (lambda: SPDBatchNormBW(3, power=0.0), "power"),
        (lambda: SPDBatchNormBW(3, variance="no"), "variance"),
        (lambda: SPDBatchNormAI(3, eps=-1.0), "eps"),
        (lambda: SPDBatchNormAI(3, mean_iter=0), "mean_iter"),
        (lambda: SPDBatchNormBW(3)(spd(4)), r"shape \(..., 3, 3\), got \(4, 5, 5\)"),
        (lambda: SPDBatchNormBW(5)(spd(1)), "more than 1 matrix"),
        (lambda: SPDBatchNormBW(5)(torch.zeros(4, 5, 5)), "singular"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
