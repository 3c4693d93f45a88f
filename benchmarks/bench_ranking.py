"""Rankings from implicit feedback: ours beside implicit's ALS and cmfrec's CMF_implicit.

    python benchmarks/bench_ranking.py [--parts movielens cora ppi blogcatalog limits] [--json FILE]

One choice in ten is held out (of MovieLens the ratings of 4 and more among them). NDCG@10 and
recall@10 over the rows that have any, choices of the training part left out; CPU seconds of the
fit on one thread. Everybody with what it comes with, and the peers also with the best of a grid:
chosen on a tenth of the training part and fitted again to all of it. Ours is not searched. Its
defaults were chosen on seed 0 of movielens, cora and ppi; seeds here are 1, 2, 3 (blogcatalog: 1).
`limits`: a fit of ours to all choices beside the products of its sweeps. Needs SKLR_TEST_DATA.
"""

import os
import pathlib
import statistics
import warnings
from functools import partial

from _common import cpu, one_blas_thread, run_parts, share_of_limit

one_blas_thread()
os.environ["NUMBA_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402
import scipy.sparse as sp  # noqa: E402

SEEDS = {"movielens": (1, 2, 3), "cora": (1, 2, 3), "ppi": (1, 2, 3), "blogcatalog": (1,)}
LIST = 10
DISCOUNT = 1 / np.log2(np.arange(2, LIST + 2))
IMPLICIT = [
    {"factors": factors, "alpha": alpha, "regularization": ridge}
    for factors in (64, 128)
    for alpha, ridge in ((1.0, 0.1), (1.0, 10.0), (5.0, 10.0), (5.0, 30.0))
]
CMFREC = [
    {"k": k, "alpha": alpha, "lambda_": ridge}
    for k in (64, 128)
    for alpha, ridge in ((1.0, 1.0), (1.0, 10.0), (5.0, 10.0), (5.0, 30.0))
]


def choices(name):
    """Rows, columns, strengths, shape, and which choices count when they are held out."""
    folder = pathlib.Path(os.environ["SKLR_TEST_DATA"])
    if name == "movielens":
        table = np.loadtxt(folder / "recommend" / "ratings.csv.gz", delimiter=",", skiprows=1)
        rows, cols = table[:, :2].astype(int).T
        return rows, cols, table[:, 2], (610, 9724), table[:, 2] >= 4
    stored = np.load(folder / "graphs" / f"{name if name != 'ppi' else 'ppi_homo_sapiens'}.npz")
    if name == "cora":
        indices, indptr = stored["attr_indices"], stored["attr_indptr"]
        shape = tuple(int(size) for size in stored["attr_shape"])
    else:
        indices, indptr = stored["adj_indices"], stored["adj_indptr"]
        shape = (int(stored["n_nodes"]),) * 2
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    return rows, indices, np.ones(len(rows)), shape, np.ones(len(rows), bool)


def measures(U, V, train, test):
    """NDCG and recall in lists of ten."""
    found = []
    for row in np.flatnonzero(np.diff(test.indptr)):
        wanted = test.indices[test.indptr[row] : test.indptr[row + 1]]
        scores = (V @ U[row]).astype(float)
        scores[train.indices[train.indptr[row] : train.indptr[row + 1]]] = -np.inf
        top = np.argpartition(-scores, LIST)[:LIST]
        hits = np.isin(top[np.argsort(-scores[top], kind="stable")], wanted)
        best = min(LIST, len(wanted))
        found.append((hits @ DISCOUNT / DISCOUNT[:best].sum(), hits.sum() / best))
    return tuple(float(value) for value in np.mean(found, axis=0))


def ours(train, **options):
    from sklr.decomposition import ImplicitFactorization

    entries = train.tocoo()
    model = ImplicitFactorization(random_state=0, shape=train.shape, **options)
    model.fit(np.c_[entries.row, entries.col], entries.data)
    return model.row_factors_, model.col_factors_


def implicit_als(train, **options):
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(num_threads=1, random_state=0, **options)
    model.fit(sp.csr_matrix(train.astype(np.float32)), show_progress=False)
    return model.user_factors, model.item_factors


def cmf_implicit(train, **options):
    from cmfrec import CMF_implicit

    # A matrix of full shape: its rows and columns are the ids. There are no biases, so that the
    # empty ones do no harm.
    model = CMF_implicit(nthreads=1, verbose=False, **options).fit(sp.coo_matrix(train))
    return model.A_, model.B_


def popularity(train):
    counts = np.bincount(train.indices, minlength=train.shape[1]).astype(float)
    return np.ones((train.shape[0], 1)), counts[:, None]


def matrix(rows, cols, values, shape):
    return sp.csr_array((values, (rows, cols)), shape=shape)


def one_split(name, seed):
    rows, cols, values, shape, relevant = choices(name)
    rng = np.random.RandomState(seed)
    held = rng.rand(len(rows)) < 0.1
    inner = ~held & (rng.rand(len(rows)) < 0.1)
    train = matrix(rows[~held], cols[~held], values[~held], shape)
    wanted = held & relevant
    test = matrix(rows[wanted], cols[wanted], np.ones(wanted.sum()), shape)
    kept = ~held & ~inner
    small = matrix(rows[kept], cols[kept], values[kept], shape)
    wanted = inner & relevant
    check = matrix(rows[wanted], cols[wanted], np.ones(wanted.sum()), shape)
    result = {}

    def note(label, fit, **options):
        seconds, factors = cpu(lambda: fit(train, **options))
        result[label] = (*measures(*factors, train, test), seconds)
        print(f"{name} {seed} {label:38}" + " {:.4f} {:.4f} {:6.2f} s".format(*result[label]),
              flush=True)  # fmt: skip

    note("popularity", popularity)
    note("ours", ours)
    note("ours, 64 factors", ours, n_components=64)
    for label, fit, grid in (
        ("implicit", implicit_als, IMPLICIT),
        ("cmfrec", cmf_implicit, CMFREC),
    ):
        try:
            note(label, fit)
        except ImportError as exc:
            print(f"{label}: skipped ({exc})")
            continue
        if name == "blogcatalog":
            continue  # the searches would take ten minutes
        best = max(grid, key=lambda options: measures(*fit(small, **options), small, check)[0])
        note(f"{label}, searched", fit, **best)
        result[f"{label}, found"] = best
    return result


def one_set(name):
    """Print and return the measures of each split, and their means."""
    if not os.environ.get("SKLR_TEST_DATA"):
        print("skipped: SKLR_TEST_DATA is not set")
        return None
    splits = [one_split(name, seed) for seed in SEEDS[name]]
    means = {
        label: [statistics.mean(split[label][i] for split in splits) for i in range(3)]
        for label in splits[0]
        if not label.endswith("found")
    }
    for label, row in means.items():
        print(f"{name} mean {label:38} {row[0]:.4f} {row[1]:.4f} {row[2]:6.2f} s")
    return {"splits": splits, "means": means}


def limits():
    """CPU seconds of ours on all choices, and the products of both sides' equations alone."""
    if not os.environ.get("SKLR_TEST_DATA"):
        print("skipped: SKLR_TEST_DATA is not set")
        return None
    from sklr.decomposition import ImplicitFactorization

    rows = []
    for name in SEEDS:
        i, j, values, shape, _ = choices(name)
        for k in (None, 64):
            model = ImplicitFactorization(
                random_state=0, shape=shape, **({} if k is None else {"n_components": k})
            )
            seconds, _ = cpu(lambda: model.fit(np.c_[i, j], values), 3)  # noqa: B023
            k = model.row_factors_.shape[1]
            # Each choice in both sides' equations, or in three steps of conjugate gradients.
            work = 2 * model.n_iter_ * len(i) * min(k**2 + 3 * k, 16 * k)
            rows.append(
                {"data": name, "choices": len(i), "factors": k, "sweeps": model.n_iter_,
                 "seconds": seconds, **share_of_limit(seconds, flops=work)}
            )  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def compile_kernels(_):
    warnings.simplefilter("ignore")
    ours(sp.random_array((300, 200), density=0.3, format="csr", rng=0), n_components=64)


def main(argv=None):
    """Run, print means, save."""
    parts = {name: partial(one_set, name) for name in SEEDS} | {"limits": limits}
    run_parts(__doc__, parts, argv, before=compile_kernels)


if __name__ == "__main__":
    main()
