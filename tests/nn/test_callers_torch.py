"""What callers do with torch itself: compile, export, convert, copy, transform, other defaults.

All modules, functions and optimisers of ``sklr.nn`` are found by themselves; ``torch_cases.py`` in
``tests`` says how each is made.
"""

import copy
import importlib
import inspect
import pkgutil
from contextlib import contextmanager

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch_cases import FUNCTIONS, MODULES, OPTIMIZERS, normal  # noqa: E402

import sklr.nn  # noqa: E402
from sklr.nn import GrassmannLinear, RiemannianSGD, split_manifold_parameters  # noqa: E402
from sklr.nn.optim._base import BaseOptimizer  # noqa: E402


def found_objects():
    """Modules and optimisers of every file of ``sklr.nn``, and its public functions."""
    kinds = {"modules": set(), "optimizers": set(), "functions": set()}
    for _, name, is_package in pkgutil.walk_packages(sklr.nn.__path__, prefix="sklr.nn."):
        if "._module_checks" in name:  # networks of the checks
            continue
        package = importlib.import_module(name)
        public = getattr(package, "__all__", ()) if is_package else vars(package)
        for key in public:
            item = getattr(package, key)
            if key.startswith("_") or not inspect.isclass(item):
                continue
            if issubclass(item, torch.nn.Module) and item.__module__.startswith("sklr.nn"):
                kinds["modules"].add(item.__name__)
            elif (
                issubclass(item, torch.optim.Optimizer)
                and item.__module__.startswith("sklr")
                and item is not BaseOptimizer
            ):
                kinds["optimizers"].add(item.__name__)
    for key in sklr.nn.__all__:
        if inspect.isfunction(getattr(sklr.nn, key)):
            kinds["functions"].add(key)
    return kinds


def test_everything_of_nn_has_a_case():
    found = found_objects()
    for kind, cases in (("modules", MODULES), ("optimizers", OPTIMIZERS), ("functions", FUNCTIONS)):
        missing = found[kind] - cases.keys()
        assert not missing, f"say in tests/torch_cases.py how to make {sorted(missing)}"
        assert not cases.keys() - found[kind], "cases of what is no more"


@pytest.fixture(params=MODULES)
def case(request):
    return MODULES[request.param]


def run(module, inputs, seed=0):
    """Output, gradients and buffers of a call in training."""
    inputs = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        out = module(*inputs)
    out.square().sum().backward()
    gradients = [x.grad for x in inputs if x.is_floating_point()]
    if isinstance(module, torch.nn.Module):
        gradients += [p.grad for p in module.parameters()]
    return [out.detach(), *gradients]


def make(case):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return case.make()


def assert_same(found, wanted, **tolerance):
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, **(tolerance or {"rtol": 1e-9, "atol": 1e-11}))


def evaluated(module, inputs):
    module.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return [module(*inputs)]


def test_compiled_modules_train_and_evaluate_alike(case):
    """Running statistics too: without a compiler, by the same graphs (aot_eager)."""
    plain, inputs = make(case), case.inputs()
    twin = copy.deepcopy(plain)
    torch.compiler.reset()
    compiled = torch.compile(twin, backend="aot_eager")
    assert_same(run(compiled, inputs), run(plain, inputs))
    assert_same(list(twin.buffers()), list(plain.buffers()))
    assert_same(evaluated(compiled, inputs), evaluated(plain, inputs))


def test_exported_modules_evaluate_alike(case):
    module, inputs = make(case), case.inputs()
    if next(module.buffers(), None) is not None:
        run(module, inputs)  # statistics other than the first ones
    wanted = evaluated(module, inputs)
    program = torch.export.export(module, inputs)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        assert_same([program.module()(*inputs)], wanted)


@contextmanager
def conversion(swap=False, overwrite=False):
    torch.__future__.set_swap_module_params_on_conversion(swap)
    torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
    try:
        yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def twin_by_deepcopy(module, make_again):
    return copy.deepcopy(module)


def twin_by_file(module, make_again):
    import io

    stored = io.BytesIO()
    torch.save(module, stored)
    stored.seek(0)
    return torch.load(stored, weights_only=False)


def twin_by_state(module, make_again):
    other = make_again()
    other.load_state_dict(copy.deepcopy(module.state_dict()))
    return other


def twin_by_assignment(module, make_again):
    other = make_again()
    other.load_state_dict(copy.deepcopy(module.state_dict()), assign=True)
    return other


def twin_from_meta(module, make_again):
    """As large models are loaded; what is no weight (a constant of the constructor) is kept."""
    other = make_again().to("meta").to_empty(device="cpu")
    other.load_state_dict(module.state_dict())
    return other


def twin_from_meta_by_assignment(module, make_again):
    other = make_again().to("meta")
    other.load_state_dict(copy.deepcopy(module.state_dict()), assign=True)
    return other


def twin_by_swap(module, make_again):
    with conversion(swap=True):
        return copy.deepcopy(module).float().double()


def twin_by_overwriting(module, make_again):
    with conversion(overwrite=True):
        return copy.deepcopy(module).float().double()


TWINS = [value for name, value in globals().items() if name.startswith("twin_")]


@pytest.mark.parametrize("twin", TWINS, ids=lambda f: f.__name__.removeprefix("twin_"))
def test_copies_and_conversions_are_the_same_module(case, twin):
    module, inputs = make(case), case.inputs()
    other = twin(module, lambda: make(case))
    loose = twin in (twin_by_swap, twin_by_overwriting)
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if loose else {}  # went through single precision
    assert_same(run(other, inputs), run(module, inputs), **tolerance)
    manifold = [len(part) for part in split_manifold_parameters(module)]
    assert [len(part) for part in split_manifold_parameters(other)] == manifold


def test_modules_under_a_default_dtype_of_double(case):
    """Weights are made in it, as torch's own are; what is given decides what comes out."""
    torch.set_default_dtype(torch.float64)
    try:
        module = make(case)
        out = evaluated(module, case.inputs())[0]
        assert out.dtype == torch.float64 and bool(out.isfinite().all())
        assert all(p.dtype == torch.float64 for p in module.parameters())
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("cases, name", [(c, n) for c in (MODULES, FUNCTIONS) for n in c])
def test_vmap_is_a_loop_or_is_refused(cases, name):
    case = cases[name]
    if case is None:
        return
    function, inputs = make(case), case.inputs()
    if isinstance(function, torch.nn.Module):
        function.eval()
    stacked = [torch.stack([x, 1.1 * x if x.is_floating_point() else x]) for x in inputs]
    if case.no_vmap:
        with pytest.raises((RuntimeError, ValueError)):
            torch.vmap(function)(*stacked)
        return
    found = torch.vmap(function)(*stacked)
    wanted = torch.stack([function(*[x[k] for x in stacked]) for k in range(2)])
    torch.testing.assert_close(found, wanted)
    if not inputs[0].is_floating_point():
        return
    gradient = torch.func.grad(lambda *a: function(*a).square().sum())(*inputs)
    torch.testing.assert_close(gradient, run(function, inputs)[1])


@pytest.mark.parametrize("cases, name", [(c, n) for c in (MODULES, FUNCTIONS) for n in c])
def test_forward_mode_agrees_with_backward_passes_or_is_refused(cases, name):
    case = cases[name]
    if case is None:
        return
    module, inputs = make(case), case.inputs()
    if isinstance(module, torch.nn.Module):
        module.eval()
    x, rest = inputs[0], inputs[1:]
    if not x.is_floating_point():
        return
    direction = normal(*x.shape, seed=3)
    direction = direction + direction.mT if x.ndim == 3 and x.shape[1] == x.shape[2] else direction

    def function(x):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return module(x, *rest)

    if case.no_forward_mode:
        with pytest.raises((RuntimeError, NotImplementedError)):
            torch.func.jvp(function, (x,), (direction,))
        return
    out, slope = torch.func.jvp(function, (x,), (direction,))
    weights = normal(*out.shape, seed=4)
    given = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((function(given) * weights).sum(), given)
    torch.testing.assert_close((slope * weights).sum(), (gradient * direction).sum())


# Optimisers.


def trained(head, n_steps=20):
    optimizer = RiemannianSGD(head.parameters(), lr=0.1)
    X, y = normal(12, head.in_features), torch.arange(12) % head.n_classes
    for _ in range(n_steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(X.to(head.weight.dtype)), y).backward()
        optimizer.step()
    return head


@pytest.mark.parametrize("twin", TWINS, ids=lambda f: f.__name__.removeprefix("twin_"))
def test_bases_stay_orthonormal_in_every_copy_and_conversion(twin):
    def new():
        return GrassmannLinear(6, 3, 2).double()

    head = trained(twin(new(), new))
    gram = head.weight.mT @ head.weight
    torch.testing.assert_close(gram, torch.eye(2).double().expand_as(gram), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("twin", TWINS, ids=lambda f: f.__name__.removeprefix("twin_"))
def test_optimisers_step_every_copy_and_conversion_alike(name, twin):
    """Parameters may be other objects, loaded by assignment, or swapped."""

    def new():
        torch.manual_seed(0)
        return torch.nn.Linear(6, 4).double()

    def stepped(module):
        optimizer = OPTIMIZERS[name](module.parameters())
        for t in range(3):
            optimizer.zero_grad()
            module(normal(5, 6, seed=t)).square().sum().backward()
            optimizer.step()
        return [p.detach() for p in module.parameters()]

    loose = twin in (twin_by_swap, twin_by_overwriting)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if loose else {}  # went through single precision
    original = new()
    assert_same(stepped(twin(original, new)), stepped(original), **tolerance)


@pytest.mark.parametrize("retraction", ["geodesic", "qr"])
def test_a_backward_pass_after_a_step_is_refused(retraction):
    """The step wrote into what the backward pass needs."""
    head = GrassmannLinear(6, 3, 2)
    optimizer = RiemannianSGD(head.parameters(), retraction=retraction)
    X = torch.randn(5, 6, requires_grad=True)
    head(X).sum().backward()
    late = head(X).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(late, X)


def test_groups_that_are_added_later_are_checked_too():
    head = GrassmannLinear(6, 3, 2)
    optimizer = RiemannianSGD(head.parameters())
    other = torch.nn.Parameter(torch.ones(3))
    for option, message in [
        ({"lr": -1}, "lr must be finite"), ({"lr": float("inf")}, "lr must be finite"),
        ({"momentum": 1.0}, "momentum must"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            optimizer.add_param_group({"params": [other], **option})
        assert len(optimizer.param_groups) == 1
    other.manifold = "stiefel"
    with pytest.raises(ValueError, match="manifold 'stiefel'"):
        optimizer.add_param_group({"params": [other]})
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))]})


def test_sparse_gradients_are_stepped_and_refused_with_weight_decay():
    for decay in (0.0, 0.1):
        table = torch.nn.Embedding(4, 2, sparse=True)
        before = table.weight.detach().clone()
        table(torch.tensor([1])).sum().backward()
        optimizer = RiemannianSGD(table.parameters(), momentum=0, weight_decay=decay)
        if decay:
            with pytest.raises(ValueError, match="sparse gradients take no weight_decay"):
                optimizer.step()
            continue
        optimizer.step()
        moved = (table.weight != before).any(dim=1)
        assert moved.tolist() == [False, True, False, False]
