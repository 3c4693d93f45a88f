"""Optimisers of low rank: time of a step, memory, digits, a small transformer on characters.

Settings, sizes and seeds were fixed before the first run.

step: one 512 x 512 parameter, rank 64, float32, normal gradients; CPU milliseconds of a step,
median over interleaved rounds, peers galore-torch (a decomposition each step; its usual 200 steps)
and torch's Muon; memory beside AdamW's; a selection beside torch's SVD. digits: perceptron
64-128-128-10, 70/30, batches of 64, 15 epochs, three seeds, each method at its better of two rates
(by training loss); all matrices projected, ranks 8 and 32; GaLore with scale 1. characters: a
transformer of two blocks, width 64, two heads, 48 characters, batches of 16, 150 steps on 200,000
characters of Python's help texts (the last tenth is for validation), three seeds, the better of
two rates on the first seed; embeddings, head, biases and norms have AdamW everywhere, matrices of
the blocks have rank 16.
"""

import math
import statistics
import time
import warnings

from _common import flops_of, one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import torch  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from sklr.nn.optim import DCTAdamW, Trion, dct_select  # noqa: E402

torch.set_num_threads(1)
warnings.filterwarnings("ignore")
try:
    from galore_torch import GaLoreAdamW
except ImportError:
    GaLoreAdamW = None


def galore(matrices, rest, lr, rank, gap):
    """Return GaLore's AdamW, with torch's epsilon, no decay, and scale 1."""
    groups = [{"params": matrices, "rank": rank, "update_proj_gap": gap, "scale": 1.0}]
    groups[0]["proj_type"] = "std"
    groups += [{"params": rest}] if rest else []
    return [GaLoreAdamW(groups, lr=lr, eps=1e-8, no_deprecation_warning=True)]


def muon(matrices, rest, lr, rank):
    made = [torch.optim.Muon(matrices, lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")]
    return made + ([torch.optim.AdamW(rest, lr=lr, weight_decay=0.0)] if rest else [])


def low_rank_adamw(**options):
    def make(matrices, rest, lr, rank):
        groups = [{"params": matrices}] + ([{"params": rest, "rank": 10**6}] if rest else [])
        return [DCTAdamW(groups, lr=lr, rank=rank, weight_decay=0.0, **options)]

    return make


def trion(matrices, rest, lr, rank):
    return trion_scaled(matrices, rest, lr, rank, "moonshot")


def trion_scaled(matrices, rest, lr, rank, scale):
    made = [Trion(matrices, lr=lr, rank=rank, scale=scale)]
    return made + ([torch.optim.AdamW(rest, lr=lr, weight_decay=0.0)] if rest else [])


METHODS = {
    "AdamW": lambda m, o, lr, r: [torch.optim.AdamW([*m, *o], lr=lr, weight_decay=0.0)],
    "DCTAdamW": low_rank_adamw(),
    "DCTAdamW, no feedback": low_rank_adamw(error_feedback=False),
    "DCTAdamW, update_gap=50": low_rank_adamw(update_gap=50),
    "Trion": trion,
    # Came after the first run, which showed that the scale above is too small at small ranks.
    "Trion, scale rms": lambda m, o, lr, r: trion_scaled(m, o, lr, r, "rms"),
}
if hasattr(torch.optim, "Muon"):
    METHODS["Muon"] = muon
if GaLoreAdamW is not None:
    METHODS["GaLore, 200 steps"] = lambda m, o, lr, r: galore(m, o, lr, r, 200)
    METHODS["GaLore, each step"] = lambda m, o, lr, r: galore(m, o, lr, r, 1)


def held(optimizers):
    """Bytes that stay between steps, also within GaLore's projectors."""
    total = 0
    for optimizer in optimizers:
        for state in optimizer.state.values():
            for value in [*state.values(), getattr(state.get("projector"), "ortho_matrix", None)]:
                if isinstance(value, torch.Tensor):
                    total += value.numel() * value.element_size()
    return total


def bench_step():
    """CPU milliseconds of a step and bytes of its state, 512 x 512, rank 64."""
    n, rank, rounds = 512, 64, 10
    made, times = {}, {name: [] for name in METHODS}
    for name, method in METHODS.items():
        torch.manual_seed(0)
        p = nn.Parameter(torch.randn(n, n))
        p.grad = torch.randn(n, n)
        made[name] = method([p], [], 1e-3, rank)
        for _ in range(2):
            made[name][0].step()
    for _ in range(rounds):
        for name, (optimizer,) in made.items():
            # Whole periods would take long: what a refresh adds is added below.
            repeats = 1 if "each" in name or name == "Muon" else 5
            start = time.process_time()
            for _ in range(repeats):
                optimizer.step()
            times[name].append(1e3 * (time.process_time() - start) / repeats)
    found = {name: statistics.median(values) for name, values in times.items()}
    found["DCTAdamW, update_gap=50"] += (found["DCTAdamW"] - found["DCTAdamW, update_gap=50"]) / 50
    if "GaLore, each step" in found:
        found["GaLore, 200 steps"] += (
            found["GaLore, each step"] - found["GaLore, 200 steps"]
        ) / 200
    adamw = held(made["AdamW"])
    result = {}
    for name, value in found.items():
        work = flops_of(made[name][0].step)
        # At the least: parameter, gradient and two moments are read, all but one written.
        limit = share_of_limit(1e-3 * value, flops32=work, moved=7 * 4 * n * n)
        state = round(held(made[name]) / adamw, 3)
        result[name] = {"ms": round(value, 2), "state": state, **limit}
        print(f"  {name:24s} {value:7.2f} ms   state {held(made[name]) / adamw:.3f} x AdamW")
    G = torch.randn(n, n)
    ratios = []
    for _ in range(5):
        start = time.process_time()
        dct_select(G, rank)
        middle = time.process_time()
        torch.linalg.svd(G, full_matrices=False)
        ratios.append((time.process_time() - middle) / (middle - start))
    result["selection, SVD / ours"] = round(statistics.median(ratios), 1)
    print(f"  SVD / dct_select: {result['selection, SVD / ours']} x")
    return result


def bench_digits():
    """Accuracy and training loss after 15 epochs, mean of three seeds, the better of two rates."""
    X, y = load_digits(return_X_y=True)
    A, B, a, b = train_test_split(X / 16, y, test_size=0.3, random_state=0, stratify=y)
    A, B = torch.tensor(A).float(), torch.tensor(B).float()
    a, b = torch.tensor(a), torch.tensor(b)

    def run(method, lr, rank, seed):
        torch.manual_seed(seed)
        network = nn.Sequential(
            *(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
        )
        matrices = [p for p in network.parameters() if p.ndim == 2]
        rest = [p for p in network.parameters() if p.ndim < 2]
        optimizers = method(matrices, rest, lr, rank)
        for _ in range(15):
            for rows in torch.randperm(len(A)).split(64):
                network.zero_grad()
                F.cross_entropy(network(A[rows]), a[rows]).backward()
                for optimizer in optimizers:
                    optimizer.step()
        with torch.no_grad():
            loss = F.cross_entropy(network(A), a).item()
            return loss, (network(B).argmax(1) == b).float().mean().item()

    result = {}
    for rank in (8, 32):
        for name, method in METHODS.items():
            if (name in ("AdamW", "Muon") and rank == 32) or "gap" in name:
                continue
            runs = {lr: [run(method, lr, rank, seed) for seed in range(3)] for lr in (1e-3, 3e-3)}
            best = min(runs, key=lambda lr: sum(loss for loss, _ in runs[lr]))
            loss, accuracy = (statistics.mean(column) for column in zip(*runs[best]))
            key = name if name in ("AdamW", "Muon") else f"{name}, rank {rank}"
            result[key] = {"accuracy": round(accuracy, 4), "loss": round(loss, 4), "lr": best}
            print(f"  {key:34s} accuracy {accuracy:.3f}  loss {loss:.4f}  lr {best}", flush=True)
    return result


class Block(nn.Module):
    """Attention to what came before, and a perceptron."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x):
        """Return what comes out for (n, t, width)."""
        n, t, width = x.shape
        q, k, v = (
            part.view(n, t, self.heads, -1).transpose(1, 2)
            for part in self.mix(self.first(x)).chunk(3, dim=-1)
        )
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(n, t, width))
        return x + self.down(F.gelu(self.up(self.second(x))))


def bench_characters():
    """Validation loss (nats a character) of a small transformer after 150 steps, three seeds."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[key] for key in sorted(topics))[:200_000]
    letters = sorted(set(text))
    place = {letter: i for i, letter in enumerate(letters)}
    data = torch.tensor([place[letter] for letter in text])
    train, held_out = data[: len(data) * 9 // 10], data[len(data) * 9 // 10 :]
    t, width = 48, 64

    def batch(source, generator, size=16):
        starts = torch.randint(len(source) - t - 1, (size,), generator=generator)
        rows = source[starts[:, None] + torch.arange(t + 1)]
        return rows[:, :-1], rows[:, 1:]

    def run(method, lr, seed):
        torch.manual_seed(seed)
        network = nn.ModuleDict(
            {
                "letters": nn.Embedding(len(letters), width),
                "places": nn.Embedding(t, width),
                "blocks": nn.Sequential(Block(width, 2), Block(width, 2), nn.LayerNorm(width)),
                "head": nn.Linear(width, len(letters)),
            }
        )

        def loss_of(x, y):
            h = network["letters"](x) + network["places"].weight
            return F.cross_entropy(network["head"](network["blocks"](h)).flatten(0, 1), y.flatten())

        matrices = [p for p in network["blocks"].parameters() if p.ndim == 2]
        inside = {id(p) for p in matrices}
        rest = [p for p in network.parameters() if id(p) not in inside]
        optimizers = method(matrices, rest, lr, 16)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(150):
            network.zero_grad()
            loss_of(*batch(train, generator)).backward()
            for optimizer in optimizers:
                optimizer.step()
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            losses = [loss_of(*batch(held_out, generator, 64)).item() for _ in range(4)]
        return statistics.mean(losses), held(optimizers)

    result, adamw = {}, None
    for name, method in METHODS.items():
        if "each" in name or "gap" in name:
            continue
        rates = {lr: run(method, lr, 0) for lr in (3e-3, 1e-2)}
        best = min(rates, key=lambda lr: rates[lr][0])
        runs = [rates[best], *(run(method, best, seed) for seed in (1, 2))]
        mean = statistics.mean(loss for loss, _ in runs)
        spread = max(loss for loss, _ in runs) - min(loss for loss, _ in runs)
        adamw = adamw or runs[0][1]
        share = runs[0][1] / adamw
        result[name] = {
            "loss": round(mean, 3), "range": round(spread, 3), "lr": best, "state": round(share, 3),
        }  # fmt: skip
        print(
            f"  {name:24s} {mean:.3f} (range {spread:.3f})  perplexity {math.exp(mean):.2f}  "
            f"lr {best}  state {share:.2f} x AdamW",
            flush=True,
        )
    return result


PARTS = {"step": bench_step, "digits": bench_digits, "characters": bench_characters}


def main(argv=None):
    """Run the parts."""
    run_parts(__doc__, PARTS, argv)


if __name__ == "__main__":
    main()
