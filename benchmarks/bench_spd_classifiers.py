"""Classifiers and transformers of SPD matrices against pyRiemann's, and the time of one predict.

CPU seconds, one BLAS thread for everybody, all in one run, medians; ratios are peer / ours. Sizes,
numbers of matrices and repeats were fixed before the first run: Wishart matrices of 3 d degrees of
freedom around two centres, 80 to fit and 80 to predict, d = 20, 50, 100, 160, 220.
"""

from _common import cpu, one_blas_thread, run_parts, share_of_limit, trials

one_blas_thread()

import numpy as np  # noqa: E402

SIZES = (20, 50, 100, 160, 220)


def matrices(d, n=160, seed=0):
    """Two classes of Wishart matrices, and their labels."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    centres = [0.3 * rng.standard_normal((d, d)) / np.sqrt(d) + np.eye(d) for _ in range(2)]
    out = np.empty((n, d, d))
    for i in range(n):
        Z = centres[y[i]] @ rng.standard_normal((d, 3 * d))
        out[i] = Z @ Z.T / (3 * d)
    return out, y


def bench_mdm(repeats, largest):
    """Fit and predict of minimum distance to mean."""
    from pyriemann.classification import MDM as Peer

    from sklr.covariance import MDM

    rows = []
    print(f"MDM, 80 + 80 matrices{'':3}{'ours s':>9}{'peer s':>9}{'ratio':>7}  labels equal")
    for d in [size for size in SIZES if size <= largest]:
        X, y = matrices(d)
        few = repeats if d < 160 else 3

        def run(make, X=X, y=y):
            model = make().fit(X[:80], y[:80])
            return model.predict(X[80:]), model.predict_proba(X[80:])

        ours, (labels, proba) = cpu(lambda: run(MDM), few)
        peer, (peer_labels, peer_proba) = cpu(lambda: run(lambda: Peer(metric="riemann")), few)
        equal = bool((labels == peer_labels).all())
        rows.append(
            {"d": d, "ours": ours, "pyriemann": peer, "ratio": peer / ours, "labels_equal": equal,
             # Four for each mean; distances of 80 matrices to two means, twice, as in `run`.
             **share_of_limit(ours, eigen=[(4 * 80 + 4 * 80, d)]),
             "largest_difference": float(np.abs(proba - peer_proba).max())}
        )  # fmt: skip
        print(f"d = {d:<20d}{ours:9.3f}{peer:9.3f}{peer / ours:7.2f}  {equal}")
    return rows


def bench_transform(repeats, largest):
    """TangentSpace.transform, checks of the input included on both sides.

    Both take one eigendecomposition a matrix; the ratio at the limit is the peer's time divided by
    that of these alone, what no transformer that takes them can pass.
    """
    from pyriemann.tangentspace import TangentSpace as Peer

    from sklr.covariance import TangentSpace

    rows = []
    print(f"TangentSpace.transform, 80  {'ours ms':>9}{'peer ms':>9}{'ratio':>7}{'limit':>7}")
    for d in [size for size in (9, *SIZES) if size <= largest]:
        X, _ = matrices(d)
        few = 10 * repeats if d < 100 else 3
        ours, peer = TangentSpace().fit(X[:80]), Peer().fit(X[:80])
        root = np.linalg.inv(np.linalg.cholesky(ours.reference_))
        white = root @ X[80:] @ root.T
        times = []  # taken in turn: a machine under load slows all alike
        for _ in range(few):
            a, Z = cpu(lambda: ours.transform(X[80:]))
            b, P = cpu(lambda: peer.transform(X[80:]))
            times.append((a, b, cpu(lambda: np.linalg.eigh(white))[0]))
        a, b, eigh = np.median(times, axis=0)
        rows.append({"d": d, "ours": a, "pyriemann": b, "ratio": b / a,
                     "ratio at the limit": b / eigh,
                     **share_of_limit(a, more=(eigh, "an eigendecomposition a matrix")),
                     "largest_difference": float(np.abs(Z - P).max())})  # fmt: skip
        print(f"d = {d:<24d}{1e3 * a:9.2f}{1e3 * b:9.2f}{b / a:7.2f}{b / eigh:7.2f}")
    return rows


def bench_latency(repeats):
    """One predict of one trial, whole pipelines: fitted on 44 trials, 9 channels."""
    from pyriemann.estimation import Covariances
    from pyriemann.tangentspace import TangentSpace as Peer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC

    from sklr.covariance import AugmentedCovariance, AugmentedCovarianceSVC, TangentSpace

    X, y, source = trials(9)
    peer = make_pipeline(Covariances("cov"), Peer(), SVC(kernel="linear")).fit(X[1:], y[1:])
    pipes = {
        "AugmentedCovarianceSVC(1)": AugmentedCovarianceSVC(1),
        "AugmentedCovariance(1), TangentSpace, SVC": make_pipeline(
            AugmentedCovariance(1), TangentSpace(), SVC(kernel="linear")
        ),
        "AugmentedCovarianceSVC(3, 2)": AugmentedCovarianceSVC(3, 2),
    }
    rows = []
    for name, pipe in pipes.items():
        pipe.fit(X[1:], y[1:])
        a, _ = cpu(lambda: [pipe.predict(X[:1]) for _ in range(20)], repeats)
        b, _ = cpu(lambda: [peer.predict(X[:1]) for _ in range(20)], repeats)
        rows.append({"pipeline": name, "ours": a / 20, "pyriemann": b / 20, "ratio": b / a})
        print(f"{name:<44}{50 * a:8.2f} ms, pyRiemann {50 * b:.2f} ms ({source}), {b / a:.2f} x")
    return {"data": source, "rows": rows}


def _options(parser):
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--largest", type=int, default=max(SIZES), help="leave larger sizes out")


def main(argv=None):
    """Run the parts and print a table each."""
    run_parts(
        __doc__,
        {"transform": bench_transform, "latency": bench_latency, "mdm": bench_mdm},
        argv,
        _options,
    )


if __name__ == "__main__":
    main()
