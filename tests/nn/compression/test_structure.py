"""Compressed networks in files and in fresh networks; with transformers, export and compile."""

import io
import pickle

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.nn._module_checks._cases import LAYER_ZOO, MODULE_CASES, call, case_of  # noqa: E402
from sklr.nn.compression import (  # noqa: E402
    AtomicFeatureMimicking,
    EigenspaceCompensation,
    LowRankDecomposition,
    WeightSVD,
    apply_structure,
    load_compressed,
    save_compressed,
)

COMPRESSORS = {
    "AFM": lambda: AtomicFeatureMimicking(2, targets="all"),
    "EoRA": lambda: EigenspaceCompensation(1, targets="all", center=True),
}


def compressed(case, name="AFM", seed=0):
    network, X = case.make(torch.float64, seed).eval(), case.data()
    return COMPRESSORS[name]().fit(network, X).transform(network), X


def plain(case, seed=5):
    return case.make(torch.float64, seed).eval()


def file_of(module, folder, ending=".pt"):
    path = folder / f"small{ending}"
    save_compressed(module, path)
    return path


@pytest.mark.filterwarnings("ignore::UserWarning:sklr")
@pytest.mark.parametrize("name", list(COMPRESSORS))
@pytest.mark.parametrize("case", [*MODULE_CASES, *LAYER_ZOO], ids=lambda case: case.name)
def test_a_fresh_network_becomes_the_compressed_one(case, name, tmp_path):
    small, X = compressed(case, name)
    fresh = plain(case)
    before = call(fresh, X)
    again = load_compressed(fresh, file_of(small, tmp_path))
    assert torch.equal(call(again, X), call(small, X))
    assert torch.equal(call(fresh, X), before)
    kinds = [[type(p).__name__ for p in module.modules()] for module in (again, small)]
    assert kinds[0] == kinds[1]
    for structure in (small, small.state_dict()):
        made = apply_structure(fresh, structure)
        made.load_state_dict(small.state_dict())
        assert torch.equal(call(made, X), call(small, X))


def test_other_weights_stay_the_given_networks():
    case = case_of("perceptron")
    small = WeightSVD(2).fit_transform(plain(case, 0))
    fresh = plain(case)
    made = apply_structure(fresh, small)
    assert torch.equal(made[0].weight, small[0].weight)
    assert torch.equal(made[4].weight, fresh[4].weight)
    assert made[4].weight.data_ptr() != fresh[4].weight.data_ptr()
    half = apply_structure(fresh.to(torch.bfloat16), small)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    # What is thin there already stays.
    assert torch.equal(call(apply_structure(small, small), case.data()), call(small, case.data()))


def test_safetensors(tmp_path):
    pytest.importorskip("safetensors", reason="needs safetensors")
    small, X = compressed(case_of("tied weights"))
    path = file_of(small, tmp_path, ".safetensors")
    again = load_compressed(plain(case_of("tied weights")), path)
    assert torch.equal(call(again, X), call(small, X))
    assert again.head.weight is again.embedding.weight
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="truncated"):
        load_compressed(plain(case_of("tied weights")), path)


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("code in the file was run",))


def test_bad_files_are_refused_whole(tmp_path):
    case = case_of("perceptron")
    small, X = compressed(case)
    path = file_of(small, tmp_path)
    whole = path.read_bytes()
    fresh = plain(case)
    before = call(fresh, X)

    def refused(message, module=fresh):
        with pytest.raises(ValueError, match=message):
            load_compressed(module, path)
        assert torch.equal(call(fresh, X), before)

    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused("truncated")
    path.write_bytes(pickle.dumps(Evil()))
    refused("refused")
    torch.save({"0.down.weight": Evil()}, path)
    refused("refused")
    torch.save(small, path)
    refused("refused")

    def written(**changes):
        state = {**small.state_dict(), **changes}
        torch.save({k: v for k, v in state.items() if v is not None}, path)

    state = small.state_dict()
    written(**{"0.down.weight": state["0.down.weight"][:, 1:]})
    refused("layer '0'")
    written(**{"0.down.weight": state["0.down.weight"][1:]})
    refused("layer '0'")
    written(**{"0.up.weight": None})
    refused("'0'")
    written(**{"2.up.bias": torch.full((12,), torch.nan)})
    refused("finite")
    written(**{"2.up.bias": torch.zeros(3)})
    refused("layer '2'")
    written(extra=torch.zeros(3))
    refused("extra")
    written(**{"9.down.weight": torch.zeros(2, 3)})
    refused("'9'")
    written(**{"0.up.weight": state["0.up.weight"].to(torch.complex64)})
    refused("complex")
    written(extra=torch.zeros(10**6))
    refused("another network")
    path.write_bytes(whole)
    refused("layer '0'", nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3)))
    with pytest.raises(TypeError, match="structure must be"):
        apply_structure(fresh, [1])
    with pytest.raises(TypeError, match="takes a torch.nn.Module"):
        load_compressed(None, path)


@pytest.mark.parametrize("kind, name", [("convolution", "AFM"), ("transformer layer", "EoRA")])
def test_compile_and_export(kind, name):
    case = case_of(kind)
    small, X = compressed(case, name)
    x = torch.from_numpy(X)
    with torch.no_grad():
        wanted = small(x)
    # The graph is what is ours; code generation would take minutes.
    graph = torch.compile(small, backend="aot_eager", fullgraph=True)
    assert torch.allclose(graph(x), wanted, rtol=1e-12, atol=1e-12)
    file = io.BytesIO()
    torch.export.save(torch.export.export(small, (x,)), file)
    file.seek(0)
    assert torch.allclose(torch.export.load(file).module()(x), wanted, rtol=1e-12, atol=1e-12)


def test_a_compressed_model_of_transformers_generates_and_trains(tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = transformers.GPT2Config(
        vocab_size=50,
        n_positions=32,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    network = transformers.GPT2LMHeadModel(config).eval()
    ids = torch.randint(2, 50, (40, 12))
    batches = [
        {"input_ids": part, "attention_mask": torch.ones_like(part)} for part in ids.split(8)
    ]
    for compressor in (LowRankDecomposition(0.6), EigenspaceCompensation(4)):
        small = compressor.fit(network, batches).transform(network)
        assert len(compressor.ranks_) == 8
        assert compressor.ratio_ < 1 or isinstance(compressor, EigenspaceCompensation)
        text = small.generate(ids[:2], max_new_tokens=5, do_sample=False, pad_token_id=1)
        assert text.shape[1] > 12
        again = load_compressed(
            transformers.GPT2LMHeadModel(config).eval(), file_of(small, tmp_path)
        )
        same = again.generate(ids[:2], max_new_tokens=5, do_sample=False, pad_token_id=1)
        assert torch.equal(text, same)
        optimizer = torch.optim.AdamW(small.parameters(), lr=1e-2)
        losses = []
        for _ in range(5):
            loss = small.train()(input_ids=ids, labels=ids).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0]
