"""Write the tables of methods in README.md, docs/index.md and docs/papers.md.

They are made from docs/methods/*.toml.

And the API pages, from what each public module names in ``__all__``.

    python docs/make_tables.py

One file a method, so that those who add methods at the same time edit no common list. A file has

- ``number`` (its place in the table: the next free one), ``method``, ``paper`` (a link),
  ``homes``, ``tests`` of the paper's claim, and ``status``: "in", or "planned" for what users
  do not see yet;
- ``[claim]``: ``name``, ``holds``, ``does_not``: what was measured of the claim;
- ``[readme]``, where the method has a row there and on the index page: ``row`` (its place),
  ``you_have``, ``you_want``, ``take``, ``guide``.

What is missing in a file, or stands twice, is an error that says what to add.

Homes in packages on torch get their star here. ``tests/test_api_index.py`` says when a table is
not what its sources say.
"""

import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).parents[1]
METHODS = ROOT / "docs" / "methods"
TABLES = {
    "README.md": ("readme",),
    "docs/index.md": ("index",),
    "docs/papers.md": ("methods", "claims"),
}
# What a file has to have, and its sections where they are there.
NEEDED = {
    "planned": ("number", "method", "homes"),
    "in": ("number", "method", "homes", "paper", "tests", "claim"),
    "[claim]": ("name", "holds", "does_not"),
    "[readme]": ("row", "you_have", "you_want", "take", "guide"),
}


def methods() -> list[dict]:
    """Return what the files say, in the order of their numbers."""
    found = {
        f"docs/methods/{path.name}": tomllib.loads(path.read_text(encoding="utf-8"))
        for path in sorted(METHODS.glob("*.toml"))
    }
    for where, method in found.items():
        _check_complete(method, where)
    numbers = [method["number"] for method in found.values()]
    free = sorted(set(range(1, len(found) + 1)) - set(numbers))
    for where, method in found.items():
        number = method["number"]
        if free and (numbers.count(number) > 1 or not 1 <= number <= len(found)):
            raise ValueError(
                f"{where}: number = {number}, which is taken or leaves a gap; the numbers go "
                f"from 1 to {len(found)}, the number of files, and free are {free}"
            )
    return sorted(found.values(), key=lambda method: method["number"])


def _check_complete(method: dict, where: str) -> None:
    status = method.get("status")
    if status not in ("in", "planned"):
        raise ValueError(f'{where}: status = "in" or "planned" is needed, found {status!r}')
    parts = [("", status, method)]
    parts += [(f"[{p}]", f"[{p}]", method[p]) for p in ("claim", "readme") if p in method]
    for part, kind, there in parts:
        missing = [key for key in NEEDED[kind] if key not in there]
        if missing:
            raise ValueError(
                f"{where}: {part or 'the file'} lacks {missing}; another file of the folder shows "
                "how, and the docstring of docs/make_tables.py says what each means"
            )


def _home(home: str) -> str:
    from sklr.utils._imports import TORCH_PACKAGES

    star = "\\*" if home.split(".")[0] in TORCH_PACKAGES else ""
    return f"`{home}`{star}"


def _rows(name: str, there: list[dict]) -> list[tuple[str, ...]]:
    if name == "readme":
        rows = sorted((m["readme"] for m in there if "readme" in m), key=lambda row: row["row"])
        columns = ("you_have", "you_want", "take", "guide")
        return [("you have", "you want", "take", "guide")] + [
            tuple(row[column] for column in columns) for row in rows
        ]
    if name == "index":  # the same rows for a reader who is inside docs/
        return [("you have", "you want", "read")] + [
            (have, want.replace(r"\*", ""), guide.replace("](docs/", "]("))
            for have, want, _, guide in _rows("readme", there)[1:]
        ]
    if name == "claims":
        columns = ("name", "holds", "does_not")
        return [("method", "holds", "does not, or could not be shown")] + [
            tuple(m["claim"][column] for column in columns) for m in there
        ]
    return [("method", "home", "test of its claim")] + [
        (
            f"{m['method']} ({m['paper']})",
            ", ".join(map(_home, m["homes"])),
            ", ".join(f"`{test}`" for test in m["tests"]),
        )
        for m in there
    ]


def table(name: str) -> str:
    """Return a table in Markdown: ``readme``, ``index``, ``methods`` or ``claims``."""
    head, *rows = _rows(name, [method for method in methods() if method["status"] == "in"])
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines)


def page(file: str) -> str:
    """Return the text of a page with its tables as the sources say."""
    text = (ROOT / file).read_text(encoding="utf-8")
    for name in TABLES[file]:
        first, last = (
            f"<!-- table of {name}: python docs/make_tables.py -->",
            f"<!-- {name} ends -->",
        )
        before, _, rest = text.partition(first)
        _, found, after = rest.partition(last)
        if not found:
            raise ValueError(f"{file} has no place for the table {name!r}: {first} ... {last}")
        text = f"{before}{first}\n\n{table(name)}\n\n{last}{after}"
    return text


def api_pages() -> dict[str, str]:
    """Return the API pages by file: one for each public module, names sorted, and their index."""
    import importlib
    import inspect

    from sklr.utils._discovery import public_objects

    by_module: dict[str, list[str]] = {}
    for dotted in public_objects():
        module, _, name = dotted.rpartition(".")
        by_module.setdefault(module, []).append(name)
    rows, pages = [], {}
    for module, names in sorted(by_module.items()):
        file = f"docs/api/{module.removeprefix('sklr.')}.md"
        pages[file] = (
            f"""# `{module}`

```{{eval-rst}}
.. automodule:: {module}
   :no-members:
   :no-inherited-members:

.. currentmodule:: {module}

.. autosummary::
   :toctree: ../generated/
"""
            + "".join(f"\n   {name}" for name in sorted(names))
            + "\n```\n"
        )
        first = inspect.getdoc(importlib.import_module(module)).partition("\n\n")[0]
        rows.append(f"| [{module}]({file.removeprefix('docs/')}) | {' '.join(first.split())} |")
    listed = "\n".join(file.removeprefix("docs/").removesuffix(".md") for file in pages)
    pages["docs/api.md"] = f"""# API reference

| package | |
|---|---|
{chr(10).join(rows)}

```{{toctree}}
:hidden:

{listed}
```
"""
    return pages


def cite_page() -> str:
    """Return the page with BibTeX entries: the library's, and that of each paper that is in."""
    references = tomllib.loads((ROOT / "docs" / "references.toml").read_text(encoding="utf-8"))
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    entries = []
    for method in methods():
        if method["status"] != "in":
            continue
        key = re.search(r"(?:arXiv|doi):([^\]]+)", method["paper"])[1]
        if key not in references:
            raise ValueError(f"docs/references.toml has no entry {key!r}: {method['method']}")
        entry = references[key]
        where = (
            f"doi = {{{key}}}"
            if key.startswith("10.")
            else f"eprint = {{{key}}},\n  archivePrefix = {{arXiv}}"
        )
        name = re.sub(r"\W", "", entry["authors"].split(" and ")[0].split()[-1]).lower()
        word = re.sub(r"[^a-z]", "", entry["title"].split()[0].lower())
        entries.append(
            f"{', '.join(f'`{home}`' for home in method['homes'])}\n\n```bibtex\n"
            f"@misc{{{name}{entry['year']}{word},\n"
            f"  title = {{{entry['title']}}},\n  author = {{{entry['authors']}}},\n"
            f"  year = {{{entry['year']}}},\n  {where}\n}}\n```"
        )
    return (
        f"""# Cite: BibTeX for the library and each paper

Please cite the paper of the method that you use, and the library with its version.

```bibtex
@software{{sklr,
  title = {{sklr: scikit-learn estimators for low-rank, low-dimensional and Riemannian structure}},
  author = {{{{The sklr developers}}}},
  version = {{{version}}}
}}
```

## Papers

"""
        + "\n\n".join(entries)
        + "\n"
    )


def guides(root: pathlib.Path = ROOT) -> dict[str, str]:
    """Return the page of the user guide that is about a public name: the one that says it most."""
    from sklr.utils._discovery import public_objects

    texts = {
        path.stem: path.read_text(encoding="utf-8")
        for path in sorted((root / "docs" / "user_guide").glob("*.md"))
        if path.stem != "index"
    }
    found = {}
    for dotted in public_objects():
        name = dotted.rpartition(".")[2]
        times = {stem: len(re.findall(rf"\b{name}\b", text)) for stem, text in texts.items()}
        best = max(times, key=lambda stem: times[stem])
        if times[best]:
            found[dotted] = f"/user_guide/{best}"
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    (ROOT / "docs/api").mkdir(exist_ok=True)
    pages = api_pages()
    for old in (ROOT / "docs/api").glob("*.md"):
        if f"docs/api/{old.name}" not in pages:
            old.unlink()
    pages["docs/howto/cite.md"] = cite_page()
    for file, text in pages.items():
        (ROOT / file).write_text(text, encoding="utf-8")
    for file in TABLES:
        (ROOT / file).write_text(page(file), encoding="utf-8")
