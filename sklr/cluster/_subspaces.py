"""K-subspaces, soft EM and gradient steps: what fits the bases of a low-rank mixture.

Bases are lists of arrays (d_k, p) with orthonormal rows.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.linalg.lapack import dgeqrf, dorgqr
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from sklr.cluster._low_rank_mixture import LowRankMixture

# From so many features on, bases follow by power steps, and exactly at the end only.
_P_POWER = 32
# From so many on, eigenvectors of a symmetric matrix are tried by subspace iteration.
_N_ITERATED = 128
_N_STEPS = 12
# Directions with less than this share of a cluster's largest variance are rounding.
_RANK_TOL = 1e-13


@dataclass
class Partition:
    """A partition with its bases, and how it was reached."""

    labels: np.ndarray
    bases: list
    objective: float
    history: list
    converged: bool
    n_empty: int = 0
    gram: np.ndarray | None = None  # X^T X, where it fell out
    squares: np.ndarray | None = None  # squared coordinates in `bases` of the rows it was made from


def orthonormal(A):
    """Return an orthonormal basis of the columns of A, as columns: the Q of its QR factors."""
    # NumPy's qr spends half of its time on a triangle that nobody reads.
    packed, tau, _, _ = dgeqrf(A, overwrite_a=False)
    return dorgqr(packed[:, : len(tau)], tau)[0]


def _completed(rows, dim):
    """Add orthonormal rows until there are `dim`: the data do not say which."""
    missing = dim - len(rows)
    if missing == 0:
        return rows
    free = np.argsort(np.einsum("ij,ij->j", rows, rows), kind="stable")[:missing]
    extra = np.eye(rows.shape[1])[free]
    for _ in range(2):
        extra = extra - (extra @ rows.T) @ rows
        extra = orthonormal(extra.T).T
    return np.concatenate([rows, extra])


def _iterated(product, start, dim, tol):
    """Leading eigenpairs by subspace iteration from the columns of `start`; None if too slow."""
    basis, before = orthonormal(start), np.inf
    for left in reversed(range(_N_STEPS)):
        image = product(basis)
        values, rotation = np.linalg.eigh(basis.T @ image)
        values, rotation = values[::-1], rotation[:, ::-1]
        image = image @ rotation
        rest = np.linalg.norm((image - (basis @ rotation) * values)[:, :dim])
        if rest <= tol * values[0]:
            return values[:dim], (basis @ rotation)[:, :dim]
        # The rate does not get better: what it does not reach is given up.
        if rest * (rest / before) ** left > tol * values[0]:
            return None
        before = rest
        basis = orthonormal(image)
    return None


def _columns(n, dim):
    """Columns from which subspace iteration starts; None where it is not tried."""
    if n >= _N_ITERATED and dim + 4 <= n // 12:
        return np.linspace(0, n - 1, dim + 4).astype(int)
    return None


def leading_eigenvectors(S, dim, tol=1e-11, near=None):
    """Return the `dim` largest eigenvalues of a positive semi-definite matrix, and vectors.

    Large matrices are tried by subspace iteration, which is exact to `tol` or not taken. It is
    quicker from rows `near` the vectors.
    """
    n = len(S)
    columns = _columns(n, dim)
    if columns is not None:
        start = S[:, columns]
        if near is not None:
            start[:, : len(near)] = near.T
        found = _iterated(lambda basis: S @ basis, start, dim, tol)
        if found is not None:
            return found
    values, vectors = eigh(S, subset_by_index=[n - dim, n - 1])
    return values[::-1], vectors[:, ::-1]


def leading_rows(X, dim, *, rough=False, gram=None, near=None):
    """Return the `dim` leading right singular vectors of X as rows.

    `rough` is for starts. A list `gram` gets X^T X appended where it is formed. Rows `near` them
    make it quicker.
    """
    n, p = X.shape
    if n == 0:
        return _completed(np.zeros((0, p)), dim)
    tol = 1e-4 if rough else 1e-11
    columns = _columns(p, dim) if rough and n >= dim + 4 else None
    if columns is not None:  # a few steps cost less than X^T X
        found = _iterated(lambda B: X.T @ (X @ B), X.T @ X[:, columns], dim, tol)
        if found is not None and found[0][-1] > _RANK_TOL * found[0][0]:
            return np.ascontiguousarray(found[1].T)
    if n < p:
        values, left = leading_eigenvectors(X @ X.T, min(dim, n), tol)
        rank = int((values > _RANK_TOL * max(values[0], 0.0)).sum())
        rows = orthonormal(X.T @ (left[:, :rank] / np.sqrt(values[:rank]))).T
    else:
        S = X.T @ X
        if gram is not None:
            gram.append(S)
        rows = leading_eigenvectors(S, dim, tol, near)[1].T
    return _completed(np.ascontiguousarray(rows), dim)


def squared_singular_values(X):
    """Return the squares of all singular values of X, falling."""
    gram = X @ X.T if X.shape[0] < X.shape[1] else X.T @ X
    return np.maximum(eigh(gram, eigvals_only=True)[::-1], 0.0)


def _power_rows(X, basis, weights=None):
    """Two steps of subspace iteration: the captured energy does not fall."""
    for _ in range(2):
        A = X @ basis.T
        if weights is not None:
            A *= weights[:, None]
        basis = orthonormal(X.T @ A).T
    return basis


def _joint_rows(X, groups, bases, weights=None, gains=None, max_iter=100):
    """Bases that are orthogonal to each other, by polar factors; the energy does not fall.

    The captured energy is convex in the stacked basis: the maximiser of its linearisation is
    the polar factor of the gradient.
    """
    ends = np.cumsum([len(basis) for basis in bases])
    stacked = _polar(np.concatenate(bases))
    before = -np.inf
    for _ in range(max_iter):
        parts = np.split(stacked, ends[:-1])
        gradient = []
        for k, rows in enumerate(parts):
            if weights is None:
                mine = X[groups[k]]
                gradient.append((mine @ rows.T).T @ mine)
            else:
                gradient.append(((X @ rows.T) * weights[:, k : k + 1]).T @ X)
            if gains is not None:
                gradient[-1] *= gains[k][:, None]
        gradient = np.concatenate(gradient)
        energy = float((gradient * stacked).sum())
        if energy <= before * (1 + 1e-13):
            break
        before = energy
        stacked = _polar(gradient)
    return np.split(stacked, ends[:-1])


def _polar(A):
    left, _, right = np.linalg.svd(A, full_matrices=False)
    return left @ right


def energies(X, bases):
    """Return the squared length of each sample's projection on each subspace."""
    return by_subspace(squared_coordinates(X, bases), bases)


def squared_coordinates(X, bases):
    """Return the squares of each sample's coordinates in all bases, one after the other."""
    A = X @ np.concatenate(bases).T
    A *= A
    return A


def by_subspace(squares, bases):
    """Return the sums of squared coordinates over each basis."""
    return squares @ np.repeat(np.eye(len(bases)), [len(basis) for basis in bases], axis=0)


def k_subspaces(X, labels, dims, *, joint, penalty, max_iter, tol, weights=None, near=None):
    """Alternate bases and nearest subspaces from a partition until it is stable.

    `penalty` is taken from the energy for each dimension of a subspace. The objective does not
    fall, and there are finitely many partitions, so that this ends. Where samples have `weights`,
    the rows of X are multiplied with their roots already. Bases that are `near` the first ones
    make these quicker to find.
    """
    n_clusters = len(dims)
    dim_penalty = penalty * np.asarray(dims)
    if weights is not None:
        dim_penalty = weights[:, None] * dim_penalty
    bases, exact, n_reseeds, grams = None, True, 0, []
    history, converged = [], False
    for _ in range(max_iter):
        groups = [np.flatnonzero(labels == k) for k in range(n_clusters)]
        if joint and bases is not None:
            bases = _joint_rows(X, groups, bases)
        else:
            # Power steps are cheaper where they pay; an exact round comes before the end.
            powers = not exact and X.shape[1] >= _P_POWER
            known = bases or near or [None] * n_clusters
            grams = []
            bases = [
                _power_rows(X[group], bases[k])
                if powers and len(group) > dims[k]
                else leading_rows(X[group], dims[k], gram=grams, near=known[k])
                for k, group in enumerate(groups)
            ]
            if joint:
                bases = _joint_rows(X, groups, bases)
        squares = squared_coordinates(X, bases)
        E = by_subspace(squares, bases) - dim_penalty
        new = E.argmax(axis=1)
        history.append(float(E[np.arange(len(X)), new].sum()))
        stable = np.array_equal(new, labels)
        small = len(history) > 1 and history[-1] - history[-2] <= tol * abs(history[-2])
        labels, moved = new, False
        empty = np.flatnonzero(np.bincount(new, minlength=n_clusters) == 0)
        if len(empty) and n_reseeds < 10:
            n_reseeds += 1
            total = np.einsum("ij,ij->i", X, X)
            for k in empty:
                moved |= _reseed(E + dim_penalty, labels, total, k, dims[k])
        if (stable or small) and exact and not moved:
            converged = True
            break
        exact = stable or small or X.shape[1] < _P_POWER
    n_empty = int((np.bincount(labels, minlength=n_clusters) == 0).sum())
    gram = sum(grams) if len(grams) == n_clusters else None
    return Partition(labels, bases, history[-1], history, converged, n_empty, gram, squares)


def _reseed(E, labels, total, k, dim):
    """Give an empty cluster the worst fitted samples, in place; returns whether there were any."""
    loss = total - E[np.arange(len(labels)), labels]
    sizes = np.bincount(labels, minlength=E.shape[1])
    loss = np.where(sizes[labels] > 1, loss, -1.0)
    worst = np.argsort(-loss, kind="stable")[:dim]
    worst = worst[loss[worst] > 1e-10 * total.max()]
    for i in worst:
        if sizes[labels[i]] > 1:
            sizes[labels[i]] -= 1
            labels[i] = k
    return bool(len(worst))


def spectra(X, labels, bases, weights=None, *, squares=None, total=None):
    """Return each cluster's variances along its basis rows, its other energy, and its size.

    With `weights` the size is their sum, and the rows of X are multiplied with their roots.
    Squared coordinates in the bases, and squared lengths of the rows (`total`), may be at hand.
    """
    A = squared_coordinates(X, bases) if squares is None else squares
    if total is None:
        total = np.einsum("ij,ij->i", X, X)
    inside, outside, sizes, first = [], [], [], 0
    for k, basis in enumerate(bases):
        mine = np.flatnonzero(labels == k)
        captured = A[mine, first : first + len(basis)].sum(axis=0)
        size = len(mine) if weights is None else float(weights[mine].sum())
        inside.append(captured / size if size else captured)
        outside.append(max(float(total[mine].sum() - captured.sum()), 0.0))
        sizes.append(size)
        first += len(basis)
    return inside, np.array(outside), np.array(sizes)


def noise_floor(X, dims, weights=None, *, energy=None):
    """Return the smallest noise variance that can be distinguished from rounding."""
    size = len(X) if weights is None else float(weights.sum())
    if energy is None:
        energy = float(np.vdot(X, X))
    return 1e-8 * max(energy / (size * float(np.mean(dims))), 1e-300)


def hard_mixture(found, floor, bases, *, spectrum, noise, means=None):
    """Return the mixture and noise variance of a partition; `noise` is a number or "auto".

    `found` is what `spectra` gives, of rows from which their clusters' means are taken off;
    `floor` is the smallest noise variance.
    """
    inside, outside, sizes = found
    dims = np.array([len(basis) for basis in bases])
    if noise == "auto":
        free = float((sizes * (bases[0].shape[1] - dims)).sum())
        noise = max(outside.sum() / free if free else 0.0, floor)
    if spectrum == "unit":
        variances = [np.ones(d) for d in dims]
    else:
        variances = [np.maximum(values - noise, 0.0) for values in inside]
    return LowRankMixture(bases, variances, sizes / sizes.sum(), means), float(noise)


def soft_em(
    X, mixture, noise, *, floor, spectrum, fixed_noise, joint, max_iter, tol, sample_weight=None
):
    """Expectation-maximisation; the mean log-likelihood does not fall.

    Where the mixture has means they follow. Returns the mixture, the noise variance, the history
    and whether it converged.
    """
    p = X.shape[1]
    total = np.einsum("ij,ij->i", X, X)[:, None]
    means, centred = mixture.means, [X] * len(mixture.bases)
    history, converged = [], False
    for _ in range(max_iter):
        log_joint = mixture.log_joint(X, noise)
        log_density = logsumexp(log_joint, axis=1, keepdims=True)
        history.append(float(np.average(log_density[:, 0], weights=sample_weight)))
        if len(history) > 1 and history[-1] - history[-2] <= tol * max(1.0, abs(history[-2])):
            converged = True
            break
        W = np.exp(log_joint - log_density)
        if sample_weight is not None:
            W *= sample_weight[:, None]
        sizes = W.sum(axis=0)
        if means is not None:
            means = (W.T @ X) / np.maximum(sizes, 1e-300)[:, None]
            centred = [X - mean for mean in means]
            total = np.stack([np.einsum("ij,ij->i", Y, Y) for Y in centred], axis=1)
        gains = [s / (noise * (s + noise)) for s in mixture.variances]
        if joint:
            bases = _joint_rows(X, None, mixture.bases, W, gains, max_iter=10)
        else:
            bases = []
            for k, (basis, Y) in enumerate(zip(mixture.bases, centred, strict=True)):
                if p < _P_POWER:
                    bases.append(leading_rows(Y * np.sqrt(W[:, k : k + 1]), len(basis)))
                else:
                    # Rotate to the principal axes, which the spectrum belongs to.
                    rows = _power_rows(Y, basis, W[:, k])
                    A = (Y @ rows.T) * np.sqrt(W[:, k : k + 1])
                    bases.append(eigh(A.T @ A)[1][:, ::-1].T @ rows)
        captured = [
            W[:, k] @ (Y @ basis.T) ** 2
            for k, (basis, Y) in enumerate(zip(bases, centred, strict=True))
        ]
        outside = np.maximum((W * total).sum(axis=0) - [c.sum() for c in captured], 0.0)
        free = float(sizes @ (p - mixture.dims))
        if not fixed_noise:
            guess = max(outside.sum() / free, floor)
            if spectrum == "unit":
                inner, inner_energy = float(sizes @ mixture.dims), sum(c.sum() for c in captured)
                guess = _unit_noise(guess, floor, free, outside.sum(), inner, inner_energy, noise)
            noise = guess
        if spectrum == "unit":
            variances = mixture.variances
        else:
            variances = [
                np.maximum(c / max(n, 1e-300) - noise, 0.0)
                for c, n in zip(captured, sizes, strict=True)
            ]
        mixture = LowRankMixture(bases, variances, sizes / sizes.sum(), means)
    return mixture, float(noise), history, converged


def _unit_noise(guess, floor, free, outside, inner, inside, present):
    """Maximise the likelihood over the noise variance when signal variances are one."""

    def loss(log_noise):
        g = np.exp(log_noise)
        return free * log_noise + outside / g + inner * np.log1p(g) + inside / (1 + g)

    bounds = np.log(floor), np.log(max(guess, present, 10 * floor)) + 5.0
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    choices = [found.x, np.log(max(present, floor)), np.log(guess)]
    return float(np.exp(min(choices, key=loss)))


def denoising_gradient(X, noisy, sigma, bases):
    """Return the mean denoising loss and its gradient in each basis, weights equal.

    The denoiser is the posterior mean of the mixture with signal variance one; `sigma` is one
    noise level a sample, and each sample counts (1 + sigma^2) / sigma^2, as in EDM.
    """
    ends = np.cumsum([len(basis) for basis in bases])[:-1]
    stacked = np.concatenate(bases)
    variance = (sigma**2)[:, None]
    shrink = 1 / (1 + variance)
    phi = shrink / (2 * variance)
    A = noisy @ stacked.T
    starts = np.concatenate([[0], ends])
    log_w = phi * np.add.reduceat(A**2, starts, axis=1)
    W = np.exp(log_w - logsumexp(log_w, axis=1, keepdims=True))
    spread = np.repeat(W, np.diff([*starts, len(stacked)]), axis=1)
    rest = shrink * ((spread * A) @ stacked) - X
    weight = (1 + variance) / variance / len(X)
    loss = float((weight * rest**2).sum())
    rest *= 2 * weight
    B = rest @ stacked.T
    slope = np.add.reduceat(A * B, starts, axis=1)
    slope = W * (slope - (W * slope).sum(axis=1, keepdims=True)) * 2 * phi * shrink
    slope = np.repeat(slope, np.diff([*starts, len(stacked)]), axis=1)
    gradient = (shrink * spread * A).T @ rest + (shrink * spread * B + slope * A).T @ noisy
    return loss, np.split(gradient, ends)


def denoising_descent(X, bases, rng, *, joint, n_epochs, tol, batch_size=256, rate=0.1):
    """Minimise the denoising loss by stochastic gradient steps on Stiefel manifolds.

    Gradients are taken for fresh noise, projected on the tangent space and scaled by their
    running size; steps are retracted by QR (one basis each) or a polar factor (all jointly).
    `X` must have signal variance one. Returns bases, history (mean loss of each epoch), and
    whether the loss had settled.
    """
    bases = [basis.copy() for basis in bases]
    history, size = [], 0.0
    momentum = [np.zeros_like(basis) for basis in bases]
    n_batches = max(1, -(-len(X) // batch_size))
    for epoch in range(n_epochs):
        losses = []
        step = rate * 0.5 * (1 + np.cos(np.pi * epoch / n_epochs))
        for batch in np.array_split(rng.permutation(len(X)), n_batches):
            clean = X[batch]
            sigma = np.exp(rng.uniform(np.log(0.05), np.log(1.0), len(clean)))
            noisy = clean + sigma[:, None] * rng.standard_normal(clean.shape)
            loss, gradient = denoising_gradient(clean, noisy, sigma, bases)
            losses.append(loss)
            tangent = []
            for basis, g in zip(bases, gradient, strict=True):
                inner = g @ basis.T
                tangent.append(g - 0.5 * (inner + inner.T) @ basis)
            square = sum(float((t**2).sum()) for t in tangent)
            size = square if size == 0.0 else 0.95 * size + 0.05 * square
            scale = step / max(np.sqrt(size), 1e-300)
            momentum = [0.8 * m - 0.2 * t for m, t in zip(momentum, tangent, strict=True)]
            bases = [b + scale * m for b, m in zip(bases, momentum, strict=True)]
            if joint:
                ends = np.cumsum([len(basis) for basis in bases])[:-1]
                bases = np.split(_polar(np.concatenate(bases)), ends)
            else:
                bases = [orthonormal(basis.T).T for basis in bases]
        history.append(float(np.mean(losses)))
    third = max(1, len(history) // 3)
    early, late = np.mean(history[-2 * third : -third] or history), np.mean(history[-third:])
    return bases, history, bool(early - late <= max(tol, 0.05) * abs(early))
