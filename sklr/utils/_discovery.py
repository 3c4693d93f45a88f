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


def _estimator_classes() -> list[type[BaseEstimator]]:
    found = {
        item.__name__: item
        for item in public_objects().values()
        if inspect.isclass(item)
        and issubclass(item, BaseEstimator)
        and not inspect.isabstract(item)
    }
    return [found[name] for name in sorted(found)]


def _fits_modules(cls: type) -> bool:
    return bool(getattr(cls, "_fits_modules", False))


def _first_argument(cls: type) -> str:
    """Return the name of the first argument of ``fit``."""
    names = list(inspect.signature(cls.fit).parameters) if hasattr(cls, "fit") else []  # type: ignore[attr-defined]
    return names[1] if len(names) > 1 else "X"


def all_estimators() -> list[tuple[str, type[BaseEstimator]]]:
    """Return all public estimator classes of sklr that are fitted on data, sorted by name.

    Returns
    -------
    estimators : list of (str, type)
        Class name and class, as :func:`sklearn.utils.discovery.all_estimators` gives them.
        Classes that need an extra to be fitted are listed whether or not it is installed.

    See Also
    --------
    all_module_estimators : The classes that are fitted on a network.

    Examples
    --------
    >>> from sklr.utils import all_estimators
    >>> "AugmentedCovariance" in dict(all_estimators())
    True
    """
    return [
        (cls.__name__, cls)
        for cls in _estimator_classes()
        if not _fits_modules(cls) and _first_argument(cls) == "X"
    ]


def all_module_estimators() -> list[tuple[str, type[BaseEstimator]]]:
    """Return all public classes of sklr that are fitted on a network, sorted by name.

    Their ``fit(module, X=None, y=None)`` takes a :class:`torch.nn.Module` first, so that
    scikit-learn's checks, which hand over tables, are not for them.

    Returns
    -------
    estimators : list of (str, type)
        Class name and class; empty where torch is not installed.

    See Also
    --------
    all_estimators : The classes that are fitted on data.

    Examples
    --------
    >>> from sklr.utils import all_estimators, all_module_estimators
    >>> set(all_module_estimators()) & set(all_estimators())
    set()
    """
    return [(cls.__name__, cls) for cls in _estimator_classes() if _fits_modules(cls)]


def unplaced_estimators() -> dict[str, str]:
    """Return the public estimators that no suite can check, with what to do about each.

    They are in neither of the lists above: with them, every test of every estimator would fail
    when its file is read, and none would say why.
    """
    return {
        cls.__name__: (
            f"{cls.__module__}.{cls.__name__}.fit takes {_first_argument(cls)!r} first. If that is "
            "a network, derive the class from sklr._torch._module_first.ModuleEstimator: it is "
            "then under MODULE_CHECKS (tests/test_module_first.py). If it is data, call it X: it "
            "is then under scikit-learn's checks (tests/test_common.py)."
        )
        for cls in _estimator_classes()
        if not _fits_modules(cls) and _first_argument(cls) != "X"
    }
