"""What the results of each estimator do not depend on, drawn for every class.

For each change that its kind of input allows (another order of samples, other units, turned
coordinates, renamed classes, ...) a class says in ``DECLARED`` of
``tests/<subpackage>/declarations.py`` what becomes of its results and how exactly, or why nothing
is promised. A new class, and a promise left out, fail. The suite draws a
few data sets a class; ``SKLR_EXAMPLES=1000`` draws more.
"""

import inspect
import os
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils import get_tags

hypothesis = pytest.importorskip("hypothesis", reason="needs the extra test")
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from promises import (  # noqa: E402
    WORST,
    Change,
    Data,
    a_rotation,
    check,
    declared,
    distances,
    negated,
    partition,
    same,
    times,
    times_squared,
)

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
DECLARED, PARAMS, MAKERS, KINDS = map(declared, ("DECLARED", "PARAMS", "DATA", "KINDS"))


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
            # Not by BLAS, where the rounding of a row depends on how many rows there are.
            return np.einsum("ij,nj->ni", matrix, Z)
        moved = np.einsum("ij,njk->nik", matrix, Z)
        if kind == "trials":
            return moved
        moved = np.einsum("nik,jk->nij", moved, matrix)
        return (moved + moved.transpose(0, 2, 1)) / 2

    return on_samples(data, act)


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
    if cls.__name__ in KINDS:
        return KINDS[cls.__name__]
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


def make_data(estimator, n, p, rng):
    maker = MAKERS.get(type(estimator).__name__)
    if maker is None:
        seed = rng.integers(2**31)
        X, y = make_check_data(estimator, n_samples=n + 5, n_features=p, seed=seed)
        arguments = {}
    else:
        X, y, arguments = maker(estimator, n, p, rng)
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
    promises = {k: v for k, v in DECLARED.get(name, {}).items() if k != "why_not"}
    if not promises:
        return  # why is in DECLARED, and another test asks for it
    unknown = sorted(set(promises) - set(CHANGES))
    assert not unknown, f"DECLARED[{name!r}] has {unknown}; the changes are {sorted(CHANGES)}"
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
        try:
            holds()
        except (AssertionError, KeyError) as exc:  # KeyError: a result that there is not
            home = home_of(CLASSES[name])
            exc.add_note(f"DECLARED[{name!r}] is in {home}; tests/promises.py has other promises")
            raise


def home_of(cls):
    return f"tests/{cls.__module__.split('.')[1]}/declarations.py"


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_says_something_of_every_change(name):
    cls = CLASSES[name]
    wanted, said = set(applicable(cls)), DECLARED.get(name)
    assert said is not None, (
        f"add {name} to DECLARED in {home_of(cls)} (make the file where there is none; "
        f"tests/promises.py has the words): for each of {sorted(wanted)} a promise, or a "
        "reason in why_not; the other entries there show how"
    )
    why_not = said.get("why_not", {})
    promised = set(said) - {"why_not"}
    assert not promised & set(why_not), f"{name} promises what why_not takes back"
    missing, surplus = wanted - promised - set(why_not), (promised | set(why_not)) - wanted
    assert not missing, f"DECLARED[{name!r}] in {home_of(cls)} says nothing of {sorted(missing)}"
    assert not surplus, f"DECLARED[{name!r}] in {home_of(cls)}: {sorted(surplus)} do not apply"
    for change, reason in why_not.items():
        assert len(reason.split()) >= 4, f"{name}, {change}: {reason!r} is no reason (four words)"


def test_declarations_are_of_classes_that_there_are():
    for what in (DECLARED, PARAMS, MAKERS, KINDS):
        unknown = sorted(set(what) - set(CLASSES))
        assert not unknown, f"a tests/*/declarations.py names {unknown}, which are not public"


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
