"""Find what is public: every estimator and every function, without a list to keep."""

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Any

from sklearn.base import BaseEstimator

import sklr


def public_modules() -> list[ModuleType]:
    """Return the public modules of sklr, imported, by name."""
    names = {"sklr"}
    for _, name, _ in pkgutil.walk_packages(sklr.__path__, prefix="sklr."):
        if not any(part.startswith("_") for part in name.split(".")):
            names.add(name)
    return [importlib.import_module(name) for name in sorted(names)]


def public_objects() -> dict[str, Any]:
    """Return every public class and function, by its dotted public name.

    A class that cannot even be defined without an extra (its base class is another library's)
    is passed over where that extra is not installed.
    """
    found = {}
    for module in public_modules():
        for name in getattr(module, "__all__", ()):
            try:
                item = getattr(module, name)
            except ImportError as exc:
                if "sklr[" in str(exc):
                    continue
                raise
            if inspect.isclass(item) or inspect.isfunction(item):
                found[f"{module.__name__}.{name}"] = item
    return found


def all_estimators() -> list[tuple[str, type[BaseEstimator]]]:
    """Return all public estimator classes of sklr, sorted by name.

    Returns
    -------
    estimators : list of (str, type)
        Class name and class, as :func:`sklearn.utils.discovery.all_estimators` gives them.
        Classes that need an extra to be fitted are listed whether or not it is installed.

    Examples
    --------
    >>> from sklr.utils import all_estimators
    >>> "AugmentedCovariance" in dict(all_estimators())
    True
    """
    found = {
        item.__name__: item
        for item in public_objects().values()
        if inspect.isclass(item)
        and issubclass(item, BaseEstimator)
        and not inspect.isabstract(item)
    }
    return sorted(found.items())
