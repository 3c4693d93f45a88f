"""Kalman filter and smoother of stacked Matern processes (Numba).

The state of a mode is its `rank` latent functions, then their first derivatives, then their second
ones: p = nu + 1/2 of each function. What the data say about the functions at coordinate i comes as
``exp(-u' lam[i] u / 2 + eta[i]' u)``, which may be flat.
"""

import numpy as np

from sklr.utils._compile import inner, njit


def stationary(rate, variance, p):
    """Return the stationary covariance of one function and its derivatives, (p, p)."""
    P = np.zeros((p, p))
    P[0, 0] = variance
    if p == 2:
        P[1, 1] = rate * rate * variance
    elif p == 3:
        k = rate * rate * variance / 3.0
        P[1, 1] = k
        P[0, 2] = P[2, 0] = -k
        P[2, 2] = rate**4 * variance
    return P


def transitions(gaps, rate, p):
    """Return the matrices that carry the state over each gap, (n, p, p)."""
    x = np.minimum(rate * gaps, 750.0)  # beyond, exp(-x) is zero: independent of what was before
    e = np.exp(-x)
    A = np.empty((len(gaps), p, p))
    if p == 1:
        A[:, 0, 0] = e
        return A
    gaps = x / rate
    if p == 2:
        A[:, 0, 0] = e * (1.0 + x)
        A[:, 0, 1] = e * gaps
        A[:, 1, 0] = -e * rate * x
        A[:, 1, 1] = e * (1.0 - x)
        return A
    A[:, 0, 0] = e * (0.5 * x * x + x + 1.0)
    A[:, 0, 1] = e * gaps * (x + 1.0)
    A[:, 0, 2] = e * 0.5 * gaps * gaps
    A[:, 1, 0] = -0.5 * e * rate * x * x
    A[:, 1, 1] = e * (1.0 + x - x * x)
    A[:, 1, 2] = e * 0.5 * gaps * (2.0 - x)
    A[:, 2, 0] = e * rate * rate * x * (0.5 * x - 1.0)
    A[:, 2, 1] = e * rate * x * (x - 3.0)
    A[:, 2, 2] = e * (0.5 * x * x - 2.0 * x + 1.0)
    return A


@inner()
def move(A, state, blocks, half, half_blocks, rest):
    """Carry a covariance (as far as it differs from `rest`) and, in the last column, a mean.

    `blocks` is the memory of `state` with a row for each order of derivatives, `half` is for work.
    """
    size = state.shape[0]
    for a in range(size):
        for b in range(size):
            state[a, b] -= rest[a, b]
    for turn in range(2):  # the second product is that from the right
        for a in range(A.shape[0]):
            for c in range(blocks.shape[1]):
                half_blocks[a, c] = 0.0
            for b in range(A.shape[1]):
                for c in range(blocks.shape[1]):
                    half_blocks[a, c] += A[a, b] * blocks[b, c]
        for a in range(size):
            for b in range(size):
                state[a, b] = half[b, a]
            if turn == 0:
                state[a, size] = half[a, size]
    for a in range(size):
        for b in range(a + 1):
            value = 0.5 * (state[a, b] + state[b, a]) + rest[a, b]
            state[a, b] = value
            state[b, a] = value


@inner()
def row_product(row, n, state, out):
    """Multiply the first `n` entries of a row by the rows of `state`."""
    for c in range(state.shape[1]):
        out[c] = 0.0
    for a in range(n):
        for c in range(state.shape[1]):
            out[c] += row[a] * state[a, c]


def kalman(gaps, rate, variance, messages, size, keep):
    """Filter forwards.

    Parameters
    ----------
    gaps : ndarray of shape (n,)
        Distance of each coordinate from the one before; the first is not used.
    rate, variance : float
        Of the process: sqrt(2 nu) / length scale, and the variance of each function.
    messages : ndarray of shape (n, rank, rank + 2)
        As `factored` in `_functional_tucker_fit` returns them.
    size : int
        Length of the state, rank * p: the functions, then their first derivatives, ...
    keep : bool
        Whether the arrays below are filled.

    Returns
    -------
    evidence : float
        Log-evidence of the messages.
    carry : ndarray of shape (n, p, p)
        As `transitions` returns them, with zeros for the first.
    states : ndarray of shape (n, size, size + 1)
        Predicted covariances, and the predicted means as last columns.
    gains : ndarray of shape (n, rank, size + 2)
        For each message c, the covariance of its combination with the state before it; by how
        much times c the mean moved; and by how much times c c' the covariance fell.
    """
    n, rank = messages.shape[:2]
    p = size // rank
    carry = transitions(gaps, rate, p)
    carry[0] = 0.0  # nothing is known before the first
    rest, single = np.zeros((size, size)), stationary(rate, variance, p)
    for r in range(rank):
        rest[r::rank, r::rank] = single
    n_kept = n if keep else 1
    states, gains = np.empty((n_kept, size, size + 1)), np.zeros((n_kept, rank, size + 2))
    evidence = _kalman(carry, rest, messages, keep, states, gains, *_room(size, p))
    return evidence, carry, states, gains


def _room(size, p):
    """Return room for a state and for work, each also as `move` takes it, and for a row."""
    state, half = np.zeros((2, size, size + 1))
    return state, state.reshape(p, -1), half, half.reshape(p, -1), np.empty(size + 1)


@njit
def _kalman(carry, rest, messages, keep, states, gains, state, blocks, half, half_blocks, c):
    """Do what `kalman` does; returns the log-evidence."""
    n, rank, _ = messages.shape
    size = state.shape[0]
    evidence = 0.0
    for i in range(n):
        move(carry[i], state, blocks, half, half_blocks, rest)
        if keep:
            for a in range(size):
                for b in range(size + 1):
                    states[i, a, b] = state[a, b]
        for j in range(rank):
            message = messages[i, j]
            precision, push = message[rank], message[rank + 1]
            if precision == 0.0 and push == 0.0:
                continue
            row_product(message, rank, state, c)
            variance, mean = 0.0, c[size]
            for r in range(rank):
                variance += message[r] * c[r]
            evidence += push * mean - 0.5 * precision * mean * mean
            push -= precision * mean
            ratio = 1.0 + precision * variance
            step, fall = push / ratio, precision / ratio
            evidence += 0.5 * (push * step * variance - np.log(ratio))
            for a in range(size):
                for b in range(size):
                    state[a, b] -= fall * (c[a] * c[b])
                state[a, size] += step * c[a]
            if keep:
                for a in range(size):
                    gains[i, j, a] = c[a]
                gains[i, j, size] = step
                gains[i, j, size + 1] = fall
    return evidence


def smooth(messages, carry, states, gains):
    """Smooth backwards what `kalman` kept.

    The recursion of Bryson and Frazier carries the gradient and curvature of what is still to
    come, and inverts no covariance: coordinates may be as close as they like.

    Returns
    -------
    M : ndarray of shape (n, rank)
        Means of the functions.
    V : ndarray of shape (n, rank, rank)
        Their covariances.
    """
    n, rank = messages.shape[:2]
    size, p = states.shape[1], carry.shape[1]
    back = np.ascontiguousarray(carry.transpose(0, 2, 1))
    out = np.empty((n, rank, rank + 1))
    _smooth(back, np.zeros((size, size)), messages, states, gains, out, *_room(size, p))
    return out[:, :, rank], out[:, :, :rank]


@njit
def _smooth(back, rest, messages, states, gains, out, curve, blocks, half, half_blocks, c):
    """Do what `smooth` does: `out` gets V with M as last columns. `rest` and `curve` are zero."""
    n, rank, _ = messages.shape
    size = curve.shape[0]
    for i in range(n - 1, -1, -1):
        for j in range(rank - 1, -1, -1):
            message, gain = messages[i, j], gains[i, j]
            fall = gain[size + 1]
            if fall == 0.0 and gain[size] == 0.0:
                continue
            # curve <- C' curve C + fall l l', slope <- C' slope + step l; C = I - fall c l'
            row_product(gain, size, curve, c)
            value = 1.0
            for a in range(size):
                value += fall * (gain[a] * c[a])
            for r in range(rank):
                for b in range(size):
                    curve[r, b] -= fall * message[r] * c[b]
                curve[r, size] += message[r] * (gain[size] - fall * c[size])
            for r in range(rank):
                c[r] -= value * message[r]
            for a in range(size):
                for r in range(rank):
                    curve[a, r] -= fall * c[a] * message[r]
        for r in range(rank):
            row_product(states[i, r], size, curve, c)
            out[i, r, rank] = states[i, r, size] + c[size]
            for s in range(r + 1):
                value = states[i, r, s]
                for b in range(size):
                    value -= c[b] * states[i, s, b]
                out[i, r, s] = value
                out[i, s, r] = value
        move(back[i], curve, blocks, half, half_blocks, rest)


def draw_prior(gaps, rate, variance, normals, out):
    """Turn standard normals (n, rank, p) into draws of the process, `out` (n, rank)."""
    n, rank, p = normals.shape
    rest = stationary(rate, variance, p)
    A = np.zeros((n, p, p))  # nothing is known before the first
    A[1:] = transitions(gaps[1:], rate, p)
    Q = rest - A @ rest @ A.transpose(0, 2, 1)
    # Cholesky factors in place; directions that are rounding get none.
    for j in range(p):
        pivot = Q[:, j, j] - (Q[:, j, :j] ** 2).sum(axis=1)
        Q[:, j, j] = np.sqrt(np.where(pivot > 1e-15 * rest[j, j], pivot, 0.0))
        for a in range(j + 1, p):
            rows = Q[:, a, j] - (Q[:, a, :j] * Q[:, j, :j]).sum(axis=1)
            known = Q[:, j, j] > 0.0
            Q[:, a, j] = np.divide(rows, Q[:, j, j], out=np.zeros(n), where=known)
    state = np.zeros((rank, p))
    for carry, draw, factor, row in zip(A, normals, np.tril(Q), out, strict=True):
        state = state @ carry.T + draw @ factor.T
        row[:] = state[:, 0]


def _warm_up():
    gaps = np.array([0.0, 0.1, 0.2])
    messages = np.ones((3, 1, 3))
    _, *kept = kalman(gaps, 1.0, 1.0, messages, 1, True)
    smooth(messages, *kept)
    draw_prior(gaps, 1.0, 1.0, np.ones((3, 1, 1)), np.empty((3, 1)))
