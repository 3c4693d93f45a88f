"""Whether torch records a graph or transforms a function, so that tensors hold no numbers."""


def transformed() -> bool:
    """Return whether a transform of ``torch.func`` is at work (vmap, grad, jvp)."""
    import torch

    return torch._C._are_functorch_transforms_active()


def exporting() -> bool:
    """Return whether ``torch.export`` is at work, which takes no branches on numbers."""
    import torch

    return getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)()


def numbers_are_there() -> bool:
    """Return whether a check may look at the numbers in a tensor: not while they are traced."""
    import torch

    return not (exporting() or torch.compiler.is_compiling() or transformed())
