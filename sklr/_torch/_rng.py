"""Seeds: torch's global generators are borrowed for a fit, and put back as they were."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

# Weight initialisation and dropout draw from torch's global generators; two Python threads that
# fit at once would draw from each other's.
_LOCK = threading.RLock()


@contextmanager
def seeded(seed: int, device: Any) -> Iterator[None]:
    """Seed the global generators of the CPU and of `device`; put their states back at the end.

    Parameters
    ----------
    seed : int
        Seed inside the block.
    device : torch.device
        Where the network is. Generators of other devices are not touched.
    """
    import torch

    with _LOCK:
        generators = [torch.default_generator]
        if device.type == "cuda":
            torch.cuda.init()
            index = torch.cuda.current_device() if device.index is None else device.index
            generators.append(torch.cuda.default_generators[index])
        elif device.type == "mps":
            generators.append(torch.mps._get_default_mps_generator())
        states = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, states):
                generator.set_state(state)


def derive_seeds(seed: int, number: int, n_seeds: int) -> list[int]:
    """Return independent seeds for the purposes of one call, from a seed and the call's number."""
    return [int(s) for s in np.random.SeedSequence([seed, number]).generate_state(n_seeds)]
