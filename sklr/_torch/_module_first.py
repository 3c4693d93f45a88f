"""Base of what is fitted on a network: ``fit(module, X=None, y=None)``, ``transform(module)``."""

from typing import Any

from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.metaestimators import available_if

from sklr.utils._base import BaseEstimator


class ModuleEstimator(BaseEstimator):
    """Estimator whose ``fit`` takes a network first.

    The given network is never changed: ``fit`` works on a private copy, ``transform`` returns
    another. ``all_estimators`` leaves such classes out, ``all_module_estimators`` finds them, and
    ``tests/test_module_first.py`` runs MODULE_CHECKS on each.
    """

    _fits_modules = True
    # No router hands a network around, and X and y are no metadata.
    __metadata_request__fit = {"module": UNUSED}
    __metadata_request__transform = {"module": UNUSED}

    @available_if(lambda self: hasattr(self, "transform"))
    def fit_transform(self, module: Any, X: Any = None, y: Any = None) -> Any:
        """Fit, and return the transformed copy of the same network.

        Parameters
        ----------
        module : torch.nn.Module
            The network; it is not changed.
        X : array-like, tensor, tuple, dict, list of batches, DataLoader or None
            Inputs of the network, as in ``fit``.
        y : array-like or None
            Targets, as in ``fit``.

        Returns
        -------
        transformed : torch.nn.Module
            What ``fit(module, X, y).transform(module)`` returns.
        """
        return self.fit(module, X, y).transform(module)  # type: ignore[attr-defined]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        return tags


def check_module(module: Any, name: str) -> Any:
    """Return a network that is one, and has values.

    Raises
    ------
    TypeError
        It is no Module, or one of TorchScript.
    ValueError
        Its parameters are on the device "meta", or have no shape yet.
    """
    import torch
    from torch import nn
    from torch.nn.parameter import is_lazy

    if not isinstance(module, nn.Module):
        hint = ""
        if isinstance(getattr(module, "module_", None), nn.Module):
            hint = "; hand over its module_, the network itself"
        elif hasattr(module, "coefs_") or hasattr(module, "coef_"):
            hint = "; sklr.nn.compression.from_sklearn makes one of scikit-learn's estimators"
        raise TypeError(f"{name} takes a torch.nn.Module first, got {type(module).__name__}{hint}")
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(
            f"{name}: the network was compiled by torch.jit, and its layers cannot be exchanged; "
            "hand over the network that was compiled"
        )
    for part, value in [*module.named_parameters(), *module.named_buffers()]:
        if is_lazy(value):
            raise ValueError(
                f"{name}: {part!r} of the network has no shape yet; run the network once on data"
            )
        if value.is_meta:
            raise ValueError(
                f"{name}: {part!r} of the network is on the device 'meta', where tensors have no "
                "values; load its weights first"
            )
    return module
