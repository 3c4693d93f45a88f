"""Figure of an embedding: missing values, many labels, ordered categories, one and three axes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

pyplot = pytest.importorskip("matplotlib.pyplot")

from sklr.manifold import EmbeddingDisplay  # noqa: E402

pd = pytest.importorskip("pandas", reason="needs the extra test")


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def cloud(n=150, d=2):
    return np.random.default_rng(0).standard_normal((n, d))


def n_drawn(display):
    return sum(len(c.get_offsets()) for c in display.ax_.collections)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_labels_are_grey(missing):
    y = np.array(["a", "b", "c"] * 50, dtype=object)
    y[:7] = missing
    display = EmbeddingDisplay(cloud(), y).plot()
    assert n_drawn(display) == 150
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == ["missing", "a", "b", "c"]
    grey = display.ax_.collections[0]
    assert len(grey.get_offsets()) == 7
    assert_allclose(grey.get_facecolor()[0, :3], 0.75)


def test_missing_numbers_are_grey_and_the_colour_bar_has_a_label():
    y = pd.Series(np.linspace(0, 1, 150), name="pseudotime")
    y[10:] = np.nan
    display = EmbeddingDisplay(cloud(), y).plot()
    assert n_drawn(display) == 150
    assert display.figure_.axes[1].get_ylabel() == "pseudotime"
    other = EmbeddingDisplay(cloud(), y.to_numpy(), label="time").plot()
    assert other.figure_.axes[1].get_ylabel() == "time"


@pytest.mark.parametrize("n", [12, 20, 33])
def test_each_label_has_its_own_colour(n):
    y = np.arange(150) % n
    display = EmbeddingDisplay(cloud(), [f"type {k}" for k in y]).plot()
    colours = {tuple(c.get_facecolor()[0]) for c in display.scatter_}
    assert len(colours) == n
    display.figure_.canvas.draw()
    beside = display.ax_.get_legend().get_window_extent().x0
    assert beside > display.ax_.get_window_extent().x1


@pytest.mark.parametrize("wrap", [pd.Series, pd.Categorical])
def test_ordered_categories_keep_their_order(wrap):
    order = ["low", "middle", "high", "unused"]
    y = pd.Categorical(np.array(order[:3] * 50), categories=order, ordered=True)
    display = EmbeddingDisplay(cloud(), pd.Series(y) if wrap is pd.Series else y).plot()
    assert [c.get_label() for c in display.scatter_] == order[:3]


def test_labels_of_a_column_and_of_several_types():
    column = np.arange(150)[:, None] % 3
    assert len(EmbeddingDisplay(cloud(), column).plot().scatter_) == 3
    assert len(EmbeddingDisplay(cloud(), [1, "a", True] * 50).plot().scatter_) == 2
    with pytest.raises(ValueError, match=r"y has shape \(3,\) for 150 points"):
        EmbeddingDisplay(cloud(), [1, 2, 3]).plot()


def test_whole_numbers_with_missing_ones_are_labels():
    y = np.r_[np.arange(140) % 4, [np.nan] * 10]
    display = EmbeddingDisplay(cloud(), y).plot()
    assert [c.get_label() for c in display.scatter_] == ["0", "1", "2", "3"]
    assert n_drawn(display) == 150


def test_one_three_and_four_components():
    one = EmbeddingDisplay(cloud(d=1)).plot()
    assert one.ax_.get_xlabel() == "component 1" and one.ax_.get_ylabel() == ""
    assert_array_equal(one.scatter_.get_offsets()[:, 0], cloud(d=1)[:, 0])
    three = EmbeddingDisplay(cloud(d=3), np.arange(150) % 3).plot()
    assert three.ax_.name == "3d" and three.ax_.get_zlabel() == "component 3"
    with pytest.warns(UserWarning, match="4 components; the first 3 are drawn"):
        EmbeddingDisplay(cloud(d=4)).plot()
    _, ax = pyplot.subplots()
    with pytest.warns(UserWarning, match="3 components; the first 2 are drawn"):
        EmbeddingDisplay(cloud(d=3)).plot(ax=ax)
