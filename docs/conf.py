"""Sphinx configuration: no network, no dates, the gallery runs from ../examples."""

import os
import pathlib
import re
import sys
import warnings

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

sys.path.insert(0, str(ROOT / "docs"))

from make_tables import guides  # noqa: E402

import sklr  # noqa: E402  (found through the path above)

project = "sklr"
author = "The sklr developers"
copyright = author  # noqa: A001
version = release = sklr.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # pages are read without a network, too
    "sphinx_copybutton",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
root_doc = "index"
exclude_patterns = ["_build", "_templates", "**/GALLERY_HEADER.rst"]
templates_path = ["_templates"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autosummary_context = {"guides": guides(ROOT)}
autodoc_typehints = "none"  # numpydoc's sections say more
numpydoc_show_class_members = False
numpydoc_validate = False  # tests/test_docstrings.py does

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["sklr.css"]
toc_object_entries_show_parents = "hide"  # "fit()", not "LowRankImputer.fit()"
html_logo = html_favicon = "_static/logo.svg"
html_title = f"sklr {version}"
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "logo": {"text": "sklr", "alt_text": "sklr"},
    "secondary_sidebar_items": ["page-toc"],
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
ALONE = ("install", "papers", "stability", "changelog", "contributing", "house")
html_sidebars = {page: [] for page in ALONE}
html_show_sourcelink = False

sphinx_gallery_conf = {
    "examples_dirs": [str(ROOT / "examples")],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"plot_",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("sklr",),
    "abort_on_example_error": True,
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    # Times differ between builds, and pages should not.
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "parallel": False,
}
# Attributes of one name in several classes ("bias") are no references to any of them.
suppress_warnings = ["config.cache", "ref.python"]

# An example's own warnings are for its author; a page does not show them.
warnings.filterwarnings("ignore", message="Matplotlib is currently using agg")


def _plain(match):
    return match[1] or f"``{match[2]}``"


def _escape_fitted_names(app, what, name, obj, options, lines):
    """Keep ``shape (n_features_in_,)`` from being read as a link, and links to others' pages."""
    for number, line in enumerate(lines):
        line = re.sub(r":ref:`(?:([^`<]+?) *<[^`]*>|([^`]*))`", _plain, line)  # scikit-learn's
        lines[number] = re.sub(
            r"(?<=of shape )\([^)]*\)", lambda match: re.sub(r"_(?=\W)", r"\\_", match[0]), line
        )


def _report_benchmarks(app):
    """Make the page of all results from the latest files."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import report

    report.page(ROOT / "benchmarks" / "results", ROOT / "docs" / "generated" / "benchmarks")


def setup(app):
    """Connect what runs before sources are read, and after numpydoc has had the docstring."""
    app.connect("builder-inited", _report_benchmarks)
    app.connect("autodoc-process-docstring", _escape_fitted_names, priority=900)
