"""Print the oldest versions that pyproject.toml allows, as pins for pip; extras by their names."""

import pathlib
import re
import sys
import tomllib

project = tomllib.loads((pathlib.Path(__file__).parents[1] / "pyproject.toml").read_text())[
    "project"
]
wanted = list(project["dependencies"])
for extra in sys.argv[1:]:
    wanted += project["optional-dependencies"][extra]
for requirement in wanted:
    name, version = re.match(r"([^>]+)>=([^,;]+)", requirement).groups()
    print(f"{name}=={version}")
