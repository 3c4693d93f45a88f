"""Adapters in files, ours and peft's: round trips, and what is refused whole."""

import copy
import hashlib
import importlib.util
import json
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.nn.adapters import (  # noqa: E402
    adapter_parameters,
    adapter_state_dict,
    add_adapter,
    disabled_adapter,
    export_peft,
    load_adapter,
    load_adapter_state_dict,
    merge_adapter,
    parameter_report,
    remove_adapter,
    save_adapter,
    set_adapter,
)

KINDS = ("lora", "block_lora", "svfit", "loldu", "flora")
HAS_SAFETENSORS = importlib.util.find_spec("safetensors") is not None


class Network(nn.Module):
    """A layer of each kind that peft knows."""

    def __init__(self, width=8):
        super().__init__()
        self.table = nn.Embedding(11, width, padding_idx=0)
        self.query = nn.Linear(width, 6)
        self.conv = nn.Conv1d(6, 9, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(9)
        self.classify = nn.Linear(9, 4)

    def forward(self, ids):
        h = torch.tanh(self.query(self.table(ids))).transpose(1, 2)
        return self.classify(self.norm(torch.tanh(self.conv(h)).mean(dim=-1)))


LAYERS = ["table", "query", "conv"]
IDS = torch.from_numpy(np.random.default_rng(0).integers(0, 11, (5, 7)))


def network(seed=0, width=8):
    torch.manual_seed(seed)
    return Network(width)


def trained(kind, seed=0, train=("classify",), **params):
    found = network()
    add_adapter(found, kind, targets=LAYERS, train=list(train), random_state=0, **params)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in adapter_parameters(found):
            p += 0.3 * torch.randn(p.shape, generator=generator)
    return found


def answer(module):
    with torch.no_grad():
        return module.eval()(IDS)


def untouched(module, state):
    assert type(module.query) is nn.Linear and not hasattr(module, "_adapter_record")
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_adapter_says_the_same_in_the_bare_network(kind, tmp_path):
    given = trained(kind)
    wanted = answer(given)
    save_adapter(given, tmp_path / "made" / "for it")
    fresh = network()
    state = {key: value.clone() for key, value in fresh.state_dict().items()}
    assert load_adapter(fresh, tmp_path / "made" / "for it", "again") == LAYERS
    assert torch.equal(answer(fresh), wanted)
    assert {row["adapter"] for row in parameter_report(fresh)["layers"]} == {"again"}
    assert parameter_report(fresh)["trainable"] == parameter_report(given)["trainable"]
    with disabled_adapter(fresh):
        assert torch.equal(answer(fresh), answer(network()))
    untouched(remove_adapter(fresh), state)


def test_files_are_small(tmp_path):
    """SVFit of twelve layers of width 384 takes some kilobytes."""
    torch.manual_seed(0)
    given = nn.Sequential(*(nn.Linear(96, 96) for _ in range(12)))
    add_adapter(given, "svfit", targets="all")
    save_adapter(given, tmp_path, save_bases=False)
    (file,) = tmp_path.glob("adapter.*")
    assert file.stat().st_size < 12 * 96 * 4 + 12 * 1000
    with_bases = tmp_path / "bases"
    save_adapter(given, with_bases, save_bases=True)
    assert next(with_bases.glob("adapter.*")).stat().st_size > 12 * 96 * 96 * 8


def test_bases_are_saved_where_others_could_be_chosen(tmp_path):
    given = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 4))
    with torch.no_grad():
        given[0].weight.copy_(torch.eye(6))
    add_adapter(given, "svfit", targets="all")
    save_adapter(given, tmp_path)
    config = json.loads((tmp_path / "sklr_adapter.json").read_text())
    assert [layer["bases"] for layer in config["layers"]] == [True, False]


def test_in_memory():
    given = trained("lora", rank=2)
    state = adapter_state_dict(given)
    assert state.keys() <= given.state_dict().keys()
    assert len(state) == 2 * 3 + 2
    other = trained("lora", seed=1, rank=2)
    load_adapter_state_dict(other, state)
    assert torch.equal(answer(other), answer(given))
    before = answer(other)
    for broken, message in (
        ({key: state[key] for key in list(state)[:-1]}, "missing"),
        (state | {"more": torch.ones(2)}, "not known"),
        (adapter_state_dict(trained("lora", rank=3)), "another rank"),
        (state | {"classify.bias": torch.full((4,), torch.nan)}, "not finite"),
        (state | {"classify.bias": [0, 0, 0, 0]}, "no tensor"),
    ):
        with pytest.raises(ValueError, match=message):
            load_adapter_state_dict(other, broken)
        assert torch.equal(answer(other), before)


def test_several_by_name(tmp_path):
    given = network()
    for name in ("one", "two"):
        add_adapter(given, "lora", targets=LAYERS, name=name, train="classify")
        with torch.no_grad():
            for p in adapter_parameters(given):
                p += 0.1 * torch.randn_like(p)
        said = answer(given)
        save_adapter(given, tmp_path / name)
    set_adapter(given, "one")
    save_adapter(given, tmp_path / "two again", "two")
    fresh = network()
    load_adapter(fresh, tmp_path / "one")
    load_adapter(fresh, tmp_path / "two again")
    assert torch.equal(answer(fresh), said)
    with pytest.raises(ValueError, match="'two' already"):
        load_adapter(fresh, tmp_path / "two")
    set_adapter(fresh, ["one"])
    assert torch.equal(answer(fresh), answer(given))
    set_adapter(fresh, [])
    with pytest.raises(ValueError, match="0 adapters are active"):
        save_adapter(fresh, tmp_path)


def test_a_converted_network_is_loaded_where_it_is_wanted(tmp_path):
    given = trained("lora")
    save_adapter(given, tmp_path)
    wide = network().double()
    with pytest.raises(ValueError, match="checksum differs.*check_base=False"):
        load_adapter(wide, tmp_path)
    load_adapter(wide, tmp_path, check_base=False)
    torch.testing.assert_close(answer(wide).float(), answer(given))


def rewrite(folder, change):
    path = folder / "sklr_adapter.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def of_layer(**values):
    return lambda config: config["layers"][1].update(values)


def of_settings(**values):
    return lambda config: [layer["settings"].update(values) for layer in config["layers"]]


BROKEN = {
    "another format": (lambda c: c.update(format="peft"), "format"),
    "a later version": (lambda c: c.update(version=2), "version 2.*reads 1"),
    "another kind": (lambda c: c.update(kind="svfit"), "settings that 'svfit' does not take"),
    "unknown kind": (lambda c: c.update(kind="os.system"), "kind is 'os.system'"),
    "a path": (lambda c: c.update(file="../../secret.pt"), "file has another name"),
    "checksum": (lambda c: c.update(sha256="0" * 64), "is not the file that"),
    "no layers": (lambda c: c.update(layers=[]), "no layers"),
    "a layer twice": (lambda c: c["layers"].append(c["layers"][0]), "stands twice"),
    "another network": (of_layer(name="key"), "of another network: layer 'key' is not there"),
    "another shape": (of_layer(shape=[6, 9]), r"shape \(6, 8\), the file says \(6, 9\)"),
    "another base": (of_layer(base="0" * 64), "checksum differs"),
    "negative shape": (of_layer(shape=[-6, -8]), "damaged"),
    "another rank": (of_settings(rank=3), "another rank"),
    "a huge rank": (of_settings(rank=10**9), "rank must be between 1 and"),
    "a rank that is none": (of_settings(rank="all"), "rank must be None"),
    "unknown settings": (of_settings(command="rm"), "does not take"),
    "other settings": (of_layer(settings={"rank": 2, "alpha": 3, "dropout": 0}), "different"),
    "another parameter": (lambda c: c.update(trained=["head.weight"]), "trains 'head.weight'"),
    "one layer less": (lambda c: c["layers"].pop(), "not known"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_fit_is_refused_whole(case, tmp_path):
    save_adapter(trained("lora", rank=2), tmp_path)
    change, message = BROKEN[case]
    rewrite(tmp_path, change)
    fresh = network()
    state = {key: value.clone() for key, value in fresh.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_adapter(fresh, tmp_path)
    untouched(fresh, state)


class Malicious:
    def __reduce__(self):
        return (print, ("code of the file has run",))


def test_damaged_and_malicious_files(tmp_path, capsys):
    given = trained("lora", rank=2)
    fresh = network()
    state = {key: value.clone() for key, value in fresh.state_dict().items()}
    with pytest.raises(FileNotFoundError):
        load_adapter(fresh, tmp_path / "nowhere")

    def refused(message):
        with pytest.raises(ValueError, match=message):
            load_adapter(fresh, tmp_path)
        untouched(fresh, state)

    def write(content):
        file.write_bytes(content)
        sha = hashlib.sha256(content).hexdigest()
        rewrite(tmp_path, lambda config: config.update(sha256=sha))

    save_adapter(given, tmp_path)
    (file,) = tmp_path.glob("adapter.*")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    refused("damaged")
    write(whole[: len(whole) // 2])
    refused("truncated")
    file.unlink()
    file = tmp_path / "adapter.pt"
    rewrite(tmp_path, lambda config: config.update(file="adapter.pt"))
    write(pickle.dumps({"layers.query.A": Malicious()}))
    refused("something else than weights")
    assert "has run" not in capsys.readouterr().out
    write(b"\0" * 2**22)
    refused("too many")
    values = adapter_state_dict(given)
    values = {key.replace(".adapters.weight.default", ""): v for key, v in values.items()}
    values = {f"layers.{k}" if k[-1] in "AB" else f"trained.{k}": v for k, v in values.items()}
    torch.save(values, file)
    write(file.read_bytes())
    load_adapter(network(), tmp_path)  # whole, it is read
    torch.save(values | {"layers.query.A": values["layers.query.A"] * torch.inf}, file)
    write(file.read_bytes())
    refused("not finite")
    (tmp_path / "sklr_adapter.json").write_text('{"format": ')
    refused("no JSON")
    (tmp_path / "sklr_adapter.json").write_text("[" * 100_000)
    refused("no JSON")
    (tmp_path / "sklr_adapter.json").write_text("[1]")
    refused("no dictionary")
    with torch.no_grad():
        given.query.adapters["weight"]["default"].A.fill_(torch.nan)
    with pytest.raises(ValueError, match="nothing is written"):
        save_adapter(given, tmp_path)


def test_a_waiting_adapter_is_active_again_after_a_refusal(tmp_path):
    save_adapter(trained("lora", rank=2), tmp_path)
    rewrite(tmp_path, of_settings(rank=3))
    given = trained("svfit")
    wanted = answer(given)
    with pytest.raises(ValueError, match="another rank"):
        load_adapter(given, tmp_path, "second")
    assert torch.equal(answer(given), wanted)


# peft's files.


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_for_peft_is_read_back(kind, tmp_path):
    given = trained(kind, train=("classify", "norm"))
    wanted = answer(given)
    export_peft(given, tmp_path)
    fresh = network()
    load_adapter(fresh, tmp_path)
    torch.testing.assert_close(answer(fresh), wanted, rtol=1e-5, atol=1e-5)
    with disabled_adapter(fresh):
        assert torch.equal(answer(fresh), answer(network()))


@pytest.mark.skipif(not HAS_SAFETENSORS, reason="compares with peft")
@pytest.mark.parametrize("kind", KINDS)
def test_peft_loads_what_is_written_for_it(kind, tmp_path):
    peft = pytest.importorskip("peft", reason="compares with peft")
    given = trained(kind)
    export_peft(given, tmp_path)
    theirs = peft.PeftModel.from_pretrained(network(), str(tmp_path))
    torch.testing.assert_close(answer(theirs), answer(given), rtol=1e-5, atol=1e-5)
    merged = theirs.merge_and_unload()
    torch.testing.assert_close(answer(merged), answer(merge_adapter(given)), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not HAS_SAFETENSORS, reason="compares with peft")
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"alpha_pattern": {"query": 3}}])
def test_what_peft_saved_is_read(options, tmp_path):
    peft = pytest.importorskip("peft", reason="compares with peft")
    config = peft.LoraConfig(
        r=3, lora_alpha=16, target_modules=LAYERS, modules_to_save=["classify"], **options
    )
    config.rank_pattern = {"table": 10}  # more than the table's eight columns
    theirs = peft.get_peft_model(network(), config)
    with torch.no_grad():
        for p in theirs.parameters():
            if p.requires_grad:
                p += 0.2 * torch.randn_like(p)
        theirs.base_model.model.table.lora_embedding_A["default"][:, 0] = 0  # of the padding
    theirs.save_pretrained(str(tmp_path))
    ours = network()
    assert load_adapter(ours, tmp_path) == LAYERS
    torch.testing.assert_close(answer(ours), answer(theirs), rtol=1e-5, atol=1e-5)


def test_what_peft_does_otherwise_is_not_written(tmp_path):
    torch.manual_seed(0)
    for layer, message in (
        (nn.Conv1d(4, 6, 3, groups=2), "groups"),
        (nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular"), "padding"),
        (nn.Conv1d(4, 6, 3, dilation=2), "dilated"),
        (nn.ConvTranspose1d(4, 6, 3), "ConvTranspose1d"),
        (nn.MultiheadAttention(4, 2), "MultiheadAttention"),
    ):
        given = nn.Sequential(layer, nn.Linear(6, 2))
        add_adapter(given, "lora", targets="0")
        with pytest.raises(ValueError, match=message):
            export_peft(given, tmp_path)
    assert not list(tmp_path.iterdir())
    given = nn.ModuleDict({"a": nn.Linear(3, 4), "head": nn.Linear(4, 2), "ahead": nn.Linear(2, 2)})
    add_adapter(given, "lora", targets="a", train="head")
    with pytest.raises(ValueError, match="end of the names.*ahead"):
        export_peft(given, tmp_path)


PEFT_BROKEN = {
    "dora": (dict(use_dora=True), "use_dora=True"),
    "another kind": (dict(peft_type="ADALORA"), "only LoRA of peft is read"),
    "bias": (dict(bias="all"), "bias='all'"),
    "pissa": (dict(init_lora_weights="pissa"), "changes the given weights"),
    "alpha": (dict(lora_alpha="1"), "lora_alpha"),
}


@pytest.mark.parametrize("case", PEFT_BROKEN)
def test_options_of_peft_that_are_not_read(case, tmp_path):
    export_peft(trained("lora", rank=2), tmp_path)
    values, message = PEFT_BROKEN[case]
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values | {"alpha_pattern": {}}))
    fresh = network()
    state = {key: value.clone() for key, value in fresh.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_adapter(fresh, tmp_path)
    with pytest.raises(
        ValueError, match="of another network|only LoRA|not read|changes|lora_alpha"
    ):
        load_adapter(network(width=9), tmp_path)
    untouched(fresh, state)


def test_running_statistics_belong_to_the_adapter(tmp_path):
    def make():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).eval()

    X = torch.randn(30, 5) * 3 + 1
    given, network = make(), make()
    add_adapter(network, "lora", rank=2)
    for p in adapter_parameters(network):
        p.data.normal_()
    network.train()(X)
    wanted = network.eval()(X)
    with disabled_adapter(network):
        assert torch.equal(network(X), given(X))
    assert torch.equal(network(X), wanted)
    save_adapter(network, tmp_path / "one")
    other = make()
    load_adapter(other, tmp_path / "one")
    assert torch.equal(other(X), wanted)
    assert other[1].num_batches_tracked == 1
    other = make()
    add_adapter(other, "lora", rank=2)
    load_adapter_state_dict(other, adapter_state_dict(network))
    assert torch.equal(other(X), wanted)
    # A second adapter begins with the given ones, and each goes on with its own.
    add_adapter(network, "lora", rank=2, name="second")
    assert torch.equal(network(X), given(X))
    network.train()(X + 5)
    set_adapter(network, "default")
    assert torch.equal(network.eval()(X), wanted)
    remove_adapter(network)
    for key, value in given.state_dict().items():
        assert torch.equal(network.state_dict()[key], value), key


def test_running_statistics_stay_in_a_merged_network_and_go_to_peft(tmp_path):
    network = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6))
    other = copy.deepcopy(network).eval()
    add_adapter(network, "lora", targets="all")
    X = torch.randn(30, 5) * 3 + 1
    network.train()(X)
    wanted = network.eval()(X)
    export_peft(network, tmp_path)
    load_adapter(other, tmp_path)
    torch.testing.assert_close(other(X), wanted)
    assert torch.equal(merge_adapter(network)(X), wanted)
