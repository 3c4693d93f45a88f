"""The margin loss of pairs, with the choice of negatives in it."""

import math

import torch

from sklr._torch._autocast import in_autocast
from sklr._torch._tracing import numbers_are_there
from sklr.nn._losses._unit import unit_rows

# Added to squared distances, so that the root has a gradient where two samples coincide.
_UNDER_THE_ROOT = 1e-8
_MINING = ("distance_weighted", "nearest")


class MarginLoss(torch.nn.Module):
    r"""Margin loss for learning distances: pairs of a class near, pairs of two classes far.

    Rows are scaled to unit length; with :math:`d_{ij}` their distance the loss is the sum of
    :math:`[d_{ap} - \beta + \alpha]_+` over the pairs of a class, and of
    :math:`[\beta + \alpha - d_{an}]_+` over chosen pairs of two classes, over the number of terms
    that are not zero. Each sample is an anchor; with all samples of its class, and with as many
    samples of other classes as the anchors have partners of their class on average.

    Parameters
    ----------
    margin : float, default=0.2
        The :math:`\alpha`: how far from the boundary a pair has to be.
    beta : float, default=1.2
        The boundary: pairs of a class are to be nearer, others farther. Distances of unit rows are
        between 0 and 2, and 1.41 where rows are orthogonal.
    cutoff : float, default=0.5
        Distance below which pairs of two classes are taken for as near as this: gradients of
        nearer ones have almost random directions, and would be drawn most often.
    mining : {"distance_weighted", "nearest"}, default="distance_weighted"
        Which samples of other classes an anchor gets: draws, from torch's global
        generator, of those nearer than ``beta + margin``, with weights that make all distances as
        likely (their density on a sphere, inverted; near ones come several times); or the nearest
        beyond `cutoff`, where nothing is drawn, and nearer ones are left out.

    See Also
    --------
    sklr.neural_network.DynamicSubspaceEmbedding : A network that is trained with it.
    sklr.metrics.recall_at_k : What such distances are good for.

    Notes
    -----
    A batch of B samples in d dimensions costs O(B^2 d), without a loop over anchors.

    References
    ----------
    .. [1] C.-Y. Wu, R. Manmatha, A. J. Smola and P. Kraehenbuehl, "Sampling matters in deep
       embedding learning", ICCV 2017, arXiv:1706.07567.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import MarginLoss
    >>> labels = torch.tensor([0, 0, 1, 1])
    >>> apart = torch.eye(2)[labels]
    >>> float(MarginLoss()(apart, labels))  # 0 within a class, 1.41 between classes
    0.0
    >>> float(MarginLoss()(apart, labels.flip(0)[[0, 2, 1, 3]])) > 0
    True
    """

    def __init__(
        self,
        margin: float = 0.2,
        beta: float = 1.2,
        cutoff: float = 0.5,
        mining: str = "distance_weighted",
    ) -> None:
        super().__init__()
        for name, value in (("margin", margin), ("beta", beta), ("cutoff", cutoff)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
        if mining not in _MINING:
            raise ValueError(f"mining must be one of {', '.join(_MINING)}, got {mining!r}")
        self.margin = margin
        self.beta = beta
        self.cutoff = cutoff
        self.mining = mining

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        z : Tensor of shape (n_samples, n_components)
            Embeddings. Rows need not have unit length.
        labels : Tensor of shape (n_samples,)
            Whole numbers, one for each class.

        Returns
        -------
        loss : Tensor of shape ()
            Not negative; 0 where no pair is on the wrong side. Half precision is computed, and
            returned, in float32.

        Raises
        ------
        ValueError
            `labels` does not have one entry for each row of `z`, or an embedding is not finite.
        """
        if z.ndim != 2 or labels.shape != z.shape[:1]:
            raise ValueError(
                "z must be of shape (n_samples, n_components) and labels of shape (n_samples,), "
                f"got {tuple(z.shape)} and {tuple(labels.shape)}"
            )
        if in_autocast(z.device):
            with torch.autocast(z.device.type, enabled=False):
                return self._of_pairs(z, labels)
        return self._of_pairs(z, labels)

    def _of_pairs(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if z.dtype in (torch.float16, torch.bfloat16):
            z = z.float()
        if numbers_are_there() and not torch.isfinite(z).all():
            raise ValueError("z has entries that are not finite")
        unit = unit_rows(z)
        distances = (2 - 2 * unit @ unit.mT).clamp_min(0).add(_UNDER_THE_ROOT).sqrt()
        same = labels[:, None] == labels
        itself = torch.eye(len(labels), dtype=torch.bool, device=z.device)
        positive = same & ~itself
        counts = positive + self._chosen(distances.detach(), same, positive, unit.shape[1])
        beyond = torch.where(
            same, distances - self.beta + self.margin, self.beta + self.margin - distances
        )
        terms = torch.where(counts > 0, beyond, 0.0).clamp_min(0)
        active = (counts * (terms.detach() > 0)).sum().clamp_min(1)
        return (counts * terms).sum() / active

    def _chosen(
        self, distances: torch.Tensor, same: torch.Tensor, positive: torch.Tensor, d: int
    ) -> torch.Tensor:
        """Return how often each pair of two classes counts, by anchor."""
        number = (positive.sum() // len(positive)).clamp(1, len(positive))
        if self.mining == "distance_weighted":
            allowed = ~same & (distances < self.beta + self.margin)
            # All rows need a weight to draw by; where none is allowed the draws do not count.
            some = allowed.any(dim=1, keepdim=True)
            log_weights = -_log_density(distances.clamp_min(self.cutoff), d)
            weights = torch.where(allowed | ~some, log_weights, -math.inf).softmax(dim=1)
            drawn = torch.multinomial(weights, int(number), replacement=True)
            counts = torch.zeros_like(weights).scatter_add(1, drawn, weights.new_ones(drawn.shape))
            return counts * allowed
        allowed = ~same & (distances >= self.cutoff)
        keys = torch.where(allowed, distances, math.inf)
        if numbers_are_there():
            last = keys.kthvalue(int(number), dim=1, keepdim=True).values
        else:
            ordered = keys.sort(dim=1).values
            last = ordered.gather(1, (number - 1).reshape(1, 1).expand(len(positive), 1))
        return (allowed & (keys <= last)).to(distances.dtype)

    def extra_repr(self) -> str:
        """Return the parameters, for the printed module.

        Returns
        -------
        text : str
            The parameters.
        """
        return (
            f"margin={self.margin}, beta={self.beta}, cutoff={self.cutoff}, mining={self.mining!r}"
        )


def _log_density(distances: torch.Tensor, d: int) -> torch.Tensor:
    """Return the logarithm of how dense distances of random points on a sphere lie, but for a sum.

    It is d^(n-2) (1 - d^2 / 4)^((n-3)/2) in n dimensions.
    """
    below = (1 - distances.square() / 4).clamp_min(1e-6)
    return (d - 2) * distances.log() + (d - 3) / 2 * below.log()
