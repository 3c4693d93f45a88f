"""Class subspaces: a linear head whose classes are points of a Grassmann manifold."""

import math

import torch
from torch import nn


class GrassmannLinear(nn.Module):
    r"""Classification head: each class is a subspace, its logit the length of the projection.

    With an orthonormal basis :math:`S_c` of each class's subspace and a feature :math:`f`, the
    logits are :math:`\gamma \|S_c^\top f\| / \|f\|`, between 0 and :math:`\gamma`.

    Parameters
    ----------
    in_features : int
        Dimension of the features.
    n_classes : int
        Number of classes.
    n_components : int, default=4
        Dimension of each class's subspace, below `in_features`.
    scale : float or "auto", default="auto"
        Largest logit :math:`\gamma`; "auto" is ``max(8, 2.5 * log(n_classes - 1) + 4)``.

    Attributes
    ----------
    weight : Parameter of shape (n_classes, in_features, n_components)
        The bases, with orthonormal columns. Its attribute ``manifold`` is "grassmann", by which
        :class:`RiemannianSGD` knows it; an ordinary optimiser would take it off the manifold.

    See Also
    --------
    RiemannianSGD : The optimiser that keeps the bases orthonormal.
    sklr.neural_network.GrassmannClassifier : The estimator.

    Notes
    -----
    A feature and its negative have the same logits: what comes before needs a nonlinearity or a
    bias that tells them apart. Keep the bases and their step in float32 or float64.

    References
    ----------
    .. [1] H. Wang, Z. Li and W. Zhang, "Get the best of both worlds: improving accuracy and
       transferability by Grassmann class representation", ICCV 2023, arXiv:2308.01547.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import GrassmannLinear
    >>> head = GrassmannLinear(in_features=8, n_classes=3, n_components=2, scale=10.0)
    >>> logits = head(torch.randn(5, 8))
    >>> logits.shape, bool((logits <= 10.001).all())
    (torch.Size([5, 3]), True)
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        n_components: int = 4,
        scale: float | str = "auto",
    ) -> None:
        super().__init__()
        if not 1 <= n_components < in_features:
            raise ValueError(
                f"n_components={n_components} must be at least 1 and less than the "
                f"{in_features} features that the subspaces lie in; with as many, every logit "
                "would be the same"
            )
        if n_classes < 2:
            raise ValueError(f"n_classes must be at least 2, got {n_classes}")
        self.in_features = in_features
        self.n_classes = n_classes
        self.n_components = n_components
        self.scale = resolve_scale(scale, n_classes)
        self.weight = nn.Parameter(torch.empty(n_classes, in_features, n_components))
        self.weight.manifold = "grassmann"
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw each class's subspace anew, uniformly on the Grassmann manifold."""
        with torch.no_grad():
            normal = torch.randn(self.weight.shape, dtype=self.weight.dtype)
            self.weight.copy_(torch.linalg.qr(normal).Q)

    def __setstate__(self, state: dict) -> None:
        # A copied or unpickled parameter has lost its Python attributes.
        super().__setstate__(state)
        self.weight.manifold = "grassmann"

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits.

        Parameters
        ----------
        features : Tensor of shape (n_samples, in_features)
            Features.

        Returns
        -------
        logits : Tensor of shape (n_samples, n_classes)
            Between 0 and ``scale``.
        """
        if torch.is_autocast_enabled(features.device.type):  # the logits stay exact
            with torch.autocast(features.device.type, enabled=False):
                return self.forward(features.to(self.weight.dtype))
        if features.dtype == self.weight.dtype and features.ndim == 2 and not _transformed():
            return _Lengths.apply(features, self.weight, self.scale)
        return _lengths(features, self.weight, self.scale)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows in the parentheses.

        Returns
        -------
        text : str
            Sizes and scale.
        """
        return (
            f"in_features={self.in_features}, n_classes={self.n_classes}, "
            f"n_components={self.n_components}, scale={self.scale:g}"
        )


def _lengths(features: torch.Tensor, weight: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the logits by operations that torch differentiates."""
    n_classes, width, n_components = weight.shape
    unit = nn.functional.normalize(features, dim=-1) * scale
    # One product with all bases side by side: (n, D) times (D, C k).
    projected = unit @ weight.transpose(0, 1).reshape(width, -1)
    projected = projected.reshape(*unit.shape[:-1], n_classes, n_components)
    return torch.linalg.vector_norm(projected, dim=-1)


def _transformed() -> bool:
    """Return whether a transform of torch.func is at work, which the function below has not."""
    return torch._C._are_functorch_transforms_active()


class _Lengths(torch.autograd.Function):
    """The same, with the gradient written out: a third of the operations, on small batches time.

    With projections P of f, logits are scale |P_c| / |f|. Where a length is 0 its gradient is 0.
    """

    @staticmethod
    def forward(ctx, features, weight, scale):
        n_classes, width, n_components = weight.shape
        bases = weight.transpose(0, 1).reshape(width, -1)
        projected = (features @ bases).reshape(len(features), n_classes, n_components)
        factor = scale / torch.linalg.vector_norm(features, dim=1, keepdim=True).clamp_min(1e-12)
        lengths = torch.linalg.vector_norm(projected, dim=2)
        ctx.save_for_backward(features, weight, bases, projected, factor, lengths)
        ctx.scale = scale
        return lengths * factor

    @staticmethod
    def backward(ctx, gradient):
        features, weight, bases, projected, factor, lengths = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: by torch's own operations
            with torch.enable_grad():
                again = _lengths(features, weight, ctx.scale)
            inputs = [part for part in (features, weight) if part.requires_grad]
            found = iter(torch.autograd.grad(again, inputs, gradient, create_graph=True))
            return *(
                next(found) if part.requires_grad else None for part in (features, weight)
            ), None
        # d logit / d P = factor P / length, and a logit falls as 1 / |f|.
        upward = gradient * factor
        share = torch.where(lengths > torch.finfo(lengths.dtype).tiny, upward / lengths, 0.0)
        inward = (projected * share.unsqueeze(2)).reshape(len(features), -1)
        of_features = of_weight = None
        if ctx.needs_input_grad[0]:
            radial = (upward * lengths).sum(dim=1, keepdim=True) * (factor / ctx.scale).square()
            of_features = torch.addcmul(inward @ bases.T, features, radial, value=-1)
        if ctx.needs_input_grad[1]:
            of_weight = (features.T @ inward).reshape(features.shape[1], *weight.shape[::2])
            of_weight = of_weight.transpose(0, 1).contiguous()
        return of_features, of_weight, None


def resolve_scale(scale: float | str, n_classes: int) -> float:
    """Return the largest logit; "auto" grows with the logarithm of the number of classes."""
    if scale == "auto":
        # The largest softmax probability is e^g / (e^g + C - 1).
        return max(8.0, 2.5 * math.log(max(1, n_classes - 1)) + 4.0)
    if isinstance(scale, str) or not scale > 0:
        raise ValueError(f"scale must be 'auto' or above 0, got {scale!r}")
    return float(scale)
