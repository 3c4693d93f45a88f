"""What holds for every optimiser: groups, closures, schedulers, states, gradients that are odd."""

import copy
import io
import pickle

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.nn.optim import MFAC, DCTAdamW, Trion  # noqa: E402

KINDS = {
    "DCTAdamW": lambda p, **o: DCTAdamW(p, **{"lr": 0.01, "rank": 3, "weight_decay": 0.1, **o}),
    "DCTAdamW, gaps": lambda p, **o: DCTAdamW(
        p, **{"lr": 0.01, "rank": 3, "update_gap": 3, "error_feedback": False, **o}
    ),
    "DCTAdamW, fft": lambda p, **o: DCTAdamW(p, **{"lr": 0.01, "rank": 3, "transform": "fft", **o}),
    "Trion": lambda p, **o: Trion(p, **{"rank": 3, "weight_decay": 0.1, **o}),
    "MFAC": lambda p, **o: MFAC(
        p, **{"lr": 0.1, "damping": 0.1, "n_gradients": 4, "momentum": 0.5, "clip": 2.0, **o}
    ),
}


def network(dtype=torch.float32):
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.LayerNorm(8),
        nn.Linear(8, 12), nn.Linear(12, 3),
    )  # fmt: skip
    return made.to(dtype)


def problem(n=20, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(n, 2, 4, 4, generator=generator).to(dtype)
    return X, (X[:, 0, 0].sum(1) > 0).long() + (X[:, 1, 0].sum(1) > 0).long()


def run(model, optimizer, n_steps, start=0, scheduler=None):
    X, y = problem(dtype=next(model.parameters()).dtype)
    losses = []
    for t in range(start, start + n_steps):
        rows = slice(5 * (t % 4), 5 * (t % 4) + 5)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X[rows]).float(), y[rows])
        loss.backward()
        optimizer.step()
        if scheduler:
            scheduler.step()
        losses.append(loss.item())
    return losses


def weights(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


@pytest.fixture(params=KINDS)
def make(request):
    return KINDS[request.param]


def through_a_file(state):
    stored = io.BytesIO()
    torch.save(state, stored)
    stored.seek(0)
    return torch.load(stored, weights_only=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_resumed_run_is_the_same_run(make, dtype):
    model = network(dtype)
    optimizer = make(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    run(model, optimizer, 5, scheduler=scheduler)
    other = copy.deepcopy(model)
    resumed = make(other.parameters(), lr=7.0)
    schedule = torch.optim.lr_scheduler.StepLR(resumed, 2, gamma=0.5)
    given = optimizer.state_dict()
    resumed.load_state_dict(given)  # nothing of it is shared
    schedule.load_state_dict(scheduler.state_dict())
    stored = through_a_file(given)
    run(model, optimizer, 5, 5, scheduler)
    run(other, resumed, 5, 5, schedule)
    assert torch.equal(weights(model), weights(other))
    for name in ("state", "param_groups"):
        assert len(stored[name]) == len(resumed.state_dict()[name])
    for p, q in zip(model.parameters(), other.parameters()):
        for key, value in optimizer.state[p].items():
            twin = resumed.state[q][key]
            if isinstance(value, torch.Tensor):
                assert value.dtype == twin.dtype and torch.equal(value, twin), key


def test_copies_and_pickles_go_on_alike(make):
    model = network()
    optimizer = make(model.parameters())
    run(model, optimizer, 3)
    twin_model, twin = copy.deepcopy((model, optimizer))
    far_model, far = pickle.loads(pickle.dumps((model, optimizer)))
    for m, o in [(model, optimizer), (twin_model, twin), (far_model, far)]:
        run(m, o, 3, 3)
    assert torch.equal(weights(model), weights(twin_model))
    assert torch.equal(weights(model), weights(far_model))


def test_gradients_are_left_as_they_are(make):
    model = network()
    optimizer = make(model.parameters())
    for _ in range(2):
        run(model, optimizer, 1)
        given = [p.grad.clone() for p in model.parameters()]
        optimizer.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), given))


def test_losses_fall(make):
    model = network()
    losses = run(model, make(model.parameters()), 60)
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])


def test_closures_are_called_with_gradients_on_and_their_loss_comes_back(make):
    model, twin = network(), network()
    X, y = problem()
    optimizer, other = make(model.parameters()), make(twin.parameters())

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X), y)
        loss.backward()
        return loss

    with torch.no_grad():
        found = optimizer.step(closure)
    wanted = nn.functional.cross_entropy(twin(X), y)
    wanted.backward()
    assert other.step() is None
    assert found.item() == wanted.item()
    assert torch.equal(weights(model), weights(twin))


def test_steps_inside_autocast_are_those_outside(make):
    found = []
    for inside in (False, True):
        model = network()
        optimizer = make(model.parameters())
        for t in range(3):
            for i, p in enumerate(model.parameters()):
                generator = torch.Generator().manual_seed(10 * t + i)
                p.grad = torch.randn(p.shape, generator=generator)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
                optimizer.step()
        found.append(weights(model))
    assert torch.equal(*found)


def test_parameters_without_gradients_stay_and_may_get_some_later(make):
    model = network()
    last, head = model[5].weight, model[6].weight
    head.requires_grad_(False)
    optimizer = make(model.parameters())
    before = head.clone()
    run(model, optimizer, 2)
    assert torch.equal(head, before)
    head.requires_grad_(True)
    run(model, optimizer, 2)
    assert not torch.equal(head, before)
    before, other = last.clone(), head.detach().clone()
    optimizer.zero_grad()
    head.square().sum().backward()  # one parameter alone has a gradient
    optimizer.step()
    assert torch.equal(last, before) and not torch.equal(head, other)
    optimizer.zero_grad()
    optimizer.step()  # and none


def test_groups_have_rates_of_their_own_and_later_ones_are_checked(make):
    model = network()
    optimizer = make([
        {"params": model[0].parameters(), "lr": 0.0, "weight_decay": 0.0},
        {"params": model[2].parameters()},
    ])  # fmt: skip
    still, moving = model[0].weight.clone(), model[2].weight.clone()
    run(model, optimizer, 2)
    assert torch.equal(model[0].weight, still)
    assert not torch.equal(model[2].weight, moving)
    with pytest.raises(ValueError, match="lr must be at least 0"):
        optimizer.add_param_group({"params": model[5].parameters(), "lr": -1.0})
    assert len(optimizer.param_groups) == 2
    optimizer.add_param_group({"params": model[5].parameters()})
    before = model[5].weight.clone()
    run(model, optimizer, 3)
    assert not torch.equal(model[5].weight, before)


def test_zero_gradients_and_rates_of_zero_move_nothing(make):
    model = network()
    optimizer = make(model.parameters(), weight_decay=0.0)
    before = weights(model)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert torch.equal(weights(model), before)


def test_units_of_the_loss_are_no_matter():
    """Adam's rule and orthogonal steps forget the length of gradients."""
    for make in (lambda p: DCTAdamW(p, rank=3, eps=1e-30), KINDS["Trion"]):
        found = []
        for unit in (1.0, 2.0**20, 2.0**-20):
            p = nn.Parameter(torch.zeros(8, 6, dtype=torch.float64))
            optimizer = make([p])
            for t in range(3):
                generator = torch.Generator().manual_seed(t)
                p.grad = unit * torch.randn(8, 6, generator=generator, dtype=torch.float64)
                optimizer.step()
            found.append(p.detach().clone())
        for other in found[1:]:
            torch.testing.assert_close(other, found[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_are_refused_before_anything_moves(make, bad):
    model = network()
    optimizer = make(model.named_parameters())
    run(model, optimizer, 2)
    before, state = weights(model), copy.deepcopy(optimizer.state_dict())
    model[5].bias.grad[3] = bad
    with pytest.raises(ValueError, match=r"parameter '5.bias' has NaN or infinity.*smaller lr"):
        optimizer.step()
    assert torch.equal(weights(model), before)
    for key, found in optimizer.state_dict()["state"].items():
        for name, value in found.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(state["state"][key][name]))
    plain = make(model.parameters())
    with pytest.raises(ValueError, match=r"parameter \d of group 0 \(shape \(12,\)\) has NaN"):
        plain.step()


def test_large_gradients_are_no_infinity(make):
    p = nn.Parameter(torch.ones(8, 8))
    optimizer = make([p])
    p.grad = torch.full((8, 8), 1e15)
    optimizer.step()
    assert bool(torch.isfinite(p).all())


def test_sparse_complex_integer_and_manifold_parameters_are_refused(make):
    table = nn.Embedding(6, 8, sparse=True)
    table(torch.tensor([1])).sum().backward()
    optimizer = make(table.parameters())
    before = table.weight.detach().clone()
    with pytest.raises(ValueError, match=r"sparse: make its layer with sparse=False.*SparseAdam"):
        optimizer.step()
    assert torch.equal(table.weight, before)
    with pytest.raises(ValueError, match="real parameters, and parameter 0 .* is complex64"):
        make([torch.zeros(3, 3, dtype=torch.complex64, requires_grad=True)])
    subspace = nn.Parameter(torch.eye(4))
    subspace.manifold = "grassmann"
    with pytest.raises(ValueError, match="on the manifold 'grassmann'.*RiemannianSGD"):
        make([subspace])


def test_sizes_of_states_are_said(make):
    model = network()
    optimizer = make(model.parameters())
    assert optimizer.state_bytes() == 0
    run(model, optimizer, 1)
    wanted = sum(
        value.nbytes
        for state in optimizer.state_dict()["state"].values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    )
    assert optimizer.state_bytes() == wanted > 0


@pytest.mark.parametrize("cls", [DCTAdamW, Trion, MFAC])
@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"lr": -0.1}, ValueError, "lr must be at least 0 and finite, got -0.1"),
        ({"lr": float("nan")}, ValueError, "lr must be"),
        ({"lr": "fast"}, TypeError, "lr must be a number"),
        ({"weight_decay": -1}, ValueError, "weight_decay must be"),
        ({"rank": 0}, ValueError, "rank must be an integer of at least 1, or a share"),
        ({"rank": 1.5}, ValueError, "rank must be"),
        ({"rank": True}, TypeError, "rank must be"),
        ({"max_dim": 0}, ValueError, "max_dim must be at least 1"),
        ({"betas": (0.9, 1.0)}, ValueError, r"betas\[1\] must be at least 0 and below 1"),
        ({"betas": 0.9}, TypeError, "betas must be two numbers"),
        ({"eps": -1.0}, ValueError, "eps must be"),
        ({"update_gap": 0}, ValueError, "update_gap must be at least 1"),
        ({"update_gap": 2.0}, TypeError, "update_gap must be an integer"),
        ({"error_feedback": "yes"}, TypeError, "error_feedback must be True or False"),
        ({"norm": "l3"}, ValueError, "norm must be one of l1, l2, got 'l3'"),
        ({"transform": "dst"}, ValueError, "transform must be one of auto, fft, matmul"),
        ({"scale": "mu"}, ValueError, "scale must be one of muon, moonshot, rms, dion, none"),
        ({"momentum": 1.0}, ValueError, "momentum must be at least 0 and below 1"),
        ({"ns_steps": 0}, ValueError, "ns_steps must be at least 1"),
        ({"aux_lr": -1}, ValueError, "aux_lr must be"),
        ({"damping": 0}, ValueError, "damping must be above 0 and finite, got 0"),
        ({"n_gradients": 0}, ValueError, "n_gradients must be at least 1"),
        ({"warmup": "none"}, ValueError, "warmup must be one of exact, official"),
        ({"clip": 0}, ValueError, "clip must be above 0"),
    ],
)
def test_wrong_options_are_named(cls, options, error, message):
    parameters = [nn.Parameter(torch.zeros(3, 3))]
    if next(iter(options)) not in cls(parameters).defaults:
        return
    with pytest.raises(error, match=message):
        cls(parameters, **options)
    with pytest.raises(ValueError, match="empty parameter list"):
        cls([])


@pytest.mark.parametrize(
    "cls, option, value",
    [(DCTAdamW, "rank", 4), (DCTAdamW, "rank", 9), (DCTAdamW, "max_dim", 2), (Trion, "max_dim", 2),
     (MFAC, "n_gradients", 3)],
)  # fmt: skip
def test_options_that_the_state_was_made_with_do_not_change_in_silence(cls, option, value):
    model = network()
    options = {"n_gradients": 4} if cls is MFAC else {"rank": 3}
    optimizer = cls(model.parameters(), **options)
    run(model, optimizer, 1)
    optimizer.param_groups[0][option] = value
    with pytest.raises(ValueError, match=f"{option}.* was changed after the first step"):
        optimizer.step()


def test_error_feedback_may_be_switched():
    model = network()
    optimizer = DCTAdamW(model.parameters(), rank=3)
    run(model, optimizer, 1)
    more = optimizer.state_bytes()
    optimizer.param_groups[0]["error_feedback"] = False
    run(model, optimizer, 1)
    assert optimizer.state_bytes() < more
    optimizer.param_groups[0]["error_feedback"] = True
    run(model, optimizer, 1)
    assert optimizer.state_bytes() == more
