"""Progress goes to standard error, ends where the loop ends, and says so."""

import builtins

import pytest

from sklr.utils._progress import progress


@pytest.fixture(params=["tqdm", "lines"])
def shown(request, monkeypatch):
    if request.param == "tqdm":
        pytest.importorskip("tqdm", reason="needs the extra eeg")
    else:
        ordinary = builtins.__import__

        def without_tqdm(name, *args, **kwargs):
            if name == "tqdm":
                raise ModuleNotFoundError(name)
            return ordinary(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without_tqdm)
    return request.param


def loop(until, verbose=1):
    seen = []
    for step in progress(range(40), total=40, description="sweeps", verbose=verbose):
        seen.append(step)
        if step + 1 == until:
            break
    return seen


def test_a_whole_loop_ends_with_all_of_it(shown, capsys):
    assert loop(None) == list(range(40))
    text = capsys.readouterr().err
    assert "40/40" in text and "ended" not in text


def test_a_loop_that_is_left_says_after_how_many(shown, capsys):
    assert loop(5) == list(range(5))
    last = capsys.readouterr().err.splitlines()[-1]
    assert "sweeps" in last and "ended after 5 of at most 40" in last
    assert "100%" in last or shown == "lines"


def test_nothing_is_shown_unasked(capsys):
    assert loop(5, verbose=0) == list(range(5))
    assert capsys.readouterr().err == ""


def test_an_error_in_the_loop_is_the_loops_own(shown):
    with pytest.raises(ZeroDivisionError):
        for step in progress(range(3), total=3, description="x", verbose=1):
            1 // step
