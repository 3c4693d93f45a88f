"""Sums of one layer at a time: the same result, and never those of two."""

import gc
import weakref

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.nn.compression import (  # noqa: E402
    AtomicFeatureMimicking,
    EigenspaceCompensation,
    LowRankDecomposition,
    WeightSVD,
)

X = torch.randn(300, 12, generator=torch.Generator().manual_seed(0))
COMPRESSORS = [
    AtomicFeatureMimicking(0.5),
    AtomicFeatureMimicking("global"),
    EigenspaceCompensation(4),
    LowRankDecomposition(0.5),
    WeightSVD(0.5, scaling="activation"),
    WeightSVD(0.5, scaling="whitening"),
]


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 3)
        )


def most_held(compressor, monkeypatch):
    """Fit, and return of how many layers sums were alive at once, and how many were made."""
    alive, counts = weakref.WeakSet(), []
    watch = type(compressor)._watch

    def counted(self, layer):
        sums = watch(self, layer)
        alive.add(sums)
        counts.append(len(alive))
        return sums

    gc.collect()  # a cycle would hold what nothing else does
    gc.disable()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(type(compressor), "_watch", counted)
            compressor.fit(network(), X)
    finally:
        gc.enable()
    return max(counts), len(counts)


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=str)
def test_one_layer_at_a_time_gives_the_same(compressor, monkeypatch):
    compressor.set_params(low_memory=False)
    n_held, n_made = most_held(compressor, monkeypatch)
    assert n_held == n_made >= 2
    wanted, report = compressor.transform(network())(X), compressor.report_
    compressor.set_params(low_memory=True)
    assert most_held(compressor, monkeypatch) == (1, n_made)
    torch.testing.assert_close(compressor.transform(network())(X), wanted)
    for row, other in zip(compressor.report_, report):
        row, other = dict(row), dict(other)
        errors = [one.pop("relative_error", None) for one in (row, other)]
        assert row == other and errors[0] == pytest.approx(errors[1], rel=1e-9)


def test_data_for_one_pass_are_refused_and_checks_are_the_same():
    compressor = AtomicFeatureMimicking(low_memory=True)
    with pytest.raises(ValueError, match="low_memory=True goes through X once for each layer"):
        compressor.fit(network(), (batch for batch in X.split(50)))
    batches = list(X.split(50))
    from_list = compressor.fit(network(), batches).ranks_
    assert from_list == compressor.fit(network(), X).ranks_
    for few, message in ((X[:1], "saw 1 row of X"), (X[:1].repeat(9, 1), "are all equal")):
        with pytest.raises(ValueError, match=message):
            compressor.fit(network(), few)
    with pytest.warns(UserWarning, match="fewer rows than a layer has directions"):
        compressor.fit(network(), X[:5])
    with pytest.raises(ValueError, match="The 'low_memory' parameter"):
        compressor.set_params(low_memory=2).fit(network(), X)
