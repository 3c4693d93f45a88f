"""The Bures-Wasserstein layer as its formulas are written: one decomposition for each root.

The form of the research code, for comparison: matrices in a Python loop, an SVD for each spectral
function (three for each matrix after the mean's own), divided differences in their gradients.
Written from the formulas.
"""

import torch


class _Root(torch.autograd.Function):
    """Square root of each matrix of a stack, one after the other."""

    @staticmethod
    def forward(ctx, X):
        parts = [torch.linalg.svd(x) for x in X]
        U = torch.stack([part[0] for part in parts])
        s = torch.stack([part[1] for part in parts])
        ctx.save_for_backward(U, s)
        return torch.stack([u @ w.sqrt().diag() @ u.mT for u, w in zip(U, s)])

    @staticmethod
    def backward(ctx, grad):
        U, s = ctx.saved_tensors
        out = []
        for u, w, g in zip(U, s, grad):
            g = 0.5 * (g + g.mT)
            r = w.sqrt()
            out.append(u @ ((u.mT @ g @ u) / (r[:, None] + r[None, :])) @ u.mT)
        return torch.stack(out)


def _root(x):
    return _Root.apply(x[None])[0]


def _transport(V, p, q, U):
    ratio = ((q[:, None] + q[None, :]) / (p[:, None] + p[None, :])).sqrt()
    return U @ (ratio * (U.mT @ V @ U)) @ U.mT


class StepwiseBW(torch.nn.Module):
    """Training mode of the layer, with a learnt metric, bias and scale.

    Parameters
    ----------
    n : int
        Rows of the matrices.
    eps : float
        Added to the variance.
    """

    def __init__(self, n, eps=1e-5):
        super().__init__()
        eye = torch.eye(n, dtype=torch.float64)
        # Equal eigenvalues would break the gradient of eigenvectors.
        apart = torch.arange(1, n + 1, dtype=torch.float64) * 1e-7
        self.bias = torch.nn.Parameter(eye + apart.diag())
        self.metric = torch.nn.Parameter(eye + apart.diag())
        self.scale = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
        self.register_buffer("running_mean", eye.clone())
        self.register_buffer("running_var", torch.ones((), dtype=torch.float64))
        self.eps = eps

    def forward(self, X):
        n = X.shape[-1]
        eye = torch.eye(n, dtype=X.dtype)
        half = _root(self.metric)
        inverse = torch.linalg.inv(half)
        Y = inverse @ X @ inverse
        G = inverse @ self.bias @ inverse
        with torch.no_grad():
            B = Y.mean(0)
            b_half = _root(B)
            b_inverse = torch.linalg.inv(b_half)
            S = _Root.apply(b_half @ Y @ b_half).mean(0)
            B = b_inverse @ S @ S @ b_inverse
            b, U = torch.linalg.eigh(B)
            b_half = U @ b.sqrt().diag() @ U.mT
            b_inverse = U @ b.rsqrt().diag() @ U.mT
            roots = _Root.apply(b_half @ Y @ b_half)
            traces = Y.diagonal(dim1=1, dim2=2).sum(1) + b.sum()
            var = (traces - 2 * roots.diagonal(dim1=1, dim2=2).sum(1)).mean()
            old = _root(self.running_mean)
            C = old @ _root(old @ B @ old) @ torch.linalg.inv(old)
            self.running_mean.copy_(0.81 * self.running_mean + 0.01 * B + 0.09 * (C + C.mT))
            self.running_var.mul_(0.9).add_(0.1 * var)
        one = torch.ones(n, dtype=X.dtype)
        C = b_half @ _Root.apply(b_half @ Y @ b_half) @ b_inverse  # first of three roots
        V = _transport(C + C.mT - 2 * B, b, one, U)
        centred = (eye + V / 2) @ (eye + V / 2)
        V = 2 * (_Root.apply(centred) - eye)  # second
        V = V * self.scale / (var + self.eps).sqrt()
        scaled = (eye + V / 2) @ (eye + V / 2)
        V = 2 * (_Root.apply(scaled) - eye)  # third
        g, W = torch.linalg.eigh(G)
        V = _transport(V, one, g, W)
        L = W @ ((W.mT @ V @ W) / (g[:, None] + g[None, :])) @ W.mT
        return half @ (G + V + L @ G @ L) @ half
