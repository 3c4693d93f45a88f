"""Parameters that mean the same in every estimator with a network inside.

Their constraints, their defaults where an estimator leaves them out, and their texts: a docstring
names them in braces on a line of their own, ``{max_iter}``, and the text with the default of the
signature takes its place.
"""

import dataclasses
import difflib
import inspect
import re
import textwrap
from numbers import Integral, Real
from typing import Any

from sklearn.utils._param_validation import Interval, StrOptions

from sklr.neural_network._solvers import SOLVERS


@dataclasses.dataclass(frozen=True)
class Training:
    """The training parameters of an estimator; those that it leaves out have these defaults."""

    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    solver: str = "adam"
    max_iter: int = 100
    batch_size: int | str = "auto"
    class_weight: Any = None
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    tol: float = 1e-4
    dtype: str = "auto"
    device: str = "auto"
    random_state: Any = None
    verbose: int = 0
    callbacks: Any = None


_POSITIVE = [Interval(Real, 0, None, closed="neither")]
_COUNT = [Interval(Integral, 1, None, closed="left")]
_CONSTRAINTS: dict[str, list[Any]] = {
    "learning_rate": _POSITIVE,
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "solver": [StrOptions(set(SOLVERS))],
    "hidden_layer_sizes": ["array-like"],
    "max_iter": _COUNT,
    "batch_size": [StrOptions({"auto"}), *_COUNT],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": _COUNT,
    "tol": [Interval(Real, 0, None, closed="left")],
    "class_weight": [dict, StrOptions({"balanced"}), None],
    "dtype": [StrOptions({"auto", "float32", "float64"})],
    "device": [str],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
    "callbacks": [list, tuple, None],
    "module": [callable, None],
}

# Names from elsewhere -> what they are called here.
_ELSEWHERE = {
    "backbone": "module",
    "encoder": "module",
    "epochs": "max_iter",
    "lr": "learning_rate",
    "max_epochs": "max_iter",
    "n_epochs": "max_iter",
    "network": "module",
    "optimizer": "solver",
    "patience": "n_iter_no_change",
    "seed": "random_state",
    "validation_split": "validation_fraction",
}

TEXTS: dict[str, str] = {
    # Parameters; {} is the default.
    "momentum": """
        momentum : float, default={}
            Momentum of "sgd".
        """,
    "max_iter": """
        max_iter : int, default={}
            Epochs.
        """,
    "class_weight": """
        class_weight : dict or "balanced", default={}
            Weights of the classes in the loss.
        """,
    "early_stopping": """
        early_stopping : bool, default={}
            Whether to stop when the score on samples set aside (or given to ``fit`` as `X_val`)
            stands still; the weights of the best epoch are kept.
        """,
    "validation_fraction": """
        validation_fraction : float, default={}
            Share of the samples set aside for `early_stopping`.
        """,
    "n_iter_no_change": """
        n_iter_no_change : int, default={}
            Epochs without improvement before it stops.
        """,
    "tol": """
        tol : float, default={}
            What counts as an improvement.
        """,
    "dtype": """
        dtype : {{"auto", "float32", "float64"}}, default={}
            Precision of training. "auto" is float32, and float64 where a given Module is.
        """,
    "device": """
        device : str, default={}
            Where to train: "auto" is a CUDA device if there is one, else the CPU; or a name of
            torch, such as "cpu" or "cuda:1".
        """,
    "random_state": """
        random_state : int, RandomState instance or None, default={}
            Seeds first weights, the order of samples and whatever else is drawn. Two fits on the
            CPU with the same integer and number of threads are equal to the last bit.
        """,
    "verbose": """
        verbose : int, default={}
            1 shows a bar over the epochs, 2 prints a line for each.
        """,
    "callbacks": """
        callbacks : list of object, default={}
            Called between epochs where they have ``on_fit_begin``, ``on_epoch_end`` or
            ``on_fit_end(estimator, info)``; an answer True after an epoch ends the training.
        """,
    # Part of the text of `module`.
    "how_module_is_given": """
        A Module is copied, and trained from the weights it comes with; a callable is called
        with the number of features, or with the shape of a sample of more dimensions (images),
        and returns a Module. Integers (token ids) stay integers where the network takes them.
        """,
    # Attributes.
    "classes_": """
        classes_ : ndarray of shape (n_classes,)
            Labels.
        """,
    "n_iter_": """
        n_iter_ : int
            Epochs done.
        """,
    "loss_curve_": """
        loss_curve_ : list of float
            Mean loss of each epoch.
        """,
    "validation_scores_": """
        validation_scores_ : list of float
            Accuracy after each epoch; only with `early_stopping` or `X_val`.
        """,
    "feature_names_in_": """
        feature_names_in_ : ndarray of shape (n_features_in_,)
            Names of the features, when `X` has them.
        """,
}
_PLACE = re.compile(r"^( *)\{(\w+)\}$", flags=re.MULTILINE)


def training_constraints(*names: str) -> dict[str, list[Any]]:
    """Return the ``_parameter_constraints`` of parameters that mean the same everywhere."""
    for name in names:
        if name not in _CONSTRAINTS:
            raise ValueError(
                f"there is no training parameter {name!r}{_meant(name)}; there are "
                f"{sorted(_CONSTRAINTS)}, and an estimator adds what is its own to the dict"
            )
    return {name: _CONSTRAINTS[name] for name in names}


def _meant(name: str) -> str:
    near = _ELSEWHERE.get(name) or next(
        iter(difflib.get_close_matches(name, _CONSTRAINTS, n=1, cutoff=0.83)), None
    )
    return f"; {near!r} is meant" if near else ""


def check_parameter_names(cls: type) -> None:
    """Refuse a class with a misspelt training parameter, which nothing would ever read.

    Raises
    ------
    TypeError
        A parameter of ``__init__`` is nearly a training parameter, or another library's name of it.
    """
    allowed = {*_CONSTRAINTS, *getattr(cls, "_renamed", ()), *getattr(cls, "_own_names", ())}
    for name in inspect.signature(cls.__init__).parameters:  # type: ignore[misc]
        if name not in allowed and _meant(name):
            raise TypeError(f"{cls.__name__} has a parameter {name!r}{_meant(name)}")


def fill_docstring(cls: type) -> None:
    """Put the texts of parameters and attributes where a docstring names them in braces."""
    doc = vars(cls).get("__doc__")
    if not doc or not _PLACE.search(doc):
        return
    signature = inspect.signature(cls.__init__).parameters  # type: ignore[misc]

    def text(match: re.Match[str]) -> str:
        indent, name = match.groups()
        if name not in TEXTS:
            raise ValueError(
                f"the docstring of {cls.__name__} has {{{name}}} on a line, and TEXTS of "
                f"sklr/neural_network/_parameters.py has no such text: write the entry out, or "
                f"take one of {sorted(TEXTS)}"
            )
        found = textwrap.dedent(TEXTS[name]).strip()
        if name in signature:
            default = signature[name].default
            shown = f'"{default}"' if isinstance(default, str) else repr(default)
            found = found.format(shown)
        return textwrap.indent(found, indent)

    cls.__doc__ = _PLACE.sub(text, doc)
