"""Differentiable functions of SPD matrices: spectral functions, and the Bures-Wasserstein move.

Gradients of spectral functions are divided differences of eigenvalues. Each is written in a form
that needs no case distinction for equal eigenvalues (a quotient of hyperbolic sines, or of
roots), so that it is right there too, and near there.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sklr._torch._errors import DivergedError


def symmetrise(X: Tensor) -> Tensor:
    """Symmetric part of the last two axes."""
    return 0.5 * (X + X.mT)


def _pairs(w: Tensor) -> tuple[Tensor, Tensor]:
    return w[..., :, None], w[..., None, :]


def _sinh_ratio(p: Any, h: Tensor) -> Tensor:
    """Return sinh(p h) / sinh(h), with its limit p at zero."""
    zero = h == 0
    safe = torch.where(zero, 1.0, h)
    return torch.where(zero, p, torch.sinh(p * safe) / torch.sinh(safe))


def _root_sums(roots: Tensor) -> Tensor:
    """Inverse divided differences of the square root, from the roots of the eigenvalues."""
    a, b = _pairs(roots)
    return (a + b).clamp_min_(torch.finfo(roots.dtype).tiny ** 0.5)


def _power_slopes(w: Tensor, power: Tensor) -> Tensor:
    a, b = _pairs(w.log())
    return torch.exp((power - 1.0) * (a + b) / 2) * _sinh_ratio(power, (a - b) / 2)


def _log_slopes(w: Tensor) -> Tensor:
    a, b = _pairs(w.log())
    h = (a - b) / 2
    zero = h == 0
    safe = torch.where(zero, 1.0, h)
    return torch.exp(-(a + b) / 2) * torch.where(zero, 1.0, safe / torch.sinh(safe))


def _sinh_quotient(w: Tensor) -> Tensor:
    """Return sinh(h) / h of half differences h, with its limit 1 at zero."""
    a, b = _pairs(0.5 * w)
    h = a - b
    zero = h == 0
    safe = torch.where(zero, 1.0, h)
    return torch.where(zero, 1.0, torch.sinh(safe) / safe)


def _exp_slopes(w: Tensor) -> Tensor:
    a, b = _pairs(w)
    return torch.exp((a + b) / 2) * _sinh_quotient(w)


def _floor_slopes(w: Tensor, floor: float) -> Tensor:
    above = (w > floor).to(w.dtype)
    kept = torch.clamp_min(w, floor)
    (a, b), (x, y), (u, v) = _pairs(w), _pairs(kept), _pairs(above)
    same = u == v
    return torch.where(same, u, (x - y) / torch.where(same, 1.0, a - b))


def positive(w: Tensor) -> Tensor:
    """Eigenvalues with what rounding leaves of zero lifted above it."""
    return torch.maximum(w, w[..., -1:] * torch.finfo(w.dtype).eps * 1e-3).clamp_min(
        torch.finfo(w.dtype).tiny
    )


def _function_and_slopes(
    kind: str, floor: float | None
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return a function of eigenvalues, and its divided differences."""
    if kind == "exp":
        return torch.exp, _exp_slopes
    if floor is None:
        return lambda w: positive(w).log(), lambda w: _log_slopes(positive(w))
    if kind == "floor":
        return lambda w: w.clamp_min(floor), lambda w: _floor_slopes(w, floor)

    def slopes(w: Tensor) -> Tensor:  # of the logarithm of the matrix with eigenvalues floored
        return _log_slopes(w.clamp_min(floor)) * _floor_slopes(w, floor)

    return lambda w: w.clamp_min(floor).log(), slopes


class _Spectral(Function):
    """f(X) for symmetric X: one eigendecomposition forward, products backward.

    Eigenvalues and eigenvectors come out too, which transforms of ``torch.func`` want.
    """

    @staticmethod
    def forward(X, kind, floor):
        w, V = torch.linalg.eigh(X)
        values = _function_and_slopes(kind, floor)[0](w)
        return (V * values[..., None, :]) @ V.mT, w, V

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.kind, ctx.floor = inputs
        _, w, V = output
        ctx.mark_non_differentiable(w, V)
        ctx.save_for_backward(w, V)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _w, _V):
        w, V = ctx.saved_tensors
        inner = V.mT @ symmetrise(grad) @ V
        slopes = _function_and_slopes(ctx.kind, ctx.floor)[1]
        return V @ (slopes(w) * inner) @ V.mT, None, None

    @staticmethod
    def vmap(info, in_dims, X, kind, floor):
        return _Spectral.apply(X.movedim(in_dims[0], 0), kind, floor), (0, 0, 0)


class _Power(Function):
    """X ** p for SPD X, differentiable in the exponent too."""

    @staticmethod
    def forward(ctx, X, power, spectrum):
        w, V = torch.linalg.eigh(X) if spectrum is None else spectrum
        w = positive(w)
        values = w**power
        ctx.save_for_backward(w, V, values, power)
        return (V * values[..., None, :]) @ V.mT

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        w, V, values, power = ctx.saved_tensors
        inner = V.mT @ symmetrise(grad) @ V
        grad_power = None
        if ctx.needs_input_grad[1]:
            diagonal = inner.diagonal(dim1=-2, dim2=-1)
            grad_power = (diagonal * values * w.log()).sum().reshape(power.shape)
        return V @ (_power_slopes(w, power) * inner) @ V.mT, grad_power, None


def exporting() -> bool:
    """Return whether ``torch.export`` is at work, which takes no branches on numbers."""
    return getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)()


def spd_log(X: Tensor, floor: float | None = None, *, check: bool = False) -> Tensor:
    """Matrix logarithm; with `floor`, of the matrix whose eigenvalues are at least that."""
    Y, w, _ = _Spectral.apply(X, "log", floor)
    look = check and not torch.compiler.is_compiling()
    if look and not torch._C._are_functorch_transforms_active() and w.numel():
        lowest, highest = w[..., 0], w[..., -1]
        # Rounding of a computation in the type of the matrices leaves no more below zero.
        bad = lowest < -(torch.finfo(w.dtype).eps ** 0.5) * highest.abs()
        if bool(bad.any()):
            worst = int(bad.reshape(-1).int().argmax())
            raise DivergedError(
                f"matrix {worst} is indefinite (eigenvalues from "
                f"{float(lowest.reshape(-1)[worst]):.3g} to "
                f"{float(highest.reshape(-1)[worst]):.3g}) and has no logarithm",
                "give LogEig a floor, or SPD matrices",
            )
    return Y


def spd_floor(X: Tensor, floor: float) -> Tensor:
    """Lift eigenvalues below `floor` to it."""
    return _Spectral.apply(X, "floor", floor)[0]


def sym_exp(X: Tensor) -> Tensor:
    """Matrix exponential of symmetric matrices."""
    return _Spectral.apply(X, "exp", None)[0]


class _ExpPair(Function):
    """exp(A), exp(-A) and exp(B) of a stack (A, B) of two symmetric matrices, at one go."""

    @staticmethod
    def forward(ctx, X):
        w, V = torch.linalg.eigh(X)
        values = w.exp()
        ctx.save_for_backward(w, V)
        first, second = (V * values[:, None, :]) @ V.mT
        return first, (V[0] / values[0]) @ V[0].mT, second

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_first, grad_inverse, grad_second):
        w, V = ctx.saved_tensors
        ratio, (a, b) = _sinh_quotient(w), _pairs((0.5 * w).exp())
        means = a * b
        inner = (V.mT @ torch.stack((grad_first, grad_second)) @ V).mul_(ratio * means)
        inner[0] -= (ratio[0] / means[0]) * (V[0].mT @ grad_inverse @ V[0])
        return V @ symmetrise(inner) @ V.mT


def sym_exp_pair(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Exponentials of the first of two symmetric matrices, of its negative, and of the second."""
    return _ExpPair.apply(X)


def spd_power(X: Tensor, power: Tensor, spectrum: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Power of SPD matrices; `spectrum` saves the decomposition where it is known."""
    return _Power.apply(X, power, spectrum)


def _sum_of_products(S: Tensor, B: Tensor) -> Tensor:
    """Sum over a stack of S_k @ B_k with symmetric S_k: one product, no copy."""
    return S.reshape(-1, S.shape[-1]).mT @ B.reshape(-1, B.shape[-1])


class _CentredLog(Function):
    """Logarithm of P X P^T at a diagonal matrix, transported to the identity.

    With R the root of the sandwich ``diag(b)^1/2 P X P^T diag(b)^1/2`` the vector has entries
    R_ij sqrt(2 (b_i + b_j) / (b_i b_j)), and 2 sqrt(b_i) less on the diagonal.
    """

    @staticmethod
    def forward(ctx, X, P, b):
        left = b.sqrt()[:, None] * P
        half = left @ X
        w, V = torch.linalg.eigh(half @ left.mT)
        roots = w.clamp_min(0.0).sqrt()
        x, y = _pairs(b)
        weight = (2.0 * (x + y) / (x * y)).sqrt()
        out = ((V * roots[..., None, :]) @ V.mT).mul_(weight)
        out.diagonal(dim1=-2, dim2=-1).sub_(2.0 * b.sqrt())
        ctx.save_for_backward(roots, V, weight, left, half, b)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        roots, V, weight, left, half, b = ctx.saved_tensors
        # What comes from `exp_from_identity` is symmetric.
        inner = V.mT @ (grad * weight) @ V
        inner.div_(_root_sums(roots))
        sandwich = V @ inner @ V.mT
        grad_X = left.mT @ sandwich @ left if ctx.needs_input_grad[0] else None
        grad_P = None
        if ctx.needs_input_grad[1]:
            grad_P = b.sqrt()[:, None] * (2.0 * _sum_of_products(sandwich, half))
        return grad_X, grad_P, None


class _ExpFromIdentity(Function):
    """T exp_G(transport_{I -> G}(factor * U V U^T)) T^T, for symmetric V in another basis U.

    exp_G after the transport is (I + L) G (I + L), where L has the entries of the vector over
    sqrt(2 (g_i + g_j)) in G's eigenbasis. That is a function of G that depends on no choice of
    eigenvectors; its derivative has the divided differences

        phi(a, c) - phi(b, c) over a - b, with phi(a, c) = 1 / sqrt(2 (a + c)),

    written without a difference of equal numbers.
    """

    @staticmethod
    def forward(ctx, V, U, G, T, factor):
        g, basis = torch.linalg.eigh(G)
        turn = basis.mT @ U
        N = turn @ V @ turn.mT
        x, y = _pairs(g)
        phi = (2.0 * (x + y)).rsqrt()
        A = N * (factor * phi)
        A.diagonal(dim1=-2, dim2=-1).add_(1.0)
        frame = basis if T is None else T @ basis
        half = frame @ A * g.sqrt()
        ctx.save_for_backward(N, A, half, turn, basis, g, phi, frame, factor)
        ctx.mark_non_differentiable(A)
        return half @ half.mT, A

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):
        N, A, half, turn, basis, g, phi, frame, factor = ctx.saved_tensors
        _, _, need_G, need_T, need_factor = ctx.needs_input_grad
        grad = symmetrise(grad)
        Q = frame.mT @ grad @ frame
        QA = Q @ A
        grad_A = QA * g
        grad_A = grad_A + grad_A.mT
        weighted = grad_A * phi
        grad_V = (factor * turn).mT @ weighted @ turn if ctx.needs_input_grad[0] else None
        grad_factor = (weighted * N).sum().reshape(factor.shape) if need_factor else None
        grad_G = grad_T = None
        if need_G:
            direct = _sum_of_products(A, QA)
            # The divided difference is -phi(a, c) phi(b, c) / (r(a, c) + r(b, c)) with r the root
            # of the sum, times sqrt(2); t[j, i, k] is the sum over matrices of
            # (phi grad_A)[i, j] (phi N)[k, j], which are symmetric.
            t = torch.bmm(weighted.transpose(0, 1).mT, (N * phi).transpose(0, 1))
            root = (g[:, None] + g[None, :]).sqrt()
            t.div_(root[:, :, None] + root[:, None, :])
            inner = direct - (2.0 * 2.0**0.5) * factor * t.sum(dim=0)
            grad_G = basis @ symmetrise(inner) @ basis.mT
        if need_T:
            image = (half * g.sqrt()) @ A
            grad_T = 2.0 * _sum_of_products(grad, image) @ basis.mT
        return grad_V, None, grad_G, grad_T, grad_factor


def centred_log(X: Tensor, P: Tensor, b: Tensor) -> Tensor:
    """Return vectors at the identity of ``P X P^T`` (N, n, n), centred at ``diag(b)``."""
    return _CentredLog.apply(X, P, b)


def exp_from_identity(
    V: Tensor, U: Tensor, G: Tensor, T: Tensor | None, factor: Tensor
) -> tuple[Tensor, Tensor]:
    """Scale vectors `V` given in the basis `U`, take them to G, and map them to matrices.

    Also returns ``I + L``, positive definite where the map can be undone; no gradient goes
    through that.
    """
    return _ExpFromIdentity.apply(V, U, G, T, factor)
