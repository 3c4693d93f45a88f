"""The code on the pages runs as it stands."""

import pathlib
import re
import warnings

import pytest

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not (ROOT / "docs").is_dir(), reason="the pages are not beside the tests"
)


@pytest.mark.parametrize("name, fewest", [("README.md", 1), ("docs/tour.md", 6)])
def test_code_of_a_page_runs(name, fewest, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= fewest
    namespace = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, block in enumerate(blocks, 1):
            exec(compile(block, f"{name}, block {number}", "exec"), namespace)
    assert capsys.readouterr().out.strip()
