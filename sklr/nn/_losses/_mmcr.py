"""Maximum manifold capacity: the loss, as a function and as a module."""

import torch

from sklr.nn._losses._unit import unit_rows


def mmcr_loss(
    z: torch.Tensor,
    n_views: int,
    lmbda: float = 0.0,
    momentum_z: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Compute the loss of maximum manifold capacity representations.

    With unit rows, :math:`C` the centroids of each sample's views and :math:`\|\cdot\|_*` the
    nuclear norm, it is :math:`-\|C\|_* + \lambda\, \frac1B \sum_b \|Z_b\|_*`.

    Parameters
    ----------
    z : Tensor of shape (n_samples * n_views, n_components)
        Embeddings; the views of one sample are adjacent. Rows need not have unit length.
    n_views : int
        Views of each sample.
    lmbda : float, default=0.0
        Weight of the mean nuclear norm of the views of one sample.
    momentum_z : Tensor of shape (n_samples * n_views, n_components), default=None
        Embeddings of the same views by a moving average of the network; centroids are then the
        mean of both, and no gradient flows through these.

    Returns
    -------
    loss : Tensor of shape ()
        At least ``-sqrt(n_samples * min(n_samples, n_components))`` where `lmbda` is 0. Half
        precision is computed, and returned, in float32.

    Raises
    ------
    ValueError
        `n_views` does not divide the number of rows, `momentum_z` has another shape, or an
        embedding is not finite.

    See Also
    --------
    MMCRLoss : The same as a module.
    sklr.neural_network.MMCR : An encoder that is trained with it.

    References
    ----------
    .. [1] T. Yerxa, Y. Kuang, E. Simoncelli and S. Chung, "Learning efficient coding of natural
       images with maximum manifold capacity representations", NeurIPS 2023, arXiv:2303.03307.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import mmcr_loss
    >>> views = torch.eye(3).repeat_interleave(2, dim=0)  # three samples, two views each
    >>> round(float(mmcr_loss(views, n_views=2)), 4)
    -3.0
    """
    if z.ndim != 2 or n_views < 1 or z.shape[0] % n_views or z.shape[0] == 0:
        raise ValueError(
            f"z must be of shape (n_samples * n_views, n_components) with n_views={n_views} "
            f"adjacent views of each sample, got shape {tuple(z.shape)}"
        )
    views = _unit_rows(z, "z").reshape(-1, n_views, z.shape[1])
    centroids = views.mean(dim=1)
    if momentum_z is not None:
        if momentum_z.shape != z.shape:
            raise ValueError(
                f"momentum_z must have the shape of z, {tuple(z.shape)}, "
                f"got {tuple(momentum_z.shape)}"
            )
        slow = _unit_rows(momentum_z.detach(), "momentum_z").reshape(views.shape)
        centroids = (centroids + slow.mean(dim=1)) / 2
    loss = -_nuclear_norm(centroids)
    if lmbda:
        loss = loss + lmbda * _nuclear_norm(views) / len(views)
    return loss


class MMCRLoss(torch.nn.Module):
    """Loss of maximum manifold capacity representations, as a module.

    Parameters
    ----------
    n_views : int
        Views of each sample.
    lmbda : float, default=0.0
        Weight of the mean nuclear norm of the views of one sample.

    See Also
    --------
    mmcr_loss : The function, with the formula.

    References
    ----------
    .. [1] T. Yerxa, Y. Kuang, E. Simoncelli and S. Chung, "Learning efficient coding of natural
       images with maximum manifold capacity representations", NeurIPS 2023, arXiv:2303.03307.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import MMCRLoss
    >>> loss = MMCRLoss(n_views=2)
    >>> round(float(loss(torch.ones(8, 5))), 4)  # four samples, all the same: far from -4
    -2.0
    """

    def __init__(self, n_views: int, lmbda: float = 0.0) -> None:
        super().__init__()
        self.n_views = n_views
        self.lmbda = lmbda

    def forward(self, z: torch.Tensor, momentum_z: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the loss.

        Parameters
        ----------
        z : Tensor of shape (n_samples * n_views, n_components)
            Embeddings; the views of one sample are adjacent.
        momentum_z : Tensor of shape (n_samples * n_views, n_components), default=None
            Embeddings by a moving average of the network.

        Returns
        -------
        loss : Tensor of shape ()
            The loss.
        """
        return mmcr_loss(z, self.n_views, self.lmbda, momentum_z)

    def extra_repr(self) -> str:
        """Return the parameters, for the printed module.

        Returns
        -------
        text : str
            The parameters.
        """
        return f"n_views={self.n_views}, lmbda={self.lmbda}"


def _unit_rows(z: torch.Tensor, name: str) -> torch.Tensor:
    # A singular value decomposition in half precision does not exist.
    if z.dtype in (torch.float16, torch.bfloat16):
        z = z.float()
    if not torch.isfinite(z).all():
        raise ValueError(f"{name} has entries that are not finite")
    return unit_rows(z)


def _nuclear_norm(matrices: torch.Tensor) -> torch.Tensor:
    """Return the sum of all singular values.

    Only the values are differentiated: their gradient, ``U V^T``, stays bounded where singular
    values coincide, which is where the loss is smallest.
    """
    try:
        return torch.linalg.svdvals(matrices).sum()
    except torch.linalg.LinAlgError:
        # It did not converge; a nudge far below float32's own rounding of the loss lets it.
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(matrices.shape, generator=generator).to(matrices)
        return torch.linalg.svdvals(matrices + 1e-6 * noise).sum()
