"""Cosines, and the optimisers that keep a few of them."""

import itertools

import numpy as np
import pytest
import scipy.fft

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.nn.optim import DCTAdamW, Trion, dct_select  # noqa: E402
from sklr.nn.optim._base import as_matrix, resolve_rank  # noqa: E402
from sklr.nn.optim._cosines import basis, columns, largest, transform  # noqa: E402
from sklr.nn.optim._trion import orthogonalised  # noqa: E402

CPU = torch.device("cpu")


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# The basis.


@pytest.mark.parametrize("n", [1, 2, 3, 8, 33, 96, 257])
def test_matrix_fast_transform_and_scipy_agree(n):
    Q = basis(n, torch.float64, CPU)
    torch.testing.assert_close(Q.T @ Q, torch.eye(n).double(), rtol=0, atol=1e-12)
    A = normal(5, n)
    wanted = torch.from_numpy(scipy.fft.dct(A.numpy(), axis=1, norm="ortho"))
    for how in ("matmul", "fft"):
        torch.testing.assert_close(transform(A, how), wanted, rtol=0, atol=1e-12)
    some = torch.tensor([0, n // 2, n - 1])
    assert torch.equal(columns(some, n, torch.float64), Q[:, some])


def test_no_other_columns_leave_less_than_the_largest():
    """Of all subsets, and at most 1 - r/n of a matrix is left."""
    G, n, r = normal(6, 8), 8, 3
    Q = basis(n, torch.float64, CPU)

    def left(idx):
        return float((G - G @ Q[:, idx] @ Q[:, idx].T).square().sum())

    g, idx = dct_select(G, r)
    torch.testing.assert_close(g, G @ Q[:, idx], rtol=0, atol=1e-13)
    assert idx.tolist() == sorted(idx.tolist()) and idx.dtype == torch.int64
    least = min(left(list(subset)) for subset in itertools.combinations(range(n), r))
    assert left(idx) == pytest.approx(least, rel=1e-12)
    dropped = (G @ Q).square().sum(0).sum() - g.square().sum()
    assert left(idx) == pytest.approx(float(dropped), rel=1e-10)
    assert left(idx) <= (1 - r / n) * float(G.square().sum())


def test_smooth_rows_are_caught_and_random_ones_of_low_rank_are_not():
    n, r = 96, 24
    t = (torch.arange(n).double() + 0.5) / n
    waves = torch.stack([torch.sin(2 * torch.pi * f * t + f) for f in (0.7, 1.6, 2.8, 4.1)])
    smooth = normal(64, 4) @ waves + 1e-3 * normal(64, n, seed=1)
    rough = normal(64, 4, seed=2) @ normal(4, n, seed=3)
    Q = basis(n, torch.float64, CPU)
    errors = []
    for G in (smooth, rough):
        g, idx = dct_select(G, r)
        errors.append(float((G - g @ Q[:, idx].T).norm() / G.norm()))
    assert errors[0] < 0.02 and errors[1] > 0.3


def test_ties_keep_the_former_choice_then_take_low_frequencies():
    zeros = torch.zeros(6)
    assert largest(zeros, 2).tolist() == [0, 1]
    assert largest(zeros, 2, torch.tensor([3, 5])).tolist() == [3, 5]
    scores = torch.tensor([0.0, 2.0, 0.0, 1.0, 0.0, 0.0])
    assert largest(scores, 3, torch.tensor([1, 4, 5])).tolist() == [1, 3, 4]


@pytest.mark.parametrize(
    "G, rank, norm, message",
    [
        (torch.zeros(3), 1, "l2", r"G must be a matrix .* got shape \(3,\)"),
        (torch.zeros(3, 3, dtype=torch.int64), 1, "l2", "real floating point numbers.*int64"),
        (torch.zeros(3, 3), 0, "l2", "rank must be from 1 to the 3 columns of G, got 0"),
        (torch.zeros(3, 3), 4, "l2", "got 4"),
        (torch.zeros(3, 3), 1, "l0", "norm must be one of l1, l2"),
        (torch.full((3, 3), torch.nan), 1, "l2", "G has NaN or infinity"),
    ],
)
def test_what_cannot_be_chosen_from_is_said(G, rank, norm, message):
    with pytest.raises(ValueError, match=message):
        dct_select(G, rank, norm)


def test_chosen_columns_have_gradients_and_other_types_are_refused():
    G = normal(5, 7).requires_grad_()
    g, idx = dct_select(G, 2, norm="l1")
    g.square().sum().backward()
    Q = basis(7, torch.float64, CPU)[:, idx]
    torch.testing.assert_close(G.grad, 2 * G.detach() @ Q @ Q.T)
    assert dct_select(G.detach().bfloat16(), 2)[0].dtype == torch.bfloat16
    with pytest.raises(TypeError, match=r"G must be a torch\.Tensor, got ndarray"):
        dct_select(np.ones((3, 3)), 1)
    with pytest.raises(TypeError, match="rank must be an integer"):
        dct_select(G, 1.0)


def test_shares_are_of_the_smaller_dimension_and_at_least_sixteen():
    sizes = {(200, 96): 24, (96, 200): 24, (64, 32, 3, 3): 16, (10, 64): None, (16, 16): None}
    for shape, wanted in sizes.items():
        assert resolve_rank(torch.empty(shape), 0.25) == wanted
    assert resolve_rank(torch.empty(10, 64), 4) == 4


# DCT-AdamW.


def descend(optimizer_of, shapes, n_steps=4, dtype=torch.float64):
    """Step parameters along gradients that are the same for every optimiser."""
    parameters = [nn.Parameter(normal(*s, seed=i, dtype=dtype)) for i, s in enumerate(shapes)]
    optimizer = optimizer_of(parameters)
    for t in range(n_steps):
        for i, p in enumerate(parameters):
            p.grad = normal(*p.shape, seed=100 * t + i, dtype=dtype)
        optimizer.step()
    return parameters, optimizer


def test_full_rank_vectors_and_tables_are_adamw_to_the_bit():
    shapes = [(8, 6), (6, 8), (5,), (40, 7), (3, 2, 2, 2)]
    options = {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.3}
    ours, _ = descend(lambda p: DCTAdamW(p, rank=8, max_dim=40, **options), shapes)
    theirs, _ = descend(lambda p: torch.optim.AdamW(p, **options), shapes)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs))


def written_out(p, gradients, lr, betas, eps, decay, rank, gap, feedback, rotate):
    """Return the method step by step, with whole matrices of rotation."""
    b1, b2 = betas
    n = p.shape[1]
    Q = basis(n, torch.float64, CPU)
    E, m, v, former = torch.zeros_like(p), 0.0, 0.0, None
    for t, G in enumerate(gradients, 1):
        p = (1 - lr * decay) * p
        A = G + E if feedback else G
        if former is None or t % gap == 0:
            idx = torch.sort(torch.topk((A @ Q).norm(dim=0), rank).indices).values
        if former is not None and rotate:
            R = Q[:, former].T @ Q[:, idx]
            m, v = m @ R, (v @ R).abs()
        former = idx
        a = A @ Q[:, idx]
        E = A - a @ Q[:, idx].T
        m, v = b1 * m + (1 - b1) * a, b2 * v + (1 - b2) * a**2
        step = (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
        p = p - lr * step @ Q[:, idx].T
    return p, E


@pytest.mark.parametrize("transform", ["matmul", "fft"])
@pytest.mark.parametrize("gap, feedback, rotate", [(1, True, True), (3, True, True),
                                                   (1, False, True), (2, True, False)])  # fmt: skip
def test_steps_are_those_of_the_paper_written_out(gap, feedback, rotate, transform):
    gradients = [normal(9, 6, seed=t) for t in range(7)]
    start = normal(9, 6, seed=50)
    options = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3}
    wanted, E = written_out(
        start, gradients, **options, decay=0.2, rank=2, gap=gap, feedback=feedback, rotate=rotate
    )
    for wide in (False, True):
        p = nn.Parameter(start.T.clone() if wide else start.clone())
        optimizer = DCTAdamW(
            [p], **options, weight_decay=0.2, rank=2, update_gap=gap, error_feedback=feedback,
            rotate=rotate, transform=transform,
        )  # fmt: skip
        for G in gradients:
            p.grad = G.T if wide else G
            optimizer.step()
        torch.testing.assert_close(as_matrix(p.detach()), wanted, rtol=0, atol=1e-10)
        if feedback:
            torch.testing.assert_close(
                as_matrix(optimizer.state[p]["error"]), E, rtol=0, atol=1e-10
            )


def test_nothing_of_the_gradients_is_lost():
    """What went through the columns and what waits in the buffer are all gradients so far."""
    p = nn.Parameter(torch.zeros(9, 6, dtype=torch.float64))
    # Without averages the step is the sign of what goes through, times its length here.
    optimizer = DCTAdamW([p], rank=2, betas=(0.0, 0.0), lr=1.0, eps=1e12, weight_decay=0.0)
    total = torch.zeros_like(p)
    for t in range(20):
        p.grad = normal(9, 6, seed=t)
        total += p.grad
        optimizer.step()
    through = -p.detach() * 1e12
    torch.testing.assert_close(through + optimizer.state[p]["error"], total, rtol=0, atol=1e-9)


def test_layouts_of_kernels_are_no_matter():
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        for cls in (DCTAdamW, Trion):
            p = nn.Parameter(normal(4, 3, 3, 3).contiguous(memory_format=layout))
            optimizer = cls([p], rank=2, lr=0.1)
            for t in range(3):
                p.grad = normal(4, 3, 3, 3, seed=t).contiguous(memory_format=layout)
                optimizer.step()
            found.append(p.detach().clone(memory_format=torch.contiguous_format))
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1], found[3], rtol=0, atol=1e-12)
    assert not torch.equal(found[0], normal(4, 3, 3, 3))


def test_memory_is_a_fraction_of_adamws():
    n, r = 64, 8
    _, plain = descend(lambda p: DCTAdamW(p, rank=r, error_feedback=False), [(n, n)])
    assert plain.state_bytes() == 8 * (2 * n * r) + 8 * r + 4 <= 0.35 * 2 * n * n * 8
    _, full = descend(lambda p: DCTAdamW(p, rank=r), [(n, n)])
    assert full.state_bytes() == plain.state_bytes() + 8 * n * n
    _, trion = descend(lambda p: Trion(p, rank=r), [(n, n)])
    assert trion.state_bytes() == n * n * 8


def test_rotation_carries_training():
    """The paper's ablation on a least squares problem with columns that change."""
    A, B = normal(60, 24), normal(24, 16, seed=1)
    losses = {}
    for rotate in (True, False):
        W = nn.Parameter(torch.zeros(24, 16, dtype=torch.float64))
        optimizer = DCTAdamW(
            [W], lr=0.05, rank=2, rotate=rotate, error_feedback=False, weight_decay=0.0
        )
        for _ in range(150):
            optimizer.zero_grad()
            loss = (A @ (W - B)).square().mean()
            loss.backward()
            optimizer.step()
        losses[rotate] = loss.item()
    assert losses[True] < 0.5 * losses[False]


# Trion.


def test_newton_schulz_carries_singular_values_to_one():
    X = normal(40, 6)
    s = torch.linalg.svdvals(orthogonalised(X, 5))
    assert float(s.min()) > 0.6 and float(s.max()) < 1.3
    U, _, Vh = torch.linalg.svd(X, full_matrices=False)
    torch.testing.assert_close(U.T @ orthogonalised(X, 5) @ Vh.T, torch.diag(s), rtol=0, atol=0.5)
    assert not orthogonalised(torch.zeros(4, 2), 5).any()


@pytest.mark.parametrize("shape", [(12, 8), (8, 12)])
def test_full_rank_is_muons_direction(shape):
    """The first step, without Nesterov's term: Muon's momentum begins as our own."""
    pytest.importorskip("torch.optim._muon", reason="this torch has no Muon")
    start = normal(*shape, seed=5, dtype=torch.float32)
    moves = []
    for optimizer_of in (
        lambda p: Trion([p], lr=0.1, rank=8),
        lambda p: torch.optim.Muon([p], lr=0.1, weight_decay=0.0, nesterov=False),
    ):
        p = nn.Parameter(start.clone())
        optimizer = optimizer_of(p)
        p.grad = normal(*shape, seed=6, dtype=torch.float32)
        optimizer.step()
        moves.append((p.detach() - start).reshape(-1))
    assert float(torch.cosine_similarity(*moves, dim=0)) > 0.99
    assert float(moves[0].norm() / moves[1].norm()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("wide", [False, True])
def test_trion_is_the_paper_written_out(wide):
    lr, mu, r = 0.1, 0.9, 2
    Q = basis(6, torch.float64, CPU)
    W, M = normal(9, 6, seed=50), torch.zeros(9, 6).double()
    p = nn.Parameter(W.T.clone() if wide else W.clone())
    optimizer = Trion([p], lr=lr, momentum=mu, weight_decay=0.3, rank=r, scale="dion")
    for t in range(5):
        G = normal(9, 6, seed=t)
        p.grad = G.T if wide else G
        optimizer.step()
        B = M + G
        idx = torch.sort(torch.topk((B @ Q).norm(dim=0), r).indices).values
        b = B @ Q[:, idx]
        M = B - (1 - mu) * b @ Q[:, idx].T
        scale = (6 / 9 if wide else 9 / 6) ** 0.5
        W = W * (1 - lr * 0.3) - lr * scale * orthogonalised(b, 5) @ Q[:, idx].T
    torch.testing.assert_close(as_matrix(p.detach()), W, rtol=0, atol=1e-10)


def test_steps_have_the_root_mean_square_that_is_said():
    for shape in ((40, 20), (20, 40)):
        for rank in (2, 8, 20):
            p = nn.Parameter(torch.zeros(shape))
            optimizer = Trion([p], lr=0.1, rank=rank, scale="rms")
            p.grad = normal(*shape, dtype=torch.float32)
            optimizer.step()
            found = float(p.detach().square().mean().sqrt())
            assert found == pytest.approx(0.02, rel=0.3)


def test_biases_follow_the_schedule_of_the_matrices():
    p = nn.Parameter(torch.zeros(3))
    optimizer = Trion([p], lr=0.02, aux_lr=0.1)
    optimizer.param_groups[0]["lr"] = 0.002
    p.grad = torch.ones(3)
    optimizer.step()
    torch.testing.assert_close(p.detach(), torch.full((3,), -0.01))
