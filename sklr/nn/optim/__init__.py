"""Optimisers of torch with states of low rank, or with curvature (needs the extra ``torch``).

They take groups of parameters, closures, schedulers and states to resume from as those of
``torch.optim`` do. A name is imported on first use.
"""

from sklr.utils._imports import lazy_names

# Public name -> the file that holds it.
_HOMES = {
    "DCTAdamW": "_dct_adamw",
    "MFAC": "_mfac",
    "Trion": "_trion",
    "dct_select": "_cosines",
}

__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
