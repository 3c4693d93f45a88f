"""Class subspaces: a linear head whose classes are points of a Grassmann manifold."""

import math

import numpy as np
import torch
from torch import nn

from sklr._torch._autocast import in_autocast
from sklr._torch._tracing import transformed
from sklr.nn._grassmann._riemannian import has_kernel, load_kernels


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
        # Basis vectors lie along the memory: all bases side by side are a view, without a copy.
        self.weight = nn.Parameter(torch.empty(n_classes, n_components, in_features).mT)
        self.mark_manifold()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw each class's subspace anew, uniformly on the Grassmann manifold."""
        with torch.no_grad():
            normal = torch.randn(self.weight.shape, dtype=self.weight.dtype)
            self.weight.copy_(torch.linalg.qr(normal).Q)

    def mark_manifold(self) -> None:
        """Put the attribute ``manifold`` on ``weight`` again.

        The layer does so itself where torch makes another parameter of it: copies, pickles,
        conversions, ``load_state_dict(assign=True)``.
        """
        self.weight.manifold = "grassmann"  # type: ignore[attr-defined]

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self.mark_manifold()

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        self.mark_manifold()
        return self

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        self.mark_manifold()

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
        if in_autocast(features.device):  # the logits stay exact
            with torch.autocast(features.device.type, enabled=False):
                return self.forward(features.to(self.weight.dtype))
        if features.dtype == self.weight.dtype and features.ndim == 2 and not transformed():
            return _Lengths.apply(features, self.weight, self.scale)
        return _lengths(features, self.weight, self.scale)

    def cross_entropy(self, features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy of the logits, the faster way for training on the CPU.

        A compiled kernel makes loss and gradient at once, from one product of the features with
        the bases: on small batches operations of torch cost more than their arithmetic. Elsewhere
        it is torch's own cross entropy of ``forward``.

        Parameters
        ----------
        features : Tensor of shape (n_samples, in_features)
            Features.
        target : Tensor of shape (n_samples,)
            Numbers of the classes; samples with -100 are left out.

        Returns
        -------
        loss : Tensor of shape ()
            The mean over the samples.
        """
        weight = self.weight
        traced = torch.jit.is_tracing() or torch.compiler.is_compiling() or transformed()
        mixed = in_autocast(features.device)
        # The kernel looks at no sizes; what is wrong with others, or allowed, torch knows.
        plain = (
            features.ndim == 2
            and features.dtype == weight.dtype
            and target.dtype == torch.long
            and target.device.type == "cpu"
            and target.shape == features.shape[:1] != (0,)
        )
        if traced or mixed or not plain or not torch.is_grad_enabled() or not has_kernel(weight):
            return nn.functional.cross_entropy(self(features), target)
        try:
            return _CrossEntropy.apply(features, weight, target, self.scale)
        except _UnknownClass:
            if bool(((target < 0) & (target != -100) | (target >= self.n_classes)).any()):
                raise
            # -100 leaves a sample out, as everywhere in torch.
            return nn.functional.cross_entropy(self(features), target)

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
    projected = unit @ weight.mT.reshape(-1, width).mT
    projected = projected.reshape(*unit.shape[:-1], n_classes, n_components)
    return torch.linalg.vector_norm(projected, dim=-1)


def _differentiable(result, features, weight, gradient):
    """Return gradients that are differentiated again, of a result of torch's own operations."""
    inputs = [part for part in (features, weight) if part.requires_grad]
    found = iter(torch.autograd.grad(result, inputs, gradient, create_graph=True))
    return [next(found) if part.requires_grad else None for part in (features, weight)]


class _Lengths(torch.autograd.Function):
    """The same, with the gradient written out: a third of the operations, on small batches time.

    With projections P of f, logits are scale |P_c| / |f|. Where a length is 0 its gradient is 0.
    """

    @staticmethod
    def forward(ctx, features, weight, scale):
        n_classes, width, n_components = weight.shape
        rows = weight.mT.reshape(-1, width)
        projected = torch.mm(features, rows.mT).view(-1, n_classes, n_components)
        size = torch.linalg.vector_norm(features, dim=1, keepdim=True).clamp_min_(1e-12)
        lengths = torch.linalg.vector_norm(projected, dim=2)
        factor = scale / size
        ctx.save_for_backward(features, weight, projected, size, lengths, factor)
        ctx.scale = scale
        return lengths * factor

    @staticmethod
    def backward(ctx, gradient):
        features, weight, projected, size, lengths, factor = ctx.saved_tensors
        if torch.is_grad_enabled():
            again = _lengths(features, weight, ctx.scale)
            return *_differentiable(again, features, weight, gradient), None
        # d logit / d P = factor P / length, and a logit falls as 1 / |f|.
        upward = gradient * factor
        share = torch.where(lengths > torch.finfo(lengths.dtype).tiny, upward / lengths, 0.0)
        inward = (projected * share.unsqueeze(2)).view(len(features), -1)
        of_features = of_weight = None
        if ctx.needs_input_grad[0]:
            radial = (upward * lengths).sum(dim=1, keepdim=True) / size.square()
            of_features = torch.mm(inward, weight.mT.reshape(-1, weight.shape[1]))
            of_features.addcmul_(features, radial, value=-1)
        if ctx.needs_input_grad[1]:
            of_weight = torch.mm(inward.mT, features).view(weight.mT.shape).mT
        return of_features, of_weight, None


class _UnknownClass(ValueError):
    """A target is no number of a class."""


class _CrossEntropy(torch.autograd.Function):
    """Loss and gradient in one pass."""

    @staticmethod
    def forward(ctx, features, weight, target, scale):
        n_classes, width, n_components = weight.shape
        rows = weight.mT.reshape(-1, width)
        inward = torch.mm(features, rows.mT)
        found = features.new_empty(len(features) + 1)  # of each feature, and the loss
        room = np.empty((2, n_classes))
        known = load_kernels().cross_entropy(
            features.numpy(), inward.numpy(), target.numpy(), scale, n_components, *room,
            found.numpy(),
        )  # fmt: skip
        if not known:
            raise _UnknownClass(f"target must have numbers from 0 to {n_classes - 1}, or -100")
        ctx.save_for_backward(features, weight, target, inward, found)
        ctx.scale = scale
        return found[-1].clone()

    @staticmethod
    def backward(ctx, gradient):
        features, weight, target, inward, found = ctx.saved_tensors
        if torch.is_grad_enabled():
            logits = _lengths(features, weight, ctx.scale)
            again = nn.functional.cross_entropy(logits, target)
            return *_differentiable(again, features, weight, gradient), None, None
        radial = found[:-1].unsqueeze(1)
        if float(gradient) != 1.0:
            inward, radial = inward * gradient, radial * gradient
        of_features = of_weight = None
        if ctx.needs_input_grad[0]:
            of_features = torch.mm(inward, weight.mT.reshape(-1, weight.shape[1]))
            of_features.addcmul_(features, radial, value=-1)
        if ctx.needs_input_grad[1]:
            of_weight = torch.mm(inward.mT, features).view(weight.mT.shape).mT
        return of_features, of_weight, None, None


def resolve_scale(scale: float | str, n_classes: int) -> float:
    """Return the largest logit; "auto" grows with the logarithm of the number of classes."""
    if scale == "auto":
        # The largest softmax probability is e^g / (e^g + C - 1).
        return max(8.0, 2.5 * math.log(max(1, n_classes - 1)) + 4.0)
    if isinstance(scale, str) or not scale > 0:
        raise ValueError(f"scale must be 'auto' or above 0, got {scale!r}")
    return float(scale)
