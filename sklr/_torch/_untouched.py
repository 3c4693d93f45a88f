"""Work on a user's network without touching it: a private copy, and settings of ours alone."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def plain_tensors() -> Iterator[None]:
    """Compute without gradients, and make tensors that can be trained later.

    Under the caller's ``inference_mode`` every new tensor would be one that autograd refuses.
    """
    import torch

    with torch.inference_mode(False), torch.no_grad():
        yield


def copy_of(module: Any) -> Any:
    """Return a deep copy of a network; what it shares inside (tied weights) stays shared.

    Raises
    ------
    ValueError
        torch cannot copy it.
    """
    try:
        with plain_tensors():
            return copy.deepcopy(module)
    except RuntimeError as exc:
        raise ValueError(
            f"the network cannot be copied ({exc}); a tensor in it is computed from others, as by "
            "torch.nn.utils.weight_norm (take torch.nn.utils.parametrizations instead) or "
            "torch.nn.utils.prune (make the zeros permanent: prune.remove)"
        ) from exc


def copy_to_run(module: Any) -> Any:
    """Return a deep copy to run data through: in evaluation mode, without gradients.

    The user's own network would be the cheaper one, but other threads may be using it, its forward
    may count or cache, and an interruption would leave it with our hooks.
    """
    from torch import nn

    run = copy_of(module).eval().requires_grad_(False)
    for part in run.modules():
        if isinstance(part, nn.TransformerEncoder):
            # Nested tensors would hide the padding, and hooks cannot read them.
            part.use_nested_tensor = False
    return run
