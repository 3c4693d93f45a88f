"""Information of latent trajectories: entropy of their covariance, and what is kept in time."""

import functools
import math

import torch

from sklr._torch._tracing import numbers_are_there
from sklr.nn._losses._coding_rate import _at_least_single, _exactly
from sklr.nn._losses._unit import unit_rows

_LEAST = 1e-12
# From this temperature on shares, which differ by exp(2 / temperature) at most, stay above the
# least number of single precision, and need no logarithms of sums.
_WARM = 0.05


@_exactly
def von_neumann_entropy(z: torch.Tensor) -> torch.Tensor:
    r"""Compute the von Neumann entropy of the covariance of latents.

    :math:`-\sum_i p_i \log p_i` with the eigenvalues :math:`p_i` of :math:`C / \mathrm{tr}\,C`,
    where :math:`C` is the centred covariance. It depends on neither rotation, shift nor scale.

    Parameters
    ----------
    z : Tensor of shape (..., n_components)
        Latents; all axes but the last are samples.

    Returns
    -------
    entropy : Tensor of shape ()
        Nats, between 0 (one direction, or latents that do not vary) and ``log(n_components)``.
        The gradient is finite where eigenvalues coincide.

    See Also
    --------
    effective_dimension : Its exponential.
    sklr.metrics.diffusion_spectral_entropy : The entropy of a diffusion on the samples.

    References
    ----------
    .. [1] X. Cheng, W. Yuan, Y. Yang, Y. Zhang, S. Cheng, Y. He and Z. Sun, "Information shapes
       Koopman representation", ICLR 2026, arXiv:2510.13025.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import von_neumann_entropy
    >>> square = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> round(float(von_neumann_entropy(square)), 3)  # log(2)
    0.693
    """
    z = _at_least_single(z)
    z = z.reshape(-1, z.shape[-1])
    # Before the mean is taken: far from the origin it would round. No shift has a gradient.
    z = z - z[:1].detach()
    z = z - z.mean(dim=0)
    z = z / z.detach().abs().amax().clamp_min(torch.finfo(z.dtype).tiny)
    eigenvalues = torch.linalg.eigvalsh(z.mT @ z / len(z))
    p = eigenvalues / eigenvalues.sum().clamp_min(_LEAST)
    parts = torch.special.entr(p.clamp_min(_LEAST))
    return torch.where(p > _LEAST, parts, 0.0).sum().clamp_min(0.0)


@_exactly
def effective_dimension(z: torch.Tensor) -> torch.Tensor:
    r"""Compute the effective dimension of latents, the exponential of their entropy.

    Parameters
    ----------
    z : Tensor of shape (..., n_components)
        Latents; all axes but the last are samples.

    Returns
    -------
    dimension : Tensor of shape ()
        Between 1 and `n_components`.

    See Also
    --------
    von_neumann_entropy : Its logarithm.

    References
    ----------
    .. [1] X. Cheng, W. Yuan, Y. Yang, Y. Zhang, S. Cheng, Y. He and Z. Sun, "Information shapes
       Koopman representation", ICLR 2026, arXiv:2510.13025.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import effective_dimension
    >>> line = torch.linspace(0, 1, 20)[:, None] * torch.tensor([1.0, 2.0, 3.0])
    >>> round(float(effective_dimension(line)), 2)
    1.0
    """
    return von_neumann_entropy(z).exp()


@_exactly
def temporal_infonce(
    z: torch.Tensor, n_neighbors: int = 3, temperature: float = 0.07
) -> torch.Tensor:
    r"""Compute the InfoNCE loss whose positives are neighbours in time.

    For each state with `n_neighbors` states before and after it in its window,
    :math:`\log \sum_{j \ne n} e^{s_j} - \log \sum_{0 < |j - n| \le k} e^{s_j}` with the
    cosines :math:`s_j` of the latents over the temperature; the mean over such states.

    Parameters
    ----------
    z : Tensor of shape (..., n_steps, n_components)
        Latents of windows of consecutive states.
    n_neighbors : int, default=3
        States before and after that are positives.
    temperature : float, default=0.07
        What cosines are divided by.

    Returns
    -------
    loss : Tensor of shape ()
        Nats, not negative; ``log((n_steps - 1) / (2 * n_neighbors))`` where latents do not move.

    Raises
    ------
    ValueError
        A window has no state with so many neighbours, or the temperature is not above 0.

    See Also
    --------
    gaussian_latent_mutual_information : The information itself, where latents are Gaussian.

    References
    ----------
    .. [1] X. Cheng, W. Yuan, Y. Yang, Y. Zhang, S. Cheng, Y. He and Z. Sun, "Information shapes
       Koopman representation", ICLR 2026, arXiv:2510.13025.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import temporal_infonce
    >>> round(float(temporal_infonce(torch.ones(1, 9, 2), n_neighbors=2)), 3)  # log(8 / 4)
    0.693
    """
    z = _at_least_single(z)
    length, k = z.shape[-2], n_neighbors
    if not temperature > 0 or k < 1 or length <= 2 * k:
        raise ValueError(
            "temporal_infonce needs a temperature above 0 and windows of more than "
            f"2 * n_neighbors states, got temperature={temperature!r}, n_neighbors={k!r} and "
            f"windows of {length}"
        )
    unit = unit_rows(z).reshape(-1, length, z.shape[-1])
    itself, near = _in_time(length, k, z.dtype, z.device)
    scores = torch.baddbmm(itself, unit[:, k : length - k], unit.mT, alpha=1 / temperature)
    if temperature >= _WARM:
        return -(scores.softmax(dim=-1) * near).sum(dim=-1).log().mean()
    shares = scores.log_softmax(dim=-1).masked_fill(near == 0, -math.inf)
    return -shares.logsumexp(dim=-1).mean()


@functools.lru_cache(maxsize=8)
def _in_time(
    length: int, k: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return -inf where a state meets itself and 0 elsewhere, and 1 where it meets a neighbour."""
    with torch.inference_mode(False), torch.no_grad():  # gradients may need them later
        steps = torch.arange(length, device=device)
        apart = (steps[k : length - k, None] - steps).abs()
        itself = torch.zeros(apart.shape, dtype=dtype, device=device)
        near = ((apart > 0) & (apart <= k)).to(dtype)
        return itself.masked_fill_(apart == 0, -math.inf), near


@_exactly
def gaussian_latent_mutual_information(
    operator: torch.Tensor, covariance: torch.Tensor, noise: torch.Tensor, n_steps: int = 1
) -> torch.Tensor:
    r"""Compute the mutual information of Gaussian latents and those some steps later.

    For :math:`z_{t+1} = K z_t + \varepsilon`: :math:`\frac12 \log\det(I + M_n^{-1/2} K^n C
    (K^n)^\top M_n^{-1/2})` with :math:`M_n = \sum_{i<n} K^i \Sigma (K^i)^\top`.

    Parameters
    ----------
    operator : Tensor of shape (n_components, n_components)
        :math:`K`, for columns.
    covariance : Tensor of shape (n_components, n_components)
        :math:`C`, of the latents now.
    noise : Tensor of shape (n_components, n_components)
        :math:`\Sigma`, of what one step adds; positive definite.
    n_steps : int, default=1
        Steps between.

    Returns
    -------
    information : Tensor of shape ()
        Nats. It never rises with `n_steps`.

    Raises
    ------
    ValueError
        `n_steps` is below 1, or `noise` is not positive definite.

    See Also
    --------
    temporal_infonce : A loss that bounds it without Gaussians.

    References
    ----------
    .. [1] X. Cheng, W. Yuan, Y. Yang, Y. Zhang, S. Cheng, Y. He and Z. Sun, "Information shapes
       Koopman representation", ICLR 2026, arXiv:2510.13025.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import gaussian_latent_mutual_information
    >>> one = torch.eye(1)
    >>> round(float(gaussian_latent_mutual_information(one, 3 * one, one)), 3)  # log(4) / 2
    0.693
    """
    if n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, got {n_steps!r}")
    operator, covariance, noise = (_at_least_single(m) for m in (operator, covariance, noise))
    added, signal = noise, covariance
    for step in range(n_steps):
        if step:
            added = operator @ added @ operator.mT + noise
        signal = operator @ signal @ operator.mT
    below, failed = torch.linalg.cholesky_ex(added)
    if numbers_are_there() and bool((failed > 0).any()):
        raise ValueError("noise must be positive definite: add a small multiple of the identity")
    above, _ = torch.linalg.cholesky_ex(added + signal)
    return (above.diagonal().log() - below.diagonal().log()).sum()
