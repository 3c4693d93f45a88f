"""Ways to make a matrix cheaper entry by entry: rounding to few values, pruning."""

import torch


def rounded(W: torch.Tensor, bits: int, group_size: int | None) -> torch.Tensor:
    """Round to ``2**bits`` evenly spaced values between the least and the largest of each group.

    Parameters
    ----------
    W : Tensor of shape (m, n)
        The matrix.
    bits : int
        Bits of a value.
    group_size : int or None
        Entries along a row that share a range; None is the row. The last group may be shorter.
    """
    pieces = W.split(W.shape[1] if group_size is None else group_size, dim=1)
    return torch.cat([_rounded(piece, bits) for piece in pieces], dim=1)


def _rounded(W: torch.Tensor, bits: int) -> torch.Tensor:
    low, high = W.amin(dim=1, keepdim=True), W.amax(dim=1, keepdim=True)
    step = (high - low) / (2**bits - 1)
    codes = ((W - low) / torch.where(step > 0, step, 1.0)).round()
    return low + codes * step


def pruned_in_groups(W: torch.Tensor, n_kept: int, size: int) -> torch.Tensor:
    """Keep the largest `n_kept` of each `size` entries along a row; the others become zero."""
    return torch.cat([_pruned(piece, n_kept) for piece in W.split(size, dim=1)], dim=1)


def _pruned(W: torch.Tensor, n_kept: int) -> torch.Tensor:
    order = W.abs().argsort(dim=1, descending=True, stable=True)[:, :n_kept]
    return torch.zeros_like(W).scatter(1, order, W.gather(1, order))


def pruned(W: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Set the smallest entries of a matrix, a share `sparsity` of all, to zero."""
    n_zero = int(sparsity * W.numel() + 1e-9)
    flat = W.reshape(-1).clone()
    flat[flat.abs().argsort(stable=True)[:n_zero]] = 0
    return flat.reshape(W.shape)
