"""Base of the compressors: find layers, watch data go through, replace what is worth it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr._torch._calibration import Batch, batches_of, record
from sklr._torch._layers import (
    MATRICES,
    Layer,
    bias_of,
    check_ranks_by_name,
    choose_layers,
    find_layers,
    matrix_of,
    resolve_rank,
)
from sklr._torch._module_first import ModuleEstimator, check_module
from sklr._torch._untouched import copy_of, copy_to_run, plain_tensors
from sklr.nn.compression._compensated import compensated
from sklr.nn.compression._factorised import factorised, n_parameters
from sklr.utils._base import fit_context
from sklr.utils._progress import progress
from sklr.utils._warnings import warn_user


@dataclass(frozen=True)
class Solution:
    """How one layer is approximated: its spectrum in the method's metric, its factors by rank.

    Attributes
    ----------
    spectrum : ndarray
        Singular values, falling; the error of a rank is the root of the squares that it drops.
    factors : callable
        Rank -> (down, up, bias) in float64.
    n_params : callable
        Rank -> number of parameters.
    scale : float or None
        What errors are relative to; None is the root of all squares of the spectrum.
    base : Tensor or None
        The matrix beside which the factors stand, in the layer's precision; None is none.
    more : dict
        Further entries of the report.
    """

    spectrum: np.ndarray
    factors: Callable[[int], tuple[Any, Any, Any]]
    n_params: Callable[[int], int]
    scale: float | None = None
    base: torch.Tensor | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def relative_error(self, rank: int) -> float:
        """Return what a rank loses, relative to `scale`."""
        squares = self.spectrum**2
        total = float(squares.sum()) ** 0.5 if self.scale is None else self.scale
        return float(squares[rank:].sum()) ** 0.5 / total if total else 0.0


@dataclass
class Replacement:
    """What stands in a layer's place."""

    layer: Layer
    down: torch.Tensor
    up: torch.Tensor
    bias: torch.Tensor | None
    base: torch.Tensor | None = None

    def layer_in_place_of(self, part: Any) -> Any:
        """Return the new layer, in the precision, on the device and in the mode of the old."""
        new = factorised(part, self.layer.kind, self.down, self.up, self.bias)
        return new if self.base is None else compensated(part, new, self.base)


class Tally(NamedTuple):
    """What is left of the sums of a layer when they are gone."""

    n_rows: int
    n_distinct: int
    side: str


class OneByOne:
    """What layers see, summed up when it is asked for: one layer is held, a pass is made for each.

    Parameters
    ----------
    look : callable
        ``look(name)`` runs the data and returns the sums of one layer.
    """

    def __init__(self, look: Callable[[str], Any]) -> None:
        self._look = look
        self.tallies: dict[str, Tally] = {}

    def get(self, name: str) -> Any:
        """Return the sums of a layer, which are not kept here."""
        sums = self._look(name)
        self.tallies[name] = Tally(sums.n_rows, sums.n_distinct, sums.side)
        return sums


class BaseCompressor(ModuleEstimator):
    """Common part of the compressors; each brings `_solve` and, where it needs data, `_watch`."""

    # Annotations of what each __init__ stores.
    rank: Any
    energy: float
    targets: Any
    batch_size: int
    mask_key: str | None
    verbose: int
    # Whether sums of one layer are held at a time; a parameter of those that have it.
    low_memory: bool = False
    # Layer name -> what knows the layer, and makes the one in its place.
    _found: dict[str, Any]

    _kinds: tuple[str, ...] = MATRICES
    _parameter_constraints: dict = {
        "rank": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
            StrOptions({"energy"}),
            Mapping,
        ],
        "energy": [Interval(Real, 0, 1, closed="right")],
        "targets": [str, "array-like", callable, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "mask_key": [str, None],
        "verbose": ["verbose"],
    }

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, module: Any, X: Any = None, y: Any = None) -> Any:
        """Find what each layer becomes; the network itself is not changed.

        Parameters
        ----------
        module : torch.nn.Module
            The trained network.
        X : array-like, tensor, tuple, dict, list of batches, DataLoader or None
            Inputs of the network, without labels; a few hundred are enough. An array or a tensor
            has samples along its first axis; a tuple or a dict has an array for each argument. A
            list, a DataLoader or another iterable has batches: tensors, tuples of arguments, or
            dicts of named ones.
        y : array-like or None
            Not used; there for one signature in all compressors.

        Returns
        -------
        self : object
            The fitted compressor.
        """
        name = type(self).__name__
        check_module(module, name)
        if self._needs_data() and X is None:
            raise ValueError(
                f"{name}{self._of_setting()} needs X, inputs of the network: a few hundred of "
                "those that it will get, without labels"
            )
        run = copy_to_run(module)
        layers = find_layers(run)
        chosen = self._choose(run, layers)
        check_ranks_by_name(self.rank, chosen)
        with plain_tensors():
            seen = self._look(run, chosen, X, y) if self._needs_data() else {}
            self._replace(run, layers, chosen, seen)
            if isinstance(seen, OneByOne):
                self._check_rows(chosen, seen.tallies)
                self._warn_of_few_rows(chosen, seen.tallies)
        return self

    def _needs_data(self) -> bool:
        return False

    def _of_setting(self) -> str:
        """Return what of the parameters makes data necessary, for a message."""
        return ""

    def _choose(self, run: Any, layers: list[Layer]) -> list[Layer]:
        """Return the layers to look at."""
        return choose_layers(layers, self.targets, self._kinds)

    def _watch(self, layer: Layer) -> Any:
        """Return what sums up what a layer sees: called with it, with `side` and `n_rows`."""
        raise NotImplementedError

    def _solve(self, layer: Layer, part: Any, seen: Any) -> Solution:
        """Return how a layer is approximated."""
        raise NotImplementedError

    def _look(self, run: Any, chosen: list[Layer], X: Any, y: Any) -> Any:
        """Return what each layer saw of the data, by name."""
        by_name = {layer.name: layer for layer in chosen}
        if self.low_memory and isinstance(X, Iterator):
            raise ValueError(
                f"{type(self).__name__}: low_memory=True goes through X once for each layer, and a "
                f"{type(X).__name__} can be gone through once; hand over a list of batches, an "
                "array or a DataLoader"
            )

        def batches() -> Iterable[Batch]:
            return batches_of(run, X, None, self.batch_size)

        if self.rank == "global":
            self._batches = list(batches())

        def look(*names: str) -> dict[str, Any]:
            seen = {name: self._watch(by_name[name]) for name in names}
            record(
                run,
                {name: (sums.side, sums) for name, sums in seen.items()},
                self._batches if self.rank == "global" else batches(),
                mask_key=self.mask_key,
                name=type(self).__name__,
            )
            return seen

        if self.low_memory:
            return OneByOne(lambda name: look(name)[name])
        seen = look(*by_name)
        self._check_rows(chosen, seen)
        self._warn_of_few_rows(chosen, seen)
        return seen

    def _warn_of_few_rows(self, chosen: list[Layer], seen: Mapping[str, Any]) -> None:
        """Warn of data that cannot show all directions of a layer."""
        few = []
        for layer in chosen:
            sums, wanted = seen[layer.name], min(layer.shape)
            n, different = sums.n_rows, sums.n_distinct
            # Half: rows that nearly meet by chance are no copies.
            if 0 < n < wanted:
                few.append(f"{layer.name} ({n} rows, {wanted} directions)")
            elif 1 < different < min(wanted, n / 2):
                few.append(
                    f"{layer.name} ({n} rows, {different} of them differ, {wanted} directions)"
                )
        if few:
            more = f" and {len(few) - 3} more" if len(few) > 3 else ""
            warn_user(
                f"{type(self).__name__}: X has fewer rows than a layer has directions, so that "
                f"others count as unused: {', '.join(few[:3])}{more}. Hand over more samples."
            )

    def _check_rows(self, chosen: list[Layer], seen: Mapping[str, Any]) -> None:
        """Refuse data that reach no layer, or a layer once."""
        name = type(self).__name__
        if not any(sums.n_rows for sums in seen.values()):
            names = [layer.name for layer in chosen[:10]]
            raise ValueError(
                f"{name}: no input of X reaches the layers {names}; "
                "the network does not call them as modules, or another path is taken"
            )
        for layer in chosen:
            if seen[layer.name].n_rows == 1:
                raise ValueError(
                    f"{name}: layer {layer.name!r} saw 1 row of X, which says nothing of how "
                    "inputs vary; hand over a few hundred samples"
                )
        reached = [layer for layer in chosen if seen[layer.name].n_rows]
        if all(seen[layer.name].n_distinct == 1 for layer in reached):
            first = reached[0].name
            raise ValueError(
                f"{name}: the {seen[first].n_rows} rows of {seen[first].side}s of layer {first!r} "
                "on X are all equal, which says nothing of how they vary; hand over a few hundred "
                "different samples"
            )

    def _replace(self, run: Any, layers: list[Layer], chosen: list[Layer], seen: Any) -> None:
        spectra, report = {}, {}
        found: dict[str, Replacement] = {}
        solved: dict[str, Solution] = {}
        for layer in layers:
            reason = layer.reason or "it is not among the targets"
            if not layer.reason and layer.kind not in self._kinds:
                reason = f"{type(self).__name__} replaces no {layer.kind}"
            report[layer.name] = _row(layer, run.get_submodule(layer.name), "skipped", reason)
        steps = progress(
            chosen, total=len(chosen), description=type(self).__name__, verbose=self.verbose
        )
        for layer in steps:
            part, row = run.get_submodule(layer.name), report[layer.name]
            # A call of its own: the sums of a layer are gone before those of the next are made.
            solution = self._solved(layer, part, row, seen)
            if solution is None:
                continue
            spectra[layer.name] = solution.spectrum
            solved[layer.name] = solution
            if self.rank != "global":
                self._settle(layer, part, row, solved.pop(layer.name), found)
        if solved:
            some = [layer for layer in chosen if layer.name in solved]
            ranks = self._ranks_together(run, some, solved)
            for layer in some:
                part, row = run.get_submodule(layer.name), report[layer.name]
                self._settle(layer, part, row, solved[layer.name], found, ranks)
        self._found = self._selected(run, found, report)
        found = self._found
        self.report_ = list(report.values())
        self.spectra_ = spectra
        self.ranks_ = {name: len(item.down) for name, item in found.items()}
        saved = sum(row["params_before"] - row["params_after"] for row in self.report_)
        self.n_params_before_ = n_parameters(run)
        self.n_params_after_ = self.n_params_before_ - saved
        self.ratio_ = self.n_params_after_ / self.n_params_before_

    def _solved(self, layer: Layer, part: Any, row: dict[str, Any], seen: Any) -> Solution | None:
        """Return how a layer is approximated; None, and why in the report, where it is not."""
        sums = seen.get(layer.name)
        if sums is not None and not sums.n_rows:
            row.update(status="kept", reason="no input of X reaches it")
            return None
        if sums is not None and sums.n_distinct == 1:
            why = f"the {sums.n_rows} rows of its {sums.side}s on X are all equal"
            row.update(status="kept", reason=why)
            return None
        _check_finite(part, layer, type(self).__name__)
        return self._solve(layer, part, sums)

    def _settle(
        self,
        layer: Layer,
        part: Any,
        row: dict[str, Any],
        solution: Solution,
        found: dict[str, Replacement],
        ranks: Mapping[str, int | None] | None = None,
    ) -> None:
        """Decide the rank of a layer, and write it into its row of the report."""
        r = self._rank_of(layer, solution) if ranks is None else ranks[layer.name]
        why = self._reason_to_keep(layer, solution, r, row["params_before"])
        if r is None or why:
            row.update(status="kept", reason=why)
            return
        down, up, bias = solution.factors(r)
        row.update(
            status="compressed",
            rank=len(down),
            params_after=solution.n_params(len(down)),
            relative_error=solution.relative_error(r),
            reason="",
            **solution.more,
        )
        store = torch.float64 if part.weight.dtype == torch.float64 else torch.float32
        down, up = down.to("cpu", store), up.to("cpu", store)
        bias = None if bias is None else bias.to("cpu", store)
        base = None if solution.base is None else solution.base.cpu()
        found[layer.name] = Replacement(layer, down, up, bias, base)

    def _ranks_together(
        self, run: Any, layers: list[Layer], solved: Mapping[str, Solution]
    ) -> dict[str, int | None]:
        """Return ranks by what each layer alone costs the outputs of the network."""
        raise NotImplementedError

    def _reason_to_keep(
        self, layer: Layer, solution: Solution, rank: int | None, n_before: int
    ) -> str:
        """Return why a layer stays as it is; empty where it is replaced."""
        if rank is None:
            by_name = isinstance(self.rank, Mapping)
            return "no rank is given for it" if by_name else "all of it is to be kept"
        if solution.n_params(rank) >= n_before:
            return f"rank {rank} would save nothing"
        return ""

    def _selected(
        self, run: Any, found: dict[str, Replacement], report: dict[str, dict[str, Any]]
    ) -> dict[str, Replacement]:
        """Return which of the replacements are made; the report says why others are not."""
        return found

    def _rank_of(self, layer: Layer, solution: Solution) -> int | None:
        r = resolve_rank(self.rank, layer, solution.spectrum, energy=self.energy)
        return None if r is None else min(r, len(solution.spectrum))

    def transform(self, module: Any) -> Any:
        """Return a smaller copy of a network.

        Parameters
        ----------
        module : torch.nn.Module
            The network of ``fit``, or another one of the same make: layers that were not replaced
            keep its own weights, such as those of a fresh network whose state is loaded later.

        Returns
        -------
        compressed : torch.nn.Module
            A deep copy on the same device, in the same precision, in which thin layers stand. It
            is an ordinary network: it can be trained, pickled and exported.
        """
        check_is_fitted(self, "report_")
        name = type(self).__name__
        check_module(module, name)
        there = {layer.name: layer for layer in find_layers(module)}
        for item in self._found.values():
            wanted, given = item.layer, there.get(item.layer.name)
            makes = [(one.kind, one.shape, one.names) for one in (given, wanted) if one]
            if given is None or makes[0] != makes[1]:
                what = "nothing" if given is None else f"a {given.kind} of {given.shape}"
                raise ValueError(
                    f"{name}: layer {wanted.name!r} of the network that was fitted is a "
                    f"{wanted.kind} of {wanted.shape} (outputs, inputs); the given network has "
                    f"{what} there. Fit again for this network."
                )
            if given.reason:
                raise ValueError(
                    f"{name}: layer {wanted.name!r} cannot be replaced: {given.reason}"
                )
        return replaced(module, self._found)


def swapped(network: Any, layer: Layer, new: Any) -> Any:
    """Put a module in a layer's place, under all its names; return the one before."""
    old = network.get_submodule(layer.name)
    for place in layer.names:
        above, _, own = place.rpartition(".")
        setattr(network.get_submodule(above), own, new)
    return old


def replaced(module: Any, found: Mapping[str, Any]) -> Any:
    """Return a deep copy of a network in which new layers stand under all names of the old."""
    copied = copy_of(module)
    with plain_tensors():
        for item in found.values():
            new = item.layer_in_place_of(copied.get_submodule(item.layer.name))
            if "" in item.layer.names:
                return new
            swapped(copied, item.layer, new)
    return copied


def _row(layer: Layer, part: Any, status: str, reason: str) -> dict[str, Any]:
    n_params = n_parameters(part)
    return {
        "name": layer.name,
        "kind": layer.kind,
        "shape": layer.shape,
        "rank": None,
        "params_before": n_params,
        "params_after": n_params,
        "relative_error": 0.0,
        "status": status,
        "reason": reason,
    }


def _check_finite(part: Any, layer: Layer, name: str) -> None:
    for what, value in part.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name}: the {what} of layer {layer.name!r} has NaN or infinity")


def two_matrices(layer: Layer, bias: Any) -> Callable[[int], int]:
    """Return the number of parameters of two thin matrices, by rank."""
    m, n = layer.shape
    return lambda rank: rank * (m + n) + (0 if bias is None else m)


def matrix_and_bias(layer: Layer, part: Any) -> tuple[Any, Any]:
    """Return a layer's matrix and bias in float64."""
    return matrix_of(part, layer.kind), bias_of(part)
