"""Optional dependencies: imported at use, and their absence said with the extra's name."""

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

# Subpackages that mention torch, from the lowest floor up; all else runs without it.
TORCH_PACKAGES = ("_torch", "nn", "neural_network", "landscape")


def import_optional(name: str, *, extra: str, feature: str) -> ModuleType:
    """Import a module of an optional extra.

    Parameters
    ----------
    name : str
        Dotted name of the module to import.
    extra : str
        The extra of sklr that installs it.
    feature : str
        What needs it, as the user called it; it opens the message.

    Returns
    -------
    module : module
        The imported module.

    Raises
    ------
    ImportError
        The module is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        root = name.partition(".")[0]
        if exc.name is None or exc.name.partition(".")[0] != root:
            raise  # the module is there, something that it imports is not
        raise ImportError(
            f"{feature} needs {root}, which is not installed. "
            f"Install it with: pip install 'sklr[{extra}]'"
        ) from exc


def lazy_names(
    package: str,
    homes: Mapping[str, str],
    *,
    extra: str = "torch",
    subpackages: tuple[str, ...] = (),
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Make the lazy names of a package whose files import a module of an extra's name (torch).

    A name is imported on first use, so that importing the package itself loads no torch, and a
    missing torch is said with the name that was asked for.

    Parameters
    ----------
    package : str
        Dotted name of the package.
    homes : mapping of str to str
        Public name -> dotted name, within the package, of the file that holds it.
    extra : str, default="torch"
        The extra, and the module that it installs.
    subpackages : tuple of str, default=()
        Public packages inside this one, imported on first use; they do not need the extra.

    Returns
    -------
    __all__, __getattr__, __dir__ : list of str, callable, callable
        What the package's ``__init__`` binds to these names.
    """

    def get(name: str) -> Any:
        if name in subpackages:
            return importlib.import_module(f"{package}.{name}")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        import_optional(extra, extra=extra, feature=f"{package}.{name}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes, *subpackages})

    return sorted([*homes, *subpackages]), get, names
