"""Heat-geodesic embedding against PHATE, UMAP, Isomap and a landmark Isomap, by part.

Settings, sizes and seeds were written down before any run here. Scores are Spearman correlations
of embedded with true geodesic distances, averaged over points (DEMaP). Each part runs in a
process of its own: a kernel compiled for one does not weigh on the other, and first calls are
made on small data before anything is timed.

    python benchmarks/bench_heat_geodesic.py --parts roll tree noise times relations sizes large
    python benchmarks/bench_heat_geodesic.py --parts million     (needs 3 GB)
"""

import resource
import time
import warnings

from _common import one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import numpy as np  # noqa: E402
from scipy.spatial.distance import cdist, pdist  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402

warnings.simplefilter("ignore")


def embed_time(model, X):
    """CPU seconds, wall seconds, embedding."""
    cpu, wall = time.process_time(), time.perf_counter()
    Y = np.asarray(model.fit_transform(X))
    return time.process_time() - cpu, time.perf_counter() - wall, Y


def limit_of(seconds, model):
    """Share of the products that make the heat: as many as terms, for each landmark's column.

    The entropy of the times takes 32 columns to the longest of them.
    """
    from sklr.geometry import graph_laplacian
    from sklr.geometry._diffusion import _largest_eigenvalue_bound, chebyshev_order, hop_diameter

    L = graph_laplacian(model.affinity_matrix_)
    half, hops = 0.5 * _largest_eigenvalue_bound(L), hop_diameter(L)
    terms = [
        columns * chebyshev_order(t * half, hops)
        for t, columns in ((model.t_, len(model.landmark_indices_)), (model.t_grid_[-1], 32))
    ]
    return share_of_limit(seconds, flops=2 * L.nnz * sum(terms))


def demap(D_or_flat, Y, rows=300, columns=4000):
    """Spearman by row over random rows and columns; flat coordinates or a matrix of distances."""
    rng = np.random.default_rng(0)
    i = rng.choice(len(Y), min(rows, len(Y)), replace=False)
    j = rng.choice(len(Y), min(columns, len(Y)), replace=False)
    square = D_or_flat.shape[0] == D_or_flat.shape[1]
    true = D_or_flat[np.ix_(i, j)] if square else cdist(D_or_flat[i], D_or_flat[j])
    from scipy.stats import rankdata

    a, b = rankdata(true, axis=1), rankdata(cdist(Y[i], Y[j]), axis=1)
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    return float(np.mean((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))))


def ours(**options):
    from sklr.manifold import HeatGeodesicEmbedding

    return HeatGeodesicEmbedding(**{"random_state": 0, **options})


def phate(**options):
    from phate import PHATE

    return PHATE(**{"verbose": 0, "random_state": 0, "n_jobs": 1, **options})


def umap(**options):
    from umap import UMAP

    return UMAP(**{"random_state": 0, **options})


def opentsne(**options):
    from openTSNE import TSNE

    class Wrapped:
        def fit_transform(self, X):
            return TSNE(random_state=0, **options).fit(X)

    return Wrapped()


def isomap(**options):
    from sklearn.manifold import Isomap

    return Isomap(**options)


class LandmarkIsomap:
    """Shortest paths from landmarks, classic scaling, triangulation: nobody ships it."""

    def __init__(self, n_neighbors=10, n_landmarks=300):
        self.n_neighbors, self.n_landmarks = n_neighbors, n_landmarks

    def fit_transform(self, X):
        """Return positions."""
        from scipy.sparse.csgraph import dijkstra
        from sklearn.neighbors import kneighbors_graph

        from sklr.manifold._mds import classic_mds, triangulate

        graph = kneighbors_graph(X, self.n_neighbors, mode="distance")
        landmarks = np.random.default_rng(0).choice(len(X), self.n_landmarks, replace=False)
        D = dijkstra(graph, directed=False, indices=landmarks).T
        D[~np.isfinite(D)] = D[np.isfinite(D)].max()
        anchors = classic_mds(0.5 * (D[landmarks] + D[landmarks].T), 2)
        return triangulate(D, D[landmarks], anchors)


def roll(n, noise, seed, n_features=3):
    from sklr.datasets import make_geodesic_swiss_roll

    return make_geodesic_swiss_roll(n, noise=noise, n_features=n_features, random_state=seed)


def warm():
    X, _ = roll(300, 0.1, 9)
    ours().fit_transform(X)
    ours(n_prototypes=200).fit(X).transform(X)


def part_roll(out):
    """Clean roll of 2000 points, three seeds: score and CPU."""
    warm()
    umap(n_epochs=10).fit_transform(roll(300, 0.1, 9)[0])
    phate().fit_transform(roll(300, 0.1, 9)[0])
    methods = {
        "ours": ours, "phate": phate, "isomap": lambda: isomap(n_neighbors=10), "umap": umap,
    }  # fmt: skip
    found = {name: [] for name in methods}
    for seed in range(3):
        X, flat = roll(2000, 0.1, seed)
        for name, make in methods.items():
            model = make()
            cpu, _, Y = embed_time(model, X)
            found[name].append((cpu, demap(flat, Y)))
            if name == "ours":
                limit = limit_of(cpu, model)
    ours_cpu = np.median([cpu for cpu, _ in found["ours"]])
    for name, rows in found.items():
        cpu, scores = np.median([r[0] for r in rows]), [r[1] for r in rows]
        print(f"{name:8} CPU {cpu:6.2f} s ({cpu / ours_cpu:5.1f} x ours)  Spearman "
              f"{np.mean(scores):.4f} (worst {min(scores):.4f})")  # fmt: skip
        out[name] = {"cpu": cpu, "ratio": cpu / ours_cpu, "spearman": scores}
    out["ours"] |= limit


def part_fresh(out):
    """Clean roll of 2000 points, ten seeds that no choice was made on: ours alone."""
    scores = []
    for seed in range(10, 20):
        X, flat = roll(2000, 0.1, seed)
        scores.append(demap(flat, ours().fit_transform(X)))
    print(f"Spearman {np.mean(scores):.4f}, from {min(scores):.4f} to {max(scores):.4f}")
    out["spearman"] = scores


def part_tree(out, names=None):
    """Random-walk trees of 1000 points in 10 dimensions: DEMaP over ten trees each.

    The automatic time was chosen after seeing the first five, not the rest.
    """
    from sklr.datasets import make_random_walk_tree

    methods = {
        "ours": ours,
        "ours t=10": lambda: ours(t=10.0),
        "phate": phate,
        "isomap": lambda: isomap(n_neighbors=10),
        "umap": umap,
    }
    for noise in (1.0, 5.0, 10.0):
        row = out.setdefault(str(noise), {})
        for name, make in methods.items():
            if names and name not in names:
                continue
            scores = []
            for seed in (*range(5), *range(10, 15)):
                X, _, D = make_random_walk_tree(5, 200, noise=noise, random_state=seed)
                scores.append(demap(D, embed_time(make(), X)[2], rows=1000))
            row[name] = scores
        text = "  ".join(f"{name} {np.mean(s):.3f}" for name, s in row.items())
        print(f"noise sd {noise:4.1f}: {text}")


def part_times(out):
    """Automatic time against the best of a grid, clean data."""
    from sklr.datasets import make_random_walk_tree

    grid = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    for name in ("roll 1000", "roll 2000", "tree"):
        rows = []
        for seed in range(3):
            if name == "tree":
                X, _, true = make_random_walk_tree(5, 200, noise=0.1, random_state=seed)
            else:
                X, true = roll(int(name.split()[1]), 0.1, seed)
            auto = ours()
            score = demap(true, auto.fit_transform(X))
            best = {t: demap(true, ours(t=t).fit_transform(X)) for t in grid}
            rows.append({"auto": score, "t": auto.t_, "grid": best})
        means = {t: np.mean([r["grid"][t] for r in rows]) for t in grid}
        top = max(means, key=means.get)
        mean = np.mean([r["auto"] for r in rows])
        print(f"{name:10} auto {mean:.4f} (t {rows[0]['t']:.2f})  best on the grid "
              f"{means[top]:.4f} (t {top})  short by {means[top] - mean:.4f}")  # fmt: skip
        out[name] = rows


def part_noise(out, names=None):
    """Noise of sd 1 on 500 points, four seeds: twelve settings each, the best on the score."""
    times = ("auto", 10.0, 30.0, 100.0)
    ks = (4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30)
    grids = {
        "isomap": [(isomap, {"n_neighbors": k}) for k in ks],
        "phate": [(phate, {"knn": k, "t": t}) for k in (5, 10, 15) for t in ("auto", 30, 60, 120)],
        "umap": [
            (umap, {"n_neighbors": k, "min_dist": d})
            for k in (5, 10, 15, 20) for d in (0.0, 0.1, 0.5)
        ],
        "ours, plain": [(ours, {"n_neighbors": k, "t": t}) for k in (5, 10, 15) for t in times],
        "ours, triplet": [(ours, {"denoise": r, "t": t}) for r in (0.25, 0.5, 1.0) for t in times],
        "ours, smoothing": [(ours, {"smoothing": s, "t": t}) for s in (2, 5, 10) for t in times],
        "ours, pruning": [(ours, {"pruning": q, "t": t}) for q in (0.1, 0.2, 0.3) for t in times],
        "ours, mixed": [
            (ours, {"pruning": q, "smoothing": s, "t": t})
            for q in (0.0, 0.2) for s in (0, 5) for t in ("auto", 30.0, 100.0)
        ],
    }  # fmt: skip
    for name, settings in grids.items():
        if names and name not in names:
            continue
        table = []
        for make, options in settings:
            scores = []
            for seed in range(20, 24):
                X, flat = roll(500, 1.0, seed)
                scores.append(demap(flat, embed_time(make(**options), X)[2], rows=500))
            table.append((float(np.mean(scores)), {k: str(v) for k, v in options.items()}, scores))
        best = max(table, key=lambda row: row[0])
        print(f"{name:16} best of {len(table):2d}: {best[0]:.3f} {best[1]}", flush=True)
        print("    all, in order: " + " ".join(f"{row[0]:.3f}" for row in table), flush=True)
        out[name] = {"best": best, "all": table}


def part_defaults(out, names=None):
    """Defaults of all on 500 points, two seeds that no choice was made on: Spearman, CPU.

    Nothing is tuned, for nobody. First calls, in which kernels are compiled, are not timed. All in
    all below five CPU minutes.
    """
    from sklr.datasets import make_random_walk_tree

    def tree(noise, seed):
        X, _, D = make_random_walk_tree(5, 100, noise=noise, random_state=seed)
        return X, D

    sets = {
        "roll, noise .1": lambda s: roll(500, 0.1, s),
        "roll, noise 1": lambda s: roll(500, 1.0, s),
        "roll in 10-D, noise 1": lambda s: roll(500, 1.0, s, n_features=10),
        "tree, noise 1": lambda s: tree(1.0, s),
        "tree, noise 6": lambda s: tree(6.0, s),
    }
    methods = {
        "ours": ours, "isomap": isomap, "umap": umap, "openTSNE": opentsne, "phate": phate,
    }  # fmt: skip
    warm()
    for name, method in methods.items():
        if not names or name in names:
            method().fit_transform(roll(200, 0.1, 9)[0])
    for data, make in sets.items():
        row = out.setdefault(data, {})
        for name, method in methods.items():
            if names and name not in names:
                continue
            found = []
            for seed in (100, 101):
                X, true = make(seed)
                cpu, _, Y = embed_time(method(), X)
                found.append((demap(true, Y), cpu))
            row[name] = found
        text = "  ".join(
            f"{name} {np.mean([f[0] for f in r]):.3f} ({np.mean([f[1] for f in r]):.1f} s)"
            for name, r in row.items()
        )
        print(f"{data:22} {text}", flush=True)


def part_relations(out):
    """PHATE and an SNE-like layout are settings: how near the pictures are."""
    from sklearn.manifold import TSNE

    from sklr.datasets import make_random_walk_tree

    X, branch, _ = make_random_walk_tree(5, 120, noise=1.0, random_state=0)
    peer = phate(knn=10, t=20)
    Y = peer.fit_transform(X)
    like = ours(
        t=20.0, laplacian="normalized", harnack=0.0, scale_factor=2.0, denoise=1.0, mds="smacof"
    )
    default = ours()
    a = spearmanr(pdist(Y), pdist(like.fit_transform(X)))[0]
    b = spearmanr(pdist(Y), pdist(default.fit_transform(X)))[0]
    print(f"distances of PHATE's picture: PHATE-like setting {a:.3f}, defaults {b:.3f} (Spearman)")
    out["phate"] = {"like": float(a), "default": float(b)}

    def shared(P, Q, k=15):
        near = [np.argsort(cdist(A, A), axis=1)[:, 1 : k + 1] for A in (P, Q)]
        return float(np.mean([len(set(p) & set(q)) / k for p, q in zip(*near)]))

    rows = {}
    for seed in range(5):
        X, _, _ = make_random_walk_tree(5, 120, noise=1.0, random_state=seed)
        Z = TSNE(random_state=0, init="pca").fit_transform(X)
        other = TSNE(random_state=1, init="random").fit_transform(X)
        sne = {"t": time_of_perplexity(X, 30), "scale_factor": 2.0, "mds_weights": "heat",
               "mds": "smacof"}  # fmt: skip
        found = {
            "like": ours(**sne),
            "like, harnack=0": ours(**{**sne, "harnack": 0.0}),
            "default": ours(),
        }
        for name, model in found.items():
            rows.setdefault(name, []).append(shared(Z, model.fit_transform(X)))
        rows.setdefault("t-SNE, random start", []).append(shared(Z, other))
    print("15 neighbours shared with t-SNE, five trees: "
          + ", ".join(f"{name} {np.mean(v):.3f}" for name, v in rows.items()))  # fmt: skip
    out["sne"] = rows


def time_of_perplexity(X, perplexity):
    """Time at which the columns of the heat kernel have the entropy log(perplexity)."""
    from scipy.optimize import brentq

    from sklr.geometry import graph_laplacian, heat_kernel, neighbors_graph

    L = graph_laplacian(neighbors_graph(X, 10))

    def excess(log_t):
        H = np.maximum(heat_kernel(L, np.exp(log_t)), 1e-300)
        return -(H * np.log(H)).sum(axis=0).mean() - np.log(perplexity)

    return float(np.exp(brentq(excess, np.log(1e-2), np.log(1e2), xtol=1e-3)))


def part_sizes(out):
    """Time and stress by size, two threads."""
    warm()
    for n in (500, 1000, 2000, 4000, 10_000, 30_000, 100_000, 300_000):
        X, flat = roll(n, 0.1, 0)
        model = ours(n_jobs=2)
        cpu, wall, Y = embed_time(model, X)
        out[str(n)] = {"cpu": cpu, "wall": wall, "stress": model.stress_, "score": demap(flat, Y),
                       **limit_of(cpu, model)}  # fmt: skip
        print(f"{n:7d}: CPU {cpu:6.2f} s, wall {wall:6.2f} s, stress {model.stress_:.3f}, "
              f"Spearman {out[str(n)]['score']:.4f}", flush=True)  # fmt: skip


def part_large(out, names=("ours", "landmark isomap", "umap", "phate")):
    """100,000 points on the roll: ours and what else runs there."""
    X, flat = roll(100_000, 0.1, 0)
    new, new_flat = roll(100_000, 0.1, 1)
    for name in names:
        if name == "ours":
            warm()
            model = ours(n_jobs=2)
        elif name == "umap":
            umap(n_epochs=10).fit_transform(X[:500])
            model = umap(random_state=None, n_jobs=2)
        elif name == "phate":
            phate().fit_transform(X[:500])
            model = phate(n_jobs=2)
        else:
            model = LandmarkIsomap()
        cpu, wall, Y = embed_time(model, X)
        row = {"cpu": cpu, "wall": wall, "score": demap(flat, Y)}
        if name == "ours":
            row |= limit_of(cpu, model)
            start = time.perf_counter()
            Z = model.transform(new)
            row["transform"] = time.perf_counter() - start
            row["transform score"] = demap(np.r_[flat, new_flat], np.r_[Y, Z])
        out[name] = row
        print(name, {k: v if k == "limit" else round(v, 4) for k, v in row.items()}, flush=True)


def ten_dimensional(n, seed, noise=0.05):
    """Ten arcs of two radians, a product that is isometric to a cube, turned into 50-D."""
    rng = np.random.default_rng(seed)
    u = rng.uniform(0, 2, size=(n, 10))
    Q, _ = np.linalg.qr(np.random.default_rng(99).standard_normal((50, 20)))
    X = np.c_[np.cos(u), np.sin(u)] @ Q.T
    X += noise * rng.standard_normal(X.shape)
    return X, u


def part_million(out):
    """A million points: the roll in 3-D, a 10-D manifold with noise in 50-D."""
    warm()
    sets = {
        "roll, 3-D": (lambda n, s: roll(n, 0.1, s), 2),
        "10-D manifold in 50-D": (ten_dimensional, 10),
    }
    for name, (make, dim) in sets.items():
        X, u = make(1_000_000, 0)
        new, new_u = make(100_000, 1)
        model = ours(n_components=dim, n_jobs=2)
        cpu, wall, Y = embed_time(model, X)
        start = time.perf_counter()
        Z = model.transform(new)
        seconds = time.perf_counter() - start
        row = {
            "cpu": cpu, "wall": wall, "score": demap(u, Y), "transform": seconds,
            "transform score": demap(np.r_[u, new_u], np.r_[Y, Z]),
            "stress": model.stress_,
            "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }  # fmt: skip
        out[name] = row
        print(name, {k: round(v, 4) for k, v in row.items()}, flush=True)
        del X, u, Y, new, Z


PARTS = {
    name.removeprefix("part_"): function
    for name, function in list(globals().items())
    if name.startswith("part_")
}


def main(argv=None):
    """Run the parts and keep what other runs left in the file."""
    run_parts(
        __doc__,
        PARTS,
        argv,
        lambda parser: parser.add_argument(
            "--methods",
            dest="names",
            nargs="+",
            help="of the parts 'defaults', 'large', 'noise' and 'tree'",
        ),
    )


if __name__ == "__main__":
    main()
