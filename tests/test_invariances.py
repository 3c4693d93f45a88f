"""What the results of each estimator do not depend on, drawn for every class.

For each change that its kind of input allows (another order of samples, other units, turned
coordinates, renamed classes, ...) a class says in ``DECLARED`` what becomes of its results and how
exactly, or why nothing is promised. A new class, and a promise left out, fail. The suite draws a
few data sets a class; ``SKLR_EXAMPLES=1000`` draws more.
"""

import inspect
import os
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.base import clone
from sklearn.utils import get_tags

hypothesis = pytest.importorskip("hypothesis", reason="needs the extra test")
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from sklr.utils import all_estimators  # noqa: E402
from sklr.utils.estimator_checks import (  # noqa: E402
    instance_for_checks,
    make_check_data,
    missing_extra,
)

EXAMPLES = max(3, int(os.environ.get("SKLR_EXAMPLES", "8")) // 2)
CLASSES = dict(all_estimators())
METHODS = ("transform", "predict", "predict_proba", "decision_function", "score_samples")
OF_SAMPLES = ("labels_", "embedding_")
OF_ALL = ("entropy_", "coef_")
WORST = defaultdict(float)  # (class, change, result) -> largest deviation that was seen


class Data(NamedTuple):
    """What is fitted, and the samples that the fitted object is asked about."""

    X: np.ndarray
    y: np.ndarray | None
    asked: np.ndarray
    arguments: dict


@dataclass
class Change:
    """Changed data, and what a promise needs to know of the change."""

    data: Data
    order: np.ndarray | None = None
    factor: float = 1.0
    offset: float = 0.0
    act: object = None
    classes: dict = field(default_factory=dict)


# Promises: what is expected of a result after a change; and what is compared.


@dataclass(frozen=True)
class Promise:
    """``expected(value, change)`` is what comes out, to ``tol`` of the largest entry of ``of``."""

    tol: float
    expected: object = lambda value, change: value
    of: object = lambda value: value


def same(tol):
    return Promise(tol)


def times(tol):
    return Promise(tol, lambda value, change: change.factor * value)


def times_squared(tol):
    return Promise(tol, lambda value, change: change.factor**2 * value)


def divided(tol):
    return Promise(tol, lambda value, change: value / change.factor)


def plus(tol):
    return Promise(tol, lambda value, change: value + change.offset)


def negated(tol):
    return Promise(tol, lambda value, change: -value)


def moved(tol):
    """Results are samples, and change as the samples do."""
    return Promise(tol, lambda value, change: change.act(value))


def distances(tol):
    """Results may turn, be mirrored or change places, as long as their distances are kept."""

    def between(value):
        return pdist(value.reshape(len(value), -1).astype(float))

    return Promise(tol, of=between)


def partition():
    """Clusters may be numbered in another way."""
    return Promise(0.0, of=lambda labels: (labels[:, None] == labels).astype(float))


def check(promise, where, got, value, change):
    expected = promise.expected(value, change)
    if change.classes and where[2] == "predict":
        expected = np.array([change.classes[label] for label in value])
    if expected.dtype.kind not in "fc" and promise.of(expected) is expected:
        assert (got == expected).all(), f"{(got != expected).sum()} of {len(got)} differ"
        return
    expected, got = promise.of(expected), promise.of(got)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    size = max(np.abs(expected).max(initial=0.0), np.finfo(float).tiny)
    off = np.abs(got - expected).max(initial=0.0) / size
    WORST[where] = max(WORST[where], off)
    assert off <= promise.tol, f"off by {off:.1e} of the largest, promised are {promise.tol:.0e}"


# Changes. Each takes the data, their kind and a generator.


def on_samples(data, act):
    arguments = {name: act(value) for name, value in data.arguments.items()}
    return Change(Data(act(data.X), data.y, act(data.asked), arguments), act=act)


def rows(data, kind, rng):
    order = rng.permutation(len(data.X))
    y = None if data.y is None else data.y[order]
    return Change(data._replace(X=data.X[order], y=y), order=order)


def columns(data, kind, rng):
    order = rng.permutation(data.X.shape[1])
    if kind == "matrices":
        return on_samples(data, lambda Z: Z[:, order][:, :, order])
    return on_samples(data, lambda Z: Z[:, order])


def scale(data, kind, rng):
    factor = 10 ** rng.uniform(-1.5, 1.5)
    change = on_samples(data, lambda Z: factor * Z)
    change.factor = factor
    return change


def sign(data, kind, rng):
    return on_samples(data, np.negative)


def by_matrix(data, kind, matrix):
    def act(Z):
        if kind == "table":
            return Z @ matrix.T
        moved = np.einsum("ij,njk->nik", matrix, Z)
        if kind == "trials":
            return moved
        moved = np.einsum("nik,jk->nij", moved, matrix)
        return (moved + moved.transpose(0, 2, 1)) / 2

    return on_samples(data, act)


def a_rotation(n, rng):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def rotation(data, kind, rng):
    return by_matrix(data, kind, a_rotation(data.X.shape[1], rng))


def mixing(data, kind, rng):
    n = data.X.shape[1]
    spread = np.diag(rng.uniform(0.3, 3.0, n))
    return by_matrix(data, kind, a_rotation(n, rng) @ spread @ a_rotation(n, rng))


def units(data, kind, rng):
    factors = 10 ** rng.uniform(-1.0, 1.0, data.X.shape[1])
    return on_samples(data, lambda Z: Z * factors)


def shift(data, kind, rng):
    offsets = rng.uniform(-5, 5, data.X.shape[1])
    offsets = offsets if kind == "table" else offsets[:, None]
    return on_samples(data, lambda Z: Z + offsets)


def ids(data, kind, rng):
    """Other ids for the same things, in another order."""
    new = [rng.permutation(1000) for _ in range(data.X.shape[1])]
    return on_samples(data, lambda Z: np.column_stack([m[z.astype(int)] for m, z in zip(new, Z.T)]))


def target_times(data, kind, rng):
    factor = 10 ** rng.uniform(-1.5, 1.5)
    return Change(data._replace(y=factor * data.y), factor=factor)


def target_plus(data, kind, rng):
    offset = rng.uniform(-20, 20)
    return Change(data._replace(y=data.y + offset), offset=offset)


def target_sign(data, kind, rng):
    return Change(data._replace(y=-data.y))


def renamed(data, names):
    return Change(
        data._replace(y=np.array([names[label] for label in data.y])),
        classes=names,
    )


def names_of_classes(data, kind, rng):
    """Other names in the same order."""
    return renamed(data, dict(zip(np.unique(data.y), ("left hand", "right hand"))))


def order_of_classes(data, kind, rng):
    """Names whose order is the other way round: what was the first class is the second."""
    return renamed(data, dict(zip(np.unique(data.y), (9, 4))))


def weights(data, kind, rng):
    """Repeated samples instead of weights; the results with weights are those to compare with."""
    counts = data.arguments["sample_weight"].astype(int)
    y = None if data.y is None else np.repeat(data.y, counts)
    arguments = {k: v for k, v in data.arguments.items() if k != "sample_weight"}
    return Change(Data(np.repeat(data.X, counts, axis=0), y, data.asked, arguments))


CHANGES = {
    change.__name__: change
    for change in (
        *(rows, columns, scale, units, sign, shift, rotation, mixing, ids),
        *(target_times, target_plus, target_sign, names_of_classes, order_of_classes, weights),
    )
}
OF_KIND = {
    "table": ("rows", "columns", "scale", "units", "sign", "shift", "rotation"),
    "trials": ("rows", "columns", "scale", "sign", "shift", "rotation", "mixing"),
    "matrices": ("rows", "columns", "scale", "rotation", "mixing"),
    "ids": ("rows", "columns", "ids"),
}
NAMED = ("names_of_classes", "order_of_classes")
OF_TARGET = ("target_times", "target_plus", "target_sign")


def kind_of(cls):
    if cls.__name__ == "MatrixSensingRegressor":
        return "trials"  # matrices of two columns, whose rows are turned
    tags = get_tags(instance_for_checks(cls)).input_tags
    if tags.two_d_array:
        return "ids" if tags.categorical else "table"
    return "matrices" if getattr(cls, "_takes_spd", False) else "trials"


def applicable(cls):
    """Return the changes that a class has to say something about."""
    kind = get_tags(instance_for_checks(cls)).estimator_type
    found = OF_KIND[kind_of(cls)]
    found += {"classifier": NAMED, "regressor": OF_TARGET}.get(kind, ())
    if "sample_weight" in inspect.signature(cls.fit).parameters:
        found += ("weights",)
    return found


# What each class promises. A result (of a method, or a fitted attribute) that a promise does not
# name hangs on the change; ``why_not`` says it of all results.

NEIGHBOURS = "neighbours are found by distances, which other units of single columns change"
DRAWN = "rows of the random matrix are drawn for positions of the samples"
RIDGE = "the ridge is in the units of the data"
BASIS = "functions and modes belong to the columns as they are"
NETWORK = "the network takes features as they are, and its first weights do not follow them"
BATCHES = "batches and views are drawn by position"

# Subspaces may be numbered in another way, and a basis may take the other sign.
OF_SUBSPACES = {
    "labels_": partition(),
    "predict": partition(),
    "predict_proba": distances(1e-9),
    "score_samples": same(1e-9),
    "transform": distances(1e-9),
}
OF_COVARIANCES = dict(sign=same(0), scale=same(1e-9), columns=same(1e-7), shift=same(1e-7))


def of_distances(promise):
    """Promise the same for every change that keeps distances, or multiplies all of them."""
    return dict.fromkeys(("columns", "scale", "sign", "shift", "rotation"), promise)


DECLARED = {
    "AugmentedCovariance": dict(
        rows=same(0),
        columns=distances(1e-12),
        scale=times_squared(1e-12),
        sign=same(0),
        shift=same(1e-10),
        rotation=distances(1e-10),
        why_not={"mixing": "covariances of mixed channels are other matrices"},
    ),
    "AugmentedCovarianceSVC": dict(
        **OF_COVARIANCES,
        rotation=same(1e-7),
        mixing=same(1e-7),
        # Libsvm stops at a tolerance of 1e-3 of its own, and goes through samples in their order.
        rows={"decision_function": same(5e-3)},
        names_of_classes=same(0),
        order_of_classes={"predict": same(0), "decision_function": negated(5e-3)},
    ),
    "AugmentedCovarianceSVCCV": dict(
        **OF_COVARIANCES,
        rotation=same(1e-7),
        mixing=same(1e-7),
        names_of_classes=same(0),
        order_of_classes={"predict": same(0), "decision_function": negated(5e-3)},
        why_not={"rows": "folds are cut in the order of the samples"},
    ),
    "BootstrapAMGClustering": dict(
        # Two blobs in three clusters: where the third is taken from hangs on the starts of k-means.
        rows={"embedding_": same(1e-9)},
        **of_distances(same(1e-9)),
        why_not={"units": NEIGHBOURS},
    ),
    "BootstrapAMGEmbedding": dict(
        rows=distances(1e-9),
        **of_distances(same(1e-9)),
        why_not={"units": NEIGHBOURS},
    ),
    "BuresWassersteinScaler": dict(
        rows=same(1e-9),
        columns=moved(1e-9),
        scale=same(1e-9),
        rotation=moved(1e-9),
        weights=same(1e-9),
        why_not={"mixing": "the plain metric weighs directions by their variance"},
    ),
    "ChebyshevTuckerRegressor": dict(
        rows=same(1e-9),
        scale=same(1e-9),
        units=same(1e-9),
        sign=same(1e-9),
        shift=same(1e-9),
        target_times=times(1e-9),
        target_sign=negated(1e-9),
        weights=same(1e-9),
        why_not={
            "columns": "columns are fitted in turn, and the few sweeps of the checks do not settle",
            "rotation": BASIS,
            "target_plus": "a constant counts to the rank like any other function",
        },
    ),
    "DiffusionSpectralEntropy": dict(
        rows=same(1e-9),
        **of_distances(same(1e-9)),
        why_not={"units": "distances are Euclidean ones"},
    ),
    "DiffusionSubspaceClustering": dict(
        rows=OF_SUBSPACES,
        columns=OF_SUBSPACES,
        rotation=OF_SUBSPACES,
        sign=OF_SUBSPACES,
        scale={"labels_": partition(), "predict": partition()},
        why_not={
            "units": "subspaces and their bases are Euclidean",
            "shift": "subspaces go through the origin by default",
        },
    ),
    "EEGSPDNetClassifier": dict(
        rows=same(1e-2),
        scale=same(1e-2),
        names_of_classes=same(0),
        why_not={
            **dict.fromkeys(("columns", "sign", "shift", "rotation", "mixing"), NETWORK),
            "order_of_classes": "first weights are drawn for each class",
        },
    ),
    "EntropicTransport": dict(
        rows=same(1e-8),
        columns=moved(1e-8),
        scale=times(1e-8),
        sign=negated(1e-8),
        shift=moved(1e-8),
        rotation=moved(1e-8),
        weights=same(1e-8),
        why_not={"units": "costs are squared distances"},
    ),
    "FastRP": dict(
        **of_distances(same(0)),
        why_not={"rows": DRAWN, "units": NEIGHBOURS},
    ),
    "FunctionalTuckerRegressor": dict(
        rows=same(1e-6),
        scale=same(1e-6),
        units=same(1e-6),
        shift=same(1e-6),
        target_times=times(1e-6),
        target_plus=plus(1e-6),
        target_sign=negated(1e-6),
        weights=same(1e-6),
        why_not={
            "columns": "starts are drawn for the columns in their order, and lead elsewhere",
            "sign": "starts are drawn along each axis, and lead elsewhere from its other end",
            "rotation": BASIS,
        },
    ),
    "GrassmannClassifier": dict(
        rows=same(1e-6),
        names_of_classes=same(0),
        weights=same(1e-6),
        why_not={
            **of_distances(NETWORK),
            "units": NETWORK,
            "order_of_classes": "first weights are drawn for each class",
        },
    ),
    "HeatGeodesicEmbedding": dict(
        **of_distances(distances(1e-6)),
        why_not={
            "units": NEIGHBOURS,
            "rows": "the descent goes through pairs in an order that is drawn for positions",
        },
    ),
    "LowRankImputer": dict(
        rows=same(1e-3),
        columns=moved(1e-3),
        sign=negated(1e-3),
        why_not={
            **dict.fromkeys(("scale", "units"), RIDGE),
            "shift": RIDGE,
            "rotation": "holes are in single columns",
        },
    ),
    "MMCR": dict(why_not={**of_distances(NETWORK), "units": NETWORK, "rows": BATCHES}),
    "ManifoldLinearizingClustering": dict(
        why_not={**of_distances(NETWORK), "units": NETWORK, "rows": BATCHES}
    ),
    "MatrixFactorizationRegressor": dict(
        rows=same(1e-6),
        ids=same(1e-3),
        target_times=times(1e-6),
        target_plus=plus(1e-6),
        target_sign=negated(1e-6),
        weights=same(1e-6),
        why_not={"columns": "rows, columns and circumstances are told apart by their place"},
    ),
    "MatrixSensingRegressor": dict(
        rows=same(1e-5),
        columns={"predict": same(1e-5)},
        scale={"predict": same(1e-5), "coef_": divided(1e-5)},
        sign={"predict": same(1e-5), "coef_": negated(1e-5)},
        rotation={"predict": same(1e-5)},
        target_times=times(1e-5),
        target_sign=negated(1e-5),
        weights=same(1e-5),
        why_not={
            "mixing": "steps and the stop depend on the condition of the samples",
            "shift": "there is no intercept by default",
            "target_plus": "there is no intercept by default",
        },
    ),
    "SPDNetClassifier": dict(
        rows=same(1e-6),
        scale=same(1e-6),
        names_of_classes=same(0),
        why_not={
            **dict.fromkeys(("columns", "rotation", "mixing"), NETWORK),
            "order_of_classes": "first weights are drawn for each class",
        },
    ),
    "TangentSpace": dict(
        rows=same(1e-6),
        columns=distances(1e-6),
        scale=same(1e-9),
        rotation=distances(1e-6),
        mixing=distances(1e-6),
    ),
    "VectorFieldGPRegressor": dict(
        rows=same(1e-6),
        **of_distances(same(1e-6)),
        target_times=times(1e-6),
        target_plus=plus(1e-6),
        target_sign=negated(1e-6),
        why_not={"units": NEIGHBOURS},
    ),
}

# Parameters other than those of the checks, where a promise would be empty with them.
PARAMS = {
    "FunctionalTuckerRegressor": {"core": "tucker", "rank": 2, "nu": 1.5, "tol": 1e-2},
    "GrassmannClassifier": {"batch_size": 512},  # one batch, also of repeated samples
}


def points_on_lines(n, p, rng):
    """Samples near two lines through the origin, at a right angle to each other."""
    lines = a_rotation(p, rng)[:2]
    which = np.arange(n) % 2
    length = rng.uniform(1, 3, n) * rng.choice([-1, 1], n)
    return length[:, None] * lines[which] + 0.05 * rng.standard_normal((n, p))


def measured_matrix(n, p, rng):
    """Measurements of a matrix whose two singular values are of one size."""
    X = rng.standard_normal((n, p, 2))
    matrix = a_rotation(p, rng)[:, :2] * [3.0, 2.0] @ a_rotation(2, rng)
    return X, np.einsum("nij,ij->n", X, matrix)


def make_data(estimator, n, p, rng):
    name = type(estimator).__name__
    arguments = {}
    if name == "MatrixSensingRegressor":
        X, y = measured_matrix(n + 5, p, rng)
    elif name == "DiffusionSubspaceClustering":
        X, y = points_on_lines(n + 5, p, rng), None
    else:
        seed = rng.integers(2**31)
        X, y = make_check_data(estimator, n_samples=n + 5, n_features=p, seed=seed)
    if name == "LowRankImputer":
        X = np.where(rng.random(X.shape) < 0.2, np.nan, X)
    if name == "EntropicTransport":
        arguments["X_target"] = rng.standard_normal((n, p)) ** 2
    return Data(X[:n], None if y is None else y[:n], X, arguments)


def results(estimator, data):
    fitted = clone(estimator)
    y = () if data.y is None else (data.y,)
    fitted.fit(data.X, *y, **data.arguments)
    asked = data.asked
    found = {n: np.asarray(getattr(fitted, n)(asked)) for n in METHODS if hasattr(fitted, n)}
    found |= {n: np.asarray(getattr(fitted, n)) for n in OF_SAMPLES + OF_ALL if hasattr(fitted, n)}
    return found


def in_order(found, order, n):
    """Return what is known of each fitted sample as it is after these were put in another order."""
    return {k: v[order] if k in OF_SAMPLES else v for k, v in found.items()}


@pytest.mark.parametrize("name", CLASSES)
def test_results_change_as_declared(name):
    estimator = instance_for_checks(CLASSES[name]).set_params(**PARAMS.get(name, {}))
    if missing_extra(estimator):
        pytest.skip("needs an extra that is not installed")
    promises = {k: v for k, v in DECLARED[name].items() if k != "why_not"}
    if not promises:
        return  # why is in DECLARED, and another test asks for it
    kind = kind_of(CLASSES[name])

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # a smaller data set would not say more, and takes long to find
    )
    @given(st.integers(18, 30), st.integers(2, 4), st.integers(0, 2**31))
    def holds(n, p, seed):
        rng = np.random.default_rng(seed)
        data = make_data(estimator, n, p, rng)
        plain = results(estimator, data)
        for changed, promise in promises.items():
            before, value = data, plain
            if changed == "weights":
                before.arguments["sample_weight"] = rng.integers(1, 4, n).astype(float)
                value = results(estimator, before)
            change = CHANGES[changed](before, kind, rng)
            got = results(estimator, change.data)
            if change.order is not None:
                value = in_order(value, change.order, n)
            of = promise if isinstance(promise, dict) else dict.fromkeys(value, promise)
            for result, its in of.items():
                try:
                    check(its, (name, changed, result), got[result], value[result], change)
                except AssertionError as exc:
                    raise AssertionError(f"{changed}: {result}: {exc}") from None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        holds()


def test_every_class_says_something_of_every_change():
    for name, cls in CLASSES.items():
        assert name in DECLARED, f"{name} has no entry in DECLARED"
        why_not = DECLARED[name].get("why_not", {})
        promised = set(DECLARED[name]) - {"why_not"}
        assert not promised & set(why_not), name
        said = promised | set(why_not)
        assert said == set(applicable(cls)), (name, said ^ set(applicable(cls)))
        assert all(len(reason.split()) >= 4 for reason in why_not.values()), name
    assert set(DECLARED) == set(CLASSES)


def test_a_broken_promise_is_found():
    rng = np.random.default_rng(0)
    data = Data(rng.standard_normal((9, 3)), None, np.zeros((0, 3)), {})
    change = scale(data, "table", rng)
    check(times(1e-12), ("", "scale", "transform"), change.data.X, data.X, change)
    for promise in (same(0.1), times_squared(0.1), negated(0.1), distances(0.1)):
        with pytest.raises(AssertionError, match="off by"):
            check(promise, ("", "scale", "transform"), change.data.X, data.X, change)
    labels = np.array([0, 0, 1])
    check(partition(), ("", "rows", "labels_"), np.array([1, 1, 0]), labels, change)
    with pytest.raises(AssertionError):
        check(partition(), ("", "rows", "labels_"), np.array([1, 0, 0]), labels, change)
    with pytest.raises(AssertionError, match="2 of 3"):
        check(same(0), ("", "rows", "labels_"), np.array([1, 1, 1]), labels, change)


def test_worst_deviations(capsys):
    """Print the largest deviations that were seen, where many data sets were asked for."""
    if EXAMPLES > 4:
        with capsys.disabled():
            for where, off in sorted(WORST.items()):
                print(*where, f"{off:.1e}")
