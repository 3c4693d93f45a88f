"""Batch normalisation of SPD matrices, Bures-Wasserstein and affine-invariant."""

import math

import torch
from torch import Tensor, nn

from sklr._torch._errors import DivergedError
from sklr.nn._spd._functional import (
    centred_log,
    exp_from_identity,
    exporting,
    positive,
    spd_log,
    spd_power,
    sym_exp,
    sym_exp_pair,
    symmetrise,
)

VARIANCES = ("frechet", "identity")


class _SPDBatchNorm(nn.Module):
    """What both metrics share: statistics, learnt scale and bias, shapes, checks."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, n, momentum, eps, mean_iter, device, dtype):
        super().__init__()
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must be within (0, 1], got {momentum}")
        if not eps >= 0:
            raise ValueError(f"eps must be at least 0, got {eps}")
        if mean_iter < 1:
            raise ValueError(f"mean_iter must be at least 1, got {mean_iter}")
        self.n, self.momentum, self.eps, self.mean_iter = n, momentum, eps, mean_iter
        made = {"device": device, "dtype": torch.float64 if dtype is None else dtype}
        self.register_buffer("running_mean", torch.eye(n, **made))
        # Not a tensor without axes: torch.compile loses changes of such in double precision.
        self.register_buffer("running_var", torch.ones(1, **made))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))
        self.log_bias = nn.Parameter(torch.zeros(n, n, **made))
        self.log_scale = nn.Parameter(torch.zeros((), **made))

    @property
    def bias(self) -> Tensor:
        """The SPD matrix that batches are moved to."""
        return sym_exp(symmetrise(self.log_bias.double()))

    @property
    def scale(self) -> Tensor:
        """The standard deviation that batches are given."""
        return self.log_scale.double().exp()

    def forward(self, X: Tensor) -> Tensor:
        """Normalise the matrices.

        Parameters
        ----------
        X : Tensor of shape (..., n, n)
            SPD matrices; all leading axes together are the batch.

        Returns
        -------
        Y : Tensor of shape (..., n, n)
            Normalised matrices, in the type of `X`.
        """
        if X.ndim < 3 or X.shape[-2:] != (self.n, self.n):
            raise ValueError(
                f"expected matrices of shape (..., {self.n}, {self.n}), got {tuple(X.shape)}"
            )
        # Inverse roots and a condition of 1e6 need double precision.
        flat = X.reshape(-1, self.n, self.n).double()
        if self.training and len(flat) < 2:
            raise ValueError("expected more than 1 matrix when training: one has no variance")
        return self._normalise(flat).reshape(X.shape).to(X.dtype)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        # Files of former versions have a variance without axes.
        former = state_dict.get(f"{prefix}running_var")
        if former is not None and former.ndim == 0:
            state_dict = {**state_dict, f"{prefix}running_var": former.reshape(1)}
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _weight_of_batch(self) -> float:
        # The first batches are averaged: the identity that the mean starts from means nothing.
        self.num_batches_tracked += 1
        return max(self.momentum, 1.0 / int(self.num_batches_tracked))

    def _factor(self, var: Tensor) -> Tensor:
        return self.scale / (var + self.eps).sqrt()

    def extra_repr(self):
        """Return what ``repr`` shows in the parentheses.

        Returns
        -------
        text : str
            The parameters.
        """
        return f"{self.n}, momentum={self.momentum}, eps={self.eps}, mean_iter={self.mean_iter}"


class SPDBatchNormBW(_SPDBatchNorm):
    r"""Batch normalisation of SPD matrices under the Bures-Wasserstein metric.

    Centres a batch at its barycentre, divides its tangent vectors by the root of its Frechet
    variance, multiplies them by a learnt scale, and moves them to a learnt SPD bias. The metric is
    the generalised one, with a learnt SPD matrix M, of powers of the matrices.

    Parameters
    ----------
    n : int
        Rows of the matrices.
    momentum : float, default=0.1
        Weight of a batch in the running statistics. The first ``1 / momentum`` batches are
        averaged.
    eps : float, default=1e-5
        Added to the variance.
    power : float, default=1.0
        Exponent of the deformation.
    learn_metric : bool, default=True
        Whether M is learnt. If not it is the identity, the plain metric.
    learn_power : bool, default=False
        Whether the exponent is learnt.
    mean_iter : int, default=1
        Steps of the fixed point for the mean of a batch, from the arithmetic mean.
    variance : {"frechet", "identity"}, default="frechet"
        The mean squared distance from the mean, or, as in the paper's code, from the identity;
        only the first gives the results the variance that was asked for.
    device : torch.device, default=None
        Where parameters and buffers are made.
    dtype : torch.dtype, default=None
        Their type, by default double. The layer computes in double anyway, and returns what it
        was given.

    Attributes
    ----------
    running_mean : Tensor of shape (n, n)
        Running barycentre, a buffer, in the space of the inputs.
    running_var : Tensor of shape (1,)
        Running variance, a buffer.
    bias : Tensor of shape (n, n)
        The learnt bias.
    scale : Tensor of shape ()
        The learnt standard deviation.
    metric : Tensor of shape (n, n) or None
        The learnt M.
    power : Tensor of shape ()
        The exponent.
    n_folded : int
        Matrices of the last call that were pushed over the edge of the manifold and folded back;
        compiled or exported layers do not count.

    See Also
    --------
    SPDBatchNormAI : Under the affine-invariant metric.
    sklr.covariance.BuresWassersteinScaler : The same map without a network.

    Notes
    -----
    Evaluation costs one eigendecomposition a matrix and training two, as the mean takes one;
    a power other than 1 takes two more. Written by the formulas step by step, with a root
    here and there, it is six and more. As in other batch normalisations of manifolds no
    gradient goes through the mean; none goes through the variance either.

    References
    ----------
    .. [1] R. Wang, S. Jin, Z. Chen, X. Luo, X.-J. Wu, "Learning to normalize on the SPD manifold
       under Bures-Wasserstein geometry", CVPR 2025, arXiv:2504.00660.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import SPDBatchNormBW
    >>> A = torch.randn(50, 4, 20, dtype=torch.float64)
    >>> layer = SPDBatchNormBW(4)
    >>> layer(A @ A.mT).shape
    torch.Size([50, 4, 4])
    >>> sorted(name for name, _ in layer.named_buffers())
    ['num_batches_tracked', 'running_mean', 'running_var']
    """

    def __init__(
        self,
        n,
        *,
        momentum=0.1,
        eps=1e-5,
        power=1.0,
        learn_metric=True,
        learn_power=False,
        mean_iter=1,
        variance="frechet",
        device=None,
        dtype=None,
    ):
        super().__init__(n, momentum, eps, mean_iter, device, dtype)
        if not 0 < power < math.inf:
            raise ValueError(f"power must be a finite number above 0, got {power}")
        if variance not in VARIANCES:
            raise ValueError(f"variance must be one of {VARIANCES}, got {variance!r}")
        made = {"device": device, "dtype": self.log_bias.dtype}
        self.variance, self._deformed = variance, learn_power or power != 1.0
        log_power = torch.tensor(math.log(power), **made)
        if learn_power:
            self.log_power = nn.Parameter(log_power)
        elif self._deformed:
            self.register_buffer("log_power", log_power)
        self.log_metric = nn.Parameter(torch.zeros(n, n, **made)) if learn_metric else None
        self.n_folded = 0

    @property
    def metric(self) -> Tensor | None:
        """The SPD matrix of the metric, None for the plain one."""
        if self.log_metric is None:
            return None
        return sym_exp(symmetrise(self.log_metric.double()))

    @property
    def power(self) -> Tensor:
        """The exponent of the deformation."""
        if not self._deformed:
            return torch.ones((), dtype=torch.float64, device=self.log_bias.device)
        return self.log_power.double().exp()

    def _exponentials(self) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Return root and inverse root of the metric, and the bias."""
        if self.log_metric is None:
            return None, None, self.bias
        pair = torch.stack((0.5 * self.log_metric, self.log_bias)).double()
        return sym_exp_pair(symmetrise(pair))

    def _normalise(self, X: Tensor) -> Tensor:
        power = self.power
        root, inverse, bias = self._exponentials()

        def into(A):
            A = spd_power(A, power) if self._deformed else A
            return A if inverse is None else inverse @ A @ inverse

        Y = spd_power(X, power) if self._deformed else X
        with torch.no_grad():
            if self.training:
                mean = _arithmetic_mean(Y, inverse)
                for _ in range(self.mean_iter):
                    mean = _barycentre_step(Y, inverse, mean)
                b, U = _point(mean)
            else:
                b, U = _point(into(self.running_mean.double()))
        V = centred_log(Y, _frame(U, inverse), b)
        with torch.no_grad():
            if self.training:
                var = self._variance(Y, V, inverse) / power**2
                self._track(b, U, var, into, root, power)
            else:
                var = self.running_var.double()[0]
        Z, stretch = exp_from_identity(V, U, into(bias), root, self._factor(var))
        if not torch.compiler.is_compiling():
            self.n_folded = _count_folded(stretch)
        return spd_power(Z, 1.0 / power) if self._deformed else Z

    def _variance(self, Y, V, inverse):
        if self.variance == "frechet":
            return V.square().sum(dim=(1, 2)).mean() / 4.0
        if inverse is not None:
            Y = inverse @ Y @ inverse
        roots = torch.linalg.eigvalsh(Y).clamp_min(0.0).sqrt()
        return (roots - 1.0).square().sum(dim=1).mean()

    def _track(self, b, U, var, into, root, power):
        t = self._weight_of_batch()
        if t < 1.0:  # the geodesic to the running mean, from the batch's, whose spectrum is known
            frame = U * b.sqrt()
            w, V = torch.linalg.eigh(frame.mT @ into(self.running_mean.double()) @ frame)
            outer = b.rsqrt()
            T = outer[:, None] * ((V * w.clamp_min(0.0).sqrt()) @ V.mT) * outer
            half = U @ ((1.0 - t) * T * b.sqrt() + torch.diag(t * b.sqrt()))
            mean = half @ half.mT
        else:
            mean = (U * b) @ U.mT
        mean = mean if root is None else root @ mean @ root
        mean = spd_power(mean, 1.0 / power) if self._deformed else mean
        self.running_mean.copy_(symmetrise(mean))
        self.running_var.mul_(1.0 - t).add_(t * var)

    def extra_repr(self):
        """Return what ``repr`` shows in the parentheses.

        Returns
        -------
        text : str
            The parameters.
        """
        return (
            f"{super().extra_repr()}, power={float(self.power.detach()):.4g}, "
            f"learn_metric={self.log_metric is not None}, variance={self.variance!r}"
        )


class SPDBatchNormAI(_SPDBatchNorm):
    r"""Batch normalisation of SPD matrices under the affine-invariant metric.

    Whitens a batch by its mean, gives its logarithms a learnt standard deviation, and moves it
    to a learnt SPD bias by a congruence. For comparison with :class:`SPDBatchNormBW`: it does
    not depend on units, and weighs directions of small variance as much as those of large.

    Parameters
    ----------
    n : int
        Rows of the matrices.
    momentum : float, default=0.1
        Weight of a batch in the running statistics. The first ``1 / momentum`` batches are
        averaged.
    eps : float, default=1e-5
        Added to the variance.
    mean_iter : int, default=1
        Steps of the Karcher flow for the mean of a batch, from the arithmetic mean.
    device : torch.device, default=None
        Where parameters and buffers are made.
    dtype : torch.dtype, default=None
        Their type, by default double. The layer computes in double anyway.

    Attributes
    ----------
    running_mean : Tensor of shape (n, n)
        Running mean, a buffer.
    running_var : Tensor of shape (1,)
        Running variance, a buffer.
    bias : Tensor of shape (n, n)
        The learnt bias.
    scale : Tensor of shape ()
        The learnt standard deviation.

    See Also
    --------
    SPDBatchNormBW : Under the Bures-Wasserstein metric.
    spd_learn.modules.SPDBatchNormMeanVar : The layer of spd-learn.

    References
    ----------
    .. [1] D. Brooks, O. Schwander, F. Barbaresco, J.-Y. Schneider, M. Cord, "Riemannian batch
       normalization for SPD neural networks", NeurIPS 2019, arXiv:1909.02414.
    .. [2] R. Kobler, J. Hirayama, Q. Zhao, M. Kawanabe, "SPD domain-specific batch normalization
       to crack interpretable unsupervised domain adaptation in EEG", NeurIPS 2022,
       arXiv:2206.01323.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import SPDBatchNormAI
    >>> A = torch.randn(50, 4, 20, dtype=torch.float64)
    >>> SPDBatchNormAI(4)(A @ A.mT).shape
    torch.Size([50, 4, 4])
    """

    def __init__(self, n, *, momentum=0.1, eps=1e-5, mean_iter=1, device=None, dtype=None):
        super().__init__(n, momentum, eps, mean_iter, device, dtype)

    def _normalise(self, X: Tensor) -> Tensor:
        with torch.no_grad():
            mean = X.mean(dim=0) if self.training else self.running_mean.double()
            root, inverse = _roots(mean)
            if self.training:
                for _ in range(self.mean_iter):
                    tangent = spd_log(inverse @ X @ inverse).mean(dim=0)
                    mean = root @ sym_exp(tangent) @ root
                    root, inverse = _roots(symmetrise(mean))
        W = inverse @ X @ inverse
        with torch.no_grad():
            w, V = torch.linalg.eigh(W)
            if self.training:
                var = positive(w).log().square().sum(dim=1).mean()
                self._track(mean, var)
            else:
                var = self.running_var.double()[0]
        half = sym_exp(0.5 * symmetrise(self.log_bias.double()))
        return half @ spd_power(W, self._factor(var), (w, V)) @ half

    def _track(self, mean, var):
        t = self._weight_of_batch()
        if t < 1.0:
            root, inverse = _roots(self.running_mean.double())
            step = spd_log(symmetrise(inverse @ mean @ inverse))
            mean = root @ sym_exp(t * step) @ root
        self.running_mean.copy_(symmetrise(mean))
        self.running_var.mul_(1.0 - t).add_(t * var)


def _frame(U: Tensor, inverse: Tensor | None) -> Tensor:
    """What takes a matrix to the coordinates of the metric, and there to the basis U."""
    return U.mT.contiguous() if inverse is None else U.mT @ inverse


def _arithmetic_mean(Y: Tensor, inverse: Tensor | None) -> Tensor:
    mean = Y.mean(dim=0)
    return mean if inverse is None else symmetrise(inverse @ mean @ inverse)


def _point(mean: Tensor) -> tuple[Tensor, Tensor]:
    b, U = torch.linalg.eigh(mean)
    if exporting():  # a graph takes no branches
        return b, U
    if not bool(b[0] > 10 * torch.finfo(b.dtype).eps * len(b) * b[-1]):
        raise DivergedError(
            f"the mean of the batch is singular or not finite (eigenvalues from {float(b[0]):.3g} "
            f"to {float(b[-1]):.3g})",
            "add a small multiple of the identity to the matrices",
        )
    return b, U


def _barycentre_step(Y: Tensor, inverse: Tensor | None, mean: Tensor) -> Tensor:
    """One fixed-point step: F^-T S S F^-1 with F F^T the mean and S the mean of sandwich roots."""
    F, info = torch.linalg.cholesky_ex(mean)
    if int(info):
        _point(mean)  # says what is wrong
    left = F.mT if inverse is None else F.mT @ inverse
    w, V = torch.linalg.eigh(left @ Y @ left.mT)
    quarter = w.clamp_min(0.0).sqrt().sqrt()
    rows = (V.mT * quarter[..., None]).reshape(-1, len(F))
    half = torch.linalg.solve_triangular(F.mT, rows.mT @ rows / len(Y), upper=True)
    return half @ half.mT


def _roots(mean: Tensor) -> tuple[Tensor, Tensor]:
    b, U = _point(mean)
    return (U * b.sqrt()) @ U.mT, (U * b.rsqrt()) @ U.mT


@torch.no_grad()
def _count_folded(stretch: Tensor) -> int:
    # Squared distance from the identity: below 1 no eigenvalue is negative.
    trace = stretch.diagonal(dim1=1, dim2=2).sum(dim=1)
    square = torch.linalg.vector_norm(stretch, dim=(1, 2)).square()
    far = stretch[square - 2.0 * trace + stretch.shape[-1] >= 1.0]
    if len(far) == 0:
        return 0
    return int((torch.linalg.cholesky_ex(far).info > 0).sum())
