"""What compression costs a task: clicks, sentiment of sentences; and gradients of single samples.

Clicks: 8 fields of 500 categories (Zipf 1.1), labels from an interaction of rank 3 of latent
vectors of the fields, 50,000 rows, 10,000 of them to test on; a network of embeddings of length 16,
their products of pairs and a perceptron 128-128-128. Embeddings to rank 4 and the perceptron to
rank 24, AUC. Sentiment: all-MiniLM-L6-v2 with a logistic head that was fitted on
1,200 snippets of film reviews; its 36 encoder layers at 70 % and 40 %, from 128 labelled snippets;
accuracy of 500 others, the head as it was. Gradients: the Fisher information of the perceptron
64-128-128-10 on 1,200 digits, against one backward pass a sample. Sizes and seeds were fixed before
the first run.
"""

import gzip
import os
import pathlib
import warnings

from _common import cpu, flops_of, one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from bench_compression import METHODS, WITH_LABELS, MiniLM, digits_network  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402
from torch import nn  # noqa: E402

from sklr.nn.compression import FisherWeightedSVD  # noqa: E402


def click_data(seed):
    """Return ids of 8 fields and labels."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, 501) ** 1.1
    ids = rng.choice(500, (50_000, 8), p=share / share.sum())
    latent = rng.standard_normal((8, 500, 3))
    found = latent[np.arange(8), ids]
    total = found.sum(axis=1)
    score = ((total**2 - (found**2).sum(axis=1)) / 2).sum(axis=1)
    score = score / score.std() + rng.standard_normal(8)[None].repeat(50_000, 0).mean(axis=1)
    y = rng.random(50_000) < 1 / (1 + np.exp(-2 * score))
    return torch.from_numpy(ids), torch.from_numpy(y).float()


class Clicks(nn.Module):
    """Factorisation machine and perceptron on the same embeddings."""

    def __init__(self):
        super().__init__()
        self.fields = nn.ModuleList(nn.Embedding(500, 16) for _ in range(8))
        self.linear = nn.ModuleList(nn.Embedding(500, 1) for _ in range(8))
        self.deep = nn.Sequential(
            *(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()),
            *(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1)),
        )
        for table in self.fields:
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, ids):
        """Return the logits."""
        vectors = torch.stack([table(ids[:, i]) for i, table in enumerate(self.fields)], dim=1)
        first = sum(table(ids[:, i]) for i, table in enumerate(self.linear))
        total = vectors.sum(dim=1)
        pairs = (total.square() - vectors.square().sum(dim=1)).sum(dim=1, keepdim=True) / 2
        return (first + pairs + self.deep(vectors.flatten(1)))[:, 0]


def clicks():
    """AUC of the network and of what compressors make of it, on other rows."""
    scores = {}
    for seed in range(1):
        ids, y = click_data(seed)
        torch.manual_seed(seed)
        network = Clicks()
        optimizer = torch.optim.Adam(network.parameters(), lr=5e-3, weight_decay=3e-4)
        for _ in range(8):
            for rows in torch.randperm(40_000).split(500):
                optimizer.zero_grad()
                loss = nn.functional.binary_cross_entropy_with_logits
                loss(network(ids[rows]), y[rows]).backward()
                optimizer.step()
        network.eval()
        ranks = {f"fields.{i}": 4 for i in range(8)} | {f"deep.{i}": 24 for i in (0, 2, 4)}

        def auc(module, ids=ids, y=y):
            with torch.no_grad():
                return roc_auc_score(y[40_000:], module(ids[40_000:]))

        scores.setdefault("network", []).append(auc(network))
        for name, make in METHODS.items():
            compressor = make(ranks).set_params(targets=list(ranks))
            made = compressor.fit(network, ids[:4000]).transform(network)
            scores.setdefault(name, []).append(auc(made))
            ratio = compressor.ratio_
    result = {name: round(float(np.mean(values)), 4) for name, values in scores.items()}
    result["parameters kept"] = round(ratio, 3)
    print(f"clicks, AUC: {result}")
    return result


class Sentiment(nn.Module):
    """MiniLM and a head: token ids and mask in, two logits out."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(384, 2)

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        """Return the logits."""
        return self.head(self.embed(input_ids, attention_mask, token_type_ids))

    def embed(self, input_ids, attention_mask, token_type_ids=None):
        """Return the means over tokens, of length 1."""
        hidden = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        mask = attention_mask[..., None]
        return nn.functional.normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=1)


def labelled():
    """Return 1,828 snippets and their labels."""
    path = pathlib.Path(os.environ["SKLR_TEST_DATA"]) / "movie-snippets/movie_snippets.tsv.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    rows = [row for row in rows if len(row[-1].split()) > 4]
    order = np.random.default_rng(1).permutation(len(rows))[:1828]
    return [rows[i][-1] for i in order], np.array([float(rows[i][1]) > 0 for i in order]).astype(
        int
    )


def sentiment():
    """Accuracy and cosine by method and share kept, with labels and without."""
    try:
        model = MiniLM()
    except ImportError as exc:
        print(f"sentiment is skipped: {exc}")
        return None
    texts, y = labelled()
    network = Sentiment(model.network).eval()

    def embeddings(module, some):
        with torch.inference_mode():
            return torch.cat([module.embed(**batch) for batch in model.batches(some, 50)])

    logistic = LogisticRegression(C=10).fit(embeddings(network, texts[:1200]), y[:1200])
    with torch.no_grad():
        zero = np.zeros_like(logistic.coef_)
        network.head.weight.copy_(torch.from_numpy(np.vstack([zero, logistic.coef_])))
        network.head.bias.copy_(torch.tensor([0.0, float(logistic.intercept_[0])]))
    test, labels = texts[1328:], y[1328:]
    wanted = embeddings(network, test)
    # Each batch brings its labels, as the loss of the last argument.
    batch = dict(model.tokenizer(texts[1200:1328], padding=True, return_tensors="pt"))
    result = {}
    for share in (1.0, 0.4, 0.7):
        for name, make in {**METHODS, **WITH_LABELS}.items():
            if share == 1 and name != "SVD":
                continue
            made, seconds = network, 0.0
            if share < 1:
                compressor = make(share).set_params(
                    targets=r"re:encoder\.encoder\..*", batch_size=16
                )
                seconds, made = cpu(
                    lambda c=compressor: c.fit(network, batch, y[1200:1328]).transform(network)
                )
            found = embeddings(made, test)
            with torch.inference_mode():
                right = made.head(found).argmax(dim=1).numpy() == labels
            accuracy, cosine = float(right.mean()), float((found * wanted).sum(dim=1).mean())
            result[f"{share:.0%}, {name}"] = {
                "accuracy": round(accuracy, 3),
                "cosine": round(cosine, 3),
                "seconds": round(seconds, 1),
            }
            print(f"sentiment, {share:.0%}, {name:10} {accuracy:.3f} {cosine:.3f} {seconds:.1f} s")
    return result


def gradients():
    """CPU seconds of the Fisher information, against a loop of backward passes."""
    network, X, y, *_ = digits_network(0)
    network = network.eval()

    def loop():
        total = [torch.zeros_like(p, dtype=torch.float64) for p in network.parameters()]
        for i in range(len(X)):
            loss = nn.functional.cross_entropy(network(X[i : i + 1]), y[i : i + 1])
            for sums, gradient in zip(total, torch.autograd.grad(loss, list(network.parameters()))):
                sums += gradient.double().square()
        return total

    ours = FisherWeightedSVD(8, batch_size=256)
    result = {
        "loop": cpu(loop, 5)[0],
        "ours, with the decompositions": cpu(lambda: ours.fit(network, X, y), 5)[0],
    }
    ratio = result["loop"] / result["ours, with the decompositions"]
    found = torch.from_numpy(ours.fisher_["0"])
    gap = float((found - loop()[0] / len(X)).abs().max() / found.max())
    print(f"gradients: the loop takes {ratio:.1f} x the time, differs by {gap:.1g}")
    work = flops_of(lambda: ours.fit(network, X, y))
    limit = share_of_limit(result["ours, with the decompositions"], flops32=work)
    return {**result, "ratio": round(ratio, 1), **limit}


def main(argv=None):
    """Run the parts and print their tables."""
    run_parts(
        __doc__,
        {"clicks": clicks, "gradients": gradients, "sentiment": sentiment},
        argv,
        before=lambda _: warnings.simplefilter("ignore"),
    )


if __name__ == "__main__":
    main()
