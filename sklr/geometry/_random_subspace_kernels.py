"""Walsh-Hadamard transform and the random map made of it (Numba)."""

import numpy as np

from sklr.utils._compile import inner, njit


@inner()
def _butterflies(x):
    """Transform x in place, unnormalised; its length is a power of two."""
    n = x.shape[0]
    half = 1
    if n % 4 == 0:
        # Two stages at once while strides are small: half the passes through memory.
        for i in range(0, n, 4):
            a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
            e, f, g, h = a + b, a - b, c + d, c - d
            x[i], x[i + 1], x[i + 2], x[i + 3] = e + g, f + h, e - g, f - h
        half = 4
    while 4 * half <= n:
        for i in range(0, n, 4 * half):
            for j in range(i, i + half):
                a, b, c, d = x[j], x[j + half], x[j + 2 * half], x[j + 3 * half]
                e, f, g, h = a + b, a - b, c + d, c - d
                x[j], x[j + half], x[j + 2 * half], x[j + 3 * half] = e + g, f + h, e - g, f - h
        half *= 4
    while half < n:
        for i in range(0, n, 2 * half):
            for j in range(i, i + half):
                a, b = x[j], x[j + half]
                x[j], x[j + half] = a + b, a - b
        half *= 2


@njit
def hadamard(X):
    """Transform each row of X (n, length) in place."""
    for i in range(X.shape[0]):
        _butterflies(X[i])


@njit
def fastfood_forward(z, signs, places, scale, work, head, out):
    """Write the image of z (d,) to the first entries of `work` (L,), and these to `out` (D,).

    `work` may be any array of length L, a power of two; `signs` has as many entries as the next
    power of two of d, since the first transform of a padded vector repeats itself; `head` is room
    for as many.
    """
    for i in range(z.shape[0]):
        head[i] = signs[i] * z[i]
    for i in range(z.shape[0], head.shape[0]):
        head[i] = 0
    _butterflies(head)
    for i in range(work.shape[0]):
        work[i] = scale[i] * head[places[i]]
    _butterflies(work)
    for i in range(out.shape[0]):
        out[i] = work[i]


@njit
def fastfood_adjoint(g, signs, places, scale, work, head, out):
    """Write the transposed map of g (D,) to `out` (d,)."""
    for i in range(g.shape[0]):
        work[i] = g[i]
    for i in range(g.shape[0], work.shape[0]):
        work[i] = 0
    _butterflies(work)
    for i in range(head.shape[0]):
        head[i] = 0
    for i in range(work.shape[0]):
        head[places[i]] += scale[i] * work[i]
    _butterflies(head)
    for i in range(out.shape[0]):
        out[i] = signs[i] * head[i]


def _warm_up(dtypes=(np.float64,)):
    for dtype in dtypes:
        z, signs, scale = (np.ones(n, dtype=dtype) for n in (2, 2, 4))
        places, work, out = np.zeros(4, dtype=np.int32), np.empty(4, dtype), np.empty(3, dtype)
        head = np.empty(2, dtype)
        fastfood_forward(z, signs, places, scale, work, head, out)
        fastfood_adjoint(out, signs, places, scale, work, head, z)
        hadamard(np.ones((1, 4), dtype=dtype))
