"""Optional dependencies: imported at use, and their absence said with the extra's name."""

import importlib
from types import ModuleType


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
