"""Losses of single samples: which one fits outputs and targets, and what is no target."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

LOSSES = ("auto", "cross_entropy", "binary_cross_entropy", "squared_error", "half_squared_error")


def sample_losses(output: Any, target: "Tensor", loss: Any, name: str) -> "Tensor":
    """Return the loss of each sample.

    Parameters
    ----------
    output : torch.Tensor, or what has `logits`
        What the network says of a batch.
    target : torch.Tensor of shape (n_samples, ...)
        Classes as integers, or numbers.
    loss : None, str or callable
        One of ``LOSSES``; None and "auto" are the cross entropy for integers (of one logit where
        the output has one column or the targets' shape), the squared error for floats. Means over
        what a sample has several of. A callable gets outputs and targets and returns the loss of
        each sample.
    name : str
        Who asks, for messages.

    Returns
    -------
    losses : torch.Tensor of shape (n_samples,)

    Raises
    ------
    ValueError
        The loss cannot take output and targets, returns another shape, or is not finite.
    """
    import torch

    losses = unchecked_losses(output, target, loss, name)
    if not bool(torch.isfinite(losses).all()):
        raise ValueError(f"{name}: the loss of a sample is NaN or infinity")
    return losses


def unchecked_losses(
    output: Any, target: "Tensor", loss: Any, name: str, *, look: bool = True
) -> "Tensor":
    """Return the loss of each sample, finite or not; without `look` no value is looked at."""
    import torch

    if callable(loss):
        losses = loss(output, target)
    else:
        output = getattr(output, "logits", output)
        if not isinstance(output, torch.Tensor):
            raise ValueError(
                f"{name}: the network returns {type(output).__name__}; give a loss that takes "
                "it and the targets"
            )
        if loss in (None, "auto"):
            loss = _loss_for(output, target)
        losses = _LOSSES_BY_NAME[loss](output, target, name, look)
        losses = losses.reshape(len(losses), -1).mean(dim=1)
    if not isinstance(losses, torch.Tensor) or losses.shape != (len(target),):
        shape = tuple(getattr(losses, "shape", ()))
        raise ValueError(
            f"{name}: loss must return the loss of each of the {len(target)} samples, got "
            f"shape {shape}; take reduction='none'"
        )
    return losses


def _loss_for(output: "Tensor", target: "Tensor") -> str:
    if target.is_floating_point():
        return "squared_error"
    one_logit = output.shape == target.shape or output.shape == (*target.shape, 1)
    return "binary_cross_entropy" if one_logit else "cross_entropy"


def _squared_error(output: "Tensor", target: "Tensor", name: str, look: bool) -> "Tensor":
    from torch.nn import functional

    return functional.mse_loss(output, _like(output, target, name), reduction="none")


def _half_squared_error(output: "Tensor", target: "Tensor", name: str, look: bool) -> "Tensor":
    return _squared_error(output, target, name, look) / 2


def _like(output: "Tensor", target: "Tensor", name: str) -> "Tensor":
    if output.shape != target.shape:
        if output.numel() != target.numel():
            raise ValueError(
                f"{name}: targets of shape {tuple(target.shape)} do not fit an output of shape "
                f"{tuple(output.shape)}"
            )
        target = target.reshape(output.shape)
    return target.to(output.dtype)


def _binary_cross_entropy(output: "Tensor", target: "Tensor", name: str, look: bool) -> "Tensor":
    from torch.nn import functional

    target = _like(output, target, name)
    if look and not bool(((target >= 0) & (target <= 1)).all()):
        raise ValueError(
            f"{name}: one logit a class takes targets from 0 to 1, got {float(target.min()):g} to "
            f"{float(target.max()):g}"
        )
    return functional.binary_cross_entropy_with_logits(output, target, reduction="none")


def _cross_entropy(output: "Tensor", target: "Tensor", name: str, look: bool) -> "Tensor":
    from torch.nn import functional

    if output.ndim < 2:
        raise ValueError(
            f"{name}: integer targets of shape {tuple(target.shape)} are no classes of an output "
            f"of shape {tuple(output.shape)}"
        )
    scores = output.movedim(-1, 1)
    if look and target.shape == (*scores.shape[:1], *scores.shape[2:]) and target.numel():
        # What torch's kernels say of an index out of range differs by device.
        low, high = int(target.min()), int(target.max())
        missing = (target < 0) & (target != -100)  # torch leaves out the class -100
        if high >= scores.shape[1] or bool(missing.any()):
            raise ValueError(
                f"{name}: integer targets of shape {tuple(target.shape)} from {low} to {high} are "
                f"no classes of an output of shape {tuple(output.shape)}. Give a loss, or floats "
                "for a regression."
            )
    try:
        return functional.cross_entropy(scores, target, reduction="none")
    except (RuntimeError, ValueError, IndexError) as exc:
        raise ValueError(
            f"{name}: integer targets of shape {tuple(target.shape)} from {int(target.min())} "
            f"to {int(target.max())} are no classes of an output of shape "
            f"{tuple(output.shape)}: {exc}. Give a loss, or floats for a regression."
        ) from exc


_LOSSES_BY_NAME: dict[str, Callable[["Tensor", "Tensor", str, bool], "Tensor"]] = {
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "squared_error": _squared_error,
    "half_squared_error": _half_squared_error,
}


def drawn_targets(
    output: "Tensor", target: "Tensor", loss: Any, generator: Any, name: str
) -> "Tensor":
    """Return targets drawn from the distribution whose negative log likelihood the loss is.

    Parameters
    ----------
    output, target : torch.Tensor
        What the network says, and the targets, whose shape and type are kept.
    loss : None or str
        See :func:`sample_losses`.
    generator : torch.Generator
        A generator of the CPU.
    name : str
        Who asks, for messages.
    """
    import torch

    if callable(loss):
        raise ValueError(
            f"{name}: labels='model' needs a loss by name, which says what the network's "
            f"distribution is; got {loss!r}"
        )
    kind = _loss_for(output, target) if loss in (None, "auto") else loss
    z = output.detach().double().cpu()
    if kind == "cross_entropy":
        flat = torch.softmax(z, dim=-1).reshape(-1, z.shape[-1])
        drawn = torch.multinomial(flat, 1, generator=generator).reshape(target.shape)
    elif kind == "binary_cross_entropy":
        drawn = torch.bernoulli(torch.sigmoid(z), generator=generator).reshape(target.shape)
    else:
        # exp(-mean over k outputs of (f - y)^2) is a normal distribution of variance k / 2.
        k = z[0].numel() / (1 if kind == "half_squared_error" else 2)
        noise = torch.randn(z.shape, generator=generator, dtype=z.dtype, device="cpu")
        drawn = (z + k**0.5 * noise).reshape(target.shape)
    return drawn.to(target)
