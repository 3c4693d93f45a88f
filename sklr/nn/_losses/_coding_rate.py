"""Coding rates that are differentiated, and the loss of manifold linearizing and clustering."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from sklr._torch._autocast import in_autocast


def _exactly(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Leave out the caller's ``torch.autocast``: half precision is too little for a determinant."""

    @functools.wraps(function)
    def exact(*args: Any, **options: Any) -> torch.Tensor:
        given = (*args, *options.values())  # the tensors may have been given by name
        device = next((x.device for x in given if isinstance(x, torch.Tensor)), None)
        if device is None or not in_autocast(device):
            return function(*args, **options)
        with torch.autocast(device.type, enabled=False):
            return function(*args, **options)

    return exact


@_exactly
def coding_rate(z: torch.Tensor, eps: float = 0.1) -> torch.Tensor:
    r"""Compute the coding rate of a batch.

    :math:`\frac12 \log\det(I_d + \frac{d}{n\epsilon} Z^\top Z)`, by the smaller Gram matrix.

    Parameters
    ----------
    z : Tensor of shape (n_samples, n_components)
        The representation.
    eps : float, default=0.1
        Squared error allowed for a sample.

    Returns
    -------
    rate : Tensor of shape ()
        Nats a sample. Half precision is computed, and returned, in float32.

    See Also
    --------
    sklr.metrics.coding_rate : The same for arrays.

    References
    ----------
    .. [1] T. Ding, S. Tong, K. H. R. Chan, X. Dai, Y. Ma and B. D. Haeffele, "Unsupervised
       manifold linearizing and clustering", ICCV 2023, arXiv:2301.01805.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import coding_rate
    >>> round(float(coding_rate(torch.eye(4))), 3)
    4.796
    """
    z = _at_least_single(z)
    n, d = z.shape
    gram = z.mT @ z if d <= n else z @ z.mT
    return _logdet_plus_identity(gram * (d / (n * eps))) / 2


@_exactly
def compressed_coding_rate(
    z: torch.Tensor,
    membership: torch.Tensor,
    eps: float = 0.1,
    max_columns: int | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    r"""Compute the coding rate of the parts of a soft partition.

    :math:`\frac{1}{2n} \sum_j t_j \log\det(I_d + \frac{d}{t_j\epsilon} Z^\top
    \mathrm{diag}(\Pi_{:j}) Z)` with :math:`t_j = \sum_i \Pi_{ij}`.

    Parameters
    ----------
    z : Tensor of shape (n_samples, n_components)
        The representation.
    membership : Tensor of shape (n_samples, n_parts)
        Share of each sample in each part.
    eps : float, default=0.1
        Squared error allowed for a sample.
    max_columns : int, default=None
        Parts that are looked at, drawn without replacement; their sum is scaled up, so that the
        estimate is unbiased. None takes all.
    generator : torch.Generator, default=None
        Where the draw comes from; None is torch's global generator.

    Returns
    -------
    rate : Tensor of shape ()
        Nats a sample. Half precision is computed, and returned, in float32.

    Raises
    ------
    ValueError
        `membership` does not have a row for each sample.

    See Also
    --------
    sklr.metrics.rate_reduction : The coding rate minus this, for arrays.

    References
    ----------
    .. [1] T. Ding, S. Tong, K. H. R. Chan, X. Dai, Y. Ma and B. D. Haeffele, "Unsupervised
       manifold linearizing and clustering", ICCV 2023, arXiv:2301.01805.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import coding_rate, compressed_coding_rate
    >>> z = torch.eye(2)[[0, 0, 1, 1]]
    >>> right = torch.eye(2)[[0, 0, 1, 1]]
    >>> round(float(coding_rate(z) - compressed_coding_rate(z, right)), 3)
    0.876
    """
    z, membership = _at_least_single(z), _at_least_single(membership)
    n, d = z.shape
    if membership.ndim != 2 or membership.shape[0] != n:
        raise ValueError(
            f"membership must have a row for each of the {n} rows of z, got shape "
            f"{tuple(membership.shape)}"
        )
    parts = membership.shape[1]
    factor = 1.0
    if max_columns is not None and max_columns < parts:
        device = z.device if generator is None else generator.device
        drawn = torch.randperm(parts, generator=generator, device=device)[:max_columns]
        membership = membership[:, drawn.to(z.device)]
        factor = parts / max_columns
    totals = membership.sum(dim=0)
    # One product makes all weighted Gram matrices at once.
    outer = (z[:, :, None] * z[:, None, :]).reshape(n, d * d)
    grams = (membership.mT @ outer).reshape(-1, d, d)
    scale = d / (totals.clamp_min(torch.finfo(z.dtype).tiny) * eps)
    logdets = _logdet_plus_identity(grams * scale[:, None, None])
    return factor * (totals * logdets).sum() / (2 * n)


@_exactly
def doubly_stochastic(codes: torch.Tensor, eta: float = 0.15, n_sinkhorn: int = 5) -> torch.Tensor:
    r"""Compute the doubly stochastic membership of a batch from its codes.

    Sinkhorn's scaling of :math:`\exp(|C C^\top| / \eta)`, rows and columns in turn and rows last,
    in logarithms. No gradient flows through the scaling of the columns.

    Parameters
    ----------
    codes : Tensor of shape (n_samples, n_components)
        Codes with unit rows.
    eta : float, default=0.15
        Weight of the entropy. Large: every entry is 1 / n. Small: each sample is alone.
    n_sinkhorn : int, default=5
        Half steps.

    Returns
    -------
    membership : Tensor of shape (n_samples, n_samples)
        Not negative; rows sum to one, columns do in the limit of many half steps.

    See Also
    --------
    sklr.transport.sinkhorn_projection : To convergence, for arrays.

    References
    ----------
    .. [1] T. Ding, S. Tong, K. H. R. Chan, X. Dai, Y. Ma and B. D. Haeffele, "Unsupervised
       manifold linearizing and clustering", ICCV 2023, arXiv:2301.01805.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import doubly_stochastic
    >>> codes = torch.eye(2)[[0, 0, 1, 1]]
    >>> doubly_stochastic(codes, eta=0.1)[0].round(decimals=3) + 0.0
    tensor([0.5000, 0.5000, 0.0000, 0.0000])
    """
    if not eta > 0 or n_sinkhorn < 1:
        raise ValueError(
            f"eta must be above 0 and n_sinkhorn at least 1, got eta={eta!r}, "
            f"n_sinkhorn={n_sinkhorn!r}"
        )
    codes = _at_least_single(codes)
    scores = (codes @ codes.mT).abs() / eta
    columns = scores.new_zeros(len(scores))
    rows = scores.new_zeros(len(scores))
    for step in range(n_sinkhorn - 1, -1, -1):
        if step % 2 == 0:
            rows = -torch.logsumexp(scores + columns, dim=1)
        else:
            columns = -torch.logsumexp(scores + rows[:, None], dim=0).detach()
    return torch.exp(scores + columns + rows[:, None])


class ManifoldLinearizingLoss(torch.nn.Module):
    r"""Loss of manifold linearizing and clustering.

    :math:`-R(Z) + \gamma R_c(Z, \Gamma) + \frac{\mu}{2} |\Gamma|_F^2` with the doubly stochastic
    membership :math:`\Gamma` of the codes: each sample is the head of a soft cluster of its own,
    so that no number of clusters is needed.

    Parameters
    ----------
    eps : float, default=0.1
        Squared error of the coding rates.
    eta : float, default=0.15
        Weight of the entropy of the membership.
    gamma : float, default=1.0
        Weight of the compression.
    mu : float, default=0.05
        Weight of the squared membership.
    n_sinkhorn : int, default=5
        Half steps of Sinkhorn's scaling.
    max_column_samples : int, default=128
        Clusters of a batch that are looked at, drawn anew each time. None takes all.

    See Also
    --------
    sklr.neural_network.ManifoldLinearizingClustering : Trained with it.

    References
    ----------
    .. [1] T. Ding, S. Tong, K. H. R. Chan, X. Dai, Y. Ma and B. D. Haeffele, "Unsupervised
       manifold linearizing and clustering", ICCV 2023, arXiv:2301.01805.
    .. [2] T. Chu, S. Tong, T. Ding, X. Dai, B. D. Haeffele, R. Vidal and Y. Ma, "Image clustering
       via the principle of rate reduction in the age of pretrained models", ICLR 2024,
       arXiv:2306.05272.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import ManifoldLinearizingLoss
    >>> loss = ManifoldLinearizingLoss(mu=0.0)
    >>> planes = torch.eye(4)[[0, 1, 0, 1, 2, 3, 2, 3]]
    >>> bool(loss(planes, planes) < loss(planes, torch.ones(8, 1)))
    True
    """

    def __init__(
        self,
        eps: float = 0.1,
        eta: float = 0.15,
        gamma: float = 1.0,
        mu: float = 0.05,
        n_sinkhorn: int = 5,
        max_column_samples: int | None = 128,
    ) -> None:
        super().__init__()
        self.eps, self.eta, self.gamma, self.mu = eps, eta, gamma, mu
        self.n_sinkhorn, self.max_column_samples = n_sinkhorn, max_column_samples

    def forward(
        self, z: torch.Tensor, codes: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Compute the loss.

        Parameters
        ----------
        z : Tensor of shape (n_samples, n_components)
            Representation with unit rows.
        codes : Tensor of shape (n_samples, n_code_components)
            Codes with unit rows, from which the membership comes.
        generator : torch.Generator, default=None
            Where the draw of columns comes from; None is torch's global generator.

        Returns
        -------
        loss : Tensor of shape ()
            The loss.
        """
        return self.combined(self.terms(z, codes, generator))

    def terms(
        self, z: torch.Tensor, codes: torch.Tensor, generator: torch.Generator | None = None
    ) -> dict[str, torch.Tensor]:
        r"""Compute the terms of the loss, without their weights.

        Parameters
        ----------
        z : Tensor of shape (n_samples, n_components)
            Representation with unit rows.
        codes : Tensor of shape (n_samples, n_code_components)
            Codes with unit rows, from which the membership comes.
        generator : torch.Generator, default=None
            Where the draw of columns comes from; None is torch's global generator.

        Returns
        -------
        terms : dict of {str: Tensor of shape ()}
            "expansion" :math:`R(Z)`, "compression" :math:`R_c(Z, \Gamma)` and "membership"
            :math:`|\Gamma|_F^2`.
        """
        membership = doubly_stochastic(codes, self.eta, self.n_sinkhorn)
        compressed = compressed_coding_rate(
            z, membership, self.eps, self.max_column_samples, generator
        )
        return {
            "expansion": coding_rate(z, self.eps),
            "compression": compressed,
            "membership": membership.square().sum(),
        }

    def combined(self, terms: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss from its terms.

        Parameters
        ----------
        terms : dict of {str: Tensor of shape ()}
            As :meth:`terms` returns them.

        Returns
        -------
        loss : Tensor of shape ()
            The loss.
        """
        loss = self.gamma * terms["compression"] - terms["expansion"]
        return loss + 0.5 * self.mu * terms["membership"]


def _at_least_single(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _logdet_plus_identity(matrices: torch.Tensor) -> torch.Tensor:
    """Return ``logdet(I + M)`` of positive semidefinite M."""
    eye = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    # It fails only where entries are not finite: the loss is then NaN, which the loop reports.
    factor, failed = torch.linalg.cholesky_ex(matrices + eye)
    logdet = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    return torch.where(failed > 0, torch.full_like(logdet, torch.nan), logdet)
