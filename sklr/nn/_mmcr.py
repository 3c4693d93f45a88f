"""Maximum manifold capacity: the loss."""

import torch


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
        At least ``-sqrt(n_samples * min(n_samples, n_components))`` where `lmbda` is 0.

    Raises
    ------
    ValueError
        `n_views` does not divide the number of rows, or an embedding is not finite.

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
    views = _unit_rows(z).reshape(-1, n_views, z.shape[1])
    centroids = views.mean(dim=1)
    if momentum_z is not None:
        slow = _unit_rows(momentum_z.detach()).reshape(views.shape)
        centroids = (centroids + slow.mean(dim=1)) / 2
    loss = -torch.linalg.svdvals(centroids).sum()
    if lmbda:
        loss = loss + lmbda * torch.linalg.svdvals(views).sum() / len(views)
    return loss


def _unit_rows(z: torch.Tensor) -> torch.Tensor:
    # A singular value decomposition in half precision does not exist.
    if z.dtype in (torch.float16, torch.bfloat16):
        z = z.float()
    if not torch.isfinite(z).all():
        raise ValueError("z has entries that are not finite")
    return torch.nn.functional.normalize(z, dim=1)
