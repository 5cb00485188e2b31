"""Writes the lower bounds of pyproject.toml as constraints of pip: `python3 .ci/bounds.py > bounds.txt`."""

import re
import sys
import tomllib
from pathlib import Path

# What is needed to run the tests; the others build the documentation or need a GPU.
EXTRAS = ("torch", "jax", "fast", "plot", "cli", "demo", "test")


def bounds(text: str) -> dict[str, str]:
    """Return each package that a pyproject.toml asks for by name>=version, with that version."""
    project = tomllib.loads(text)["project"]
    lines = [*project["dependencies"], *(x for extra in EXTRAS for x in project["optional-dependencies"][extra])]
    found = (re.match(r"([\w-]+)>=([\w.]+)$", line) for line in lines if not line.startswith("slq["))
    return {match[1]: match[2] for match in found if match is not None}


if __name__ == "__main__":
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    sys.stdout.writelines(f"{n}=={v}\n" for n, v in bounds(project.read_text(encoding="utf-8")).items())
