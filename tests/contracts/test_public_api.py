"""The public names are the ones that are announced, and each of them is documented in full."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
from types import ModuleType

import pytest

import slq

PUBLIC_MODULES = ["slq", "slq.gallery", "slq.plot", "slq_cupy", "slq_jax", "slq_torch", "slq_torch.distributed"]
EXTRAS = {"cyclopts", "llvmlite", "numba", "torch"}


def module(name: str) -> ModuleType:
    """Import a module, or skip where the framework of an adapter is not installed."""
    if name.startswith("slq_"):
        pytest.importorskip(name.removeprefix("slq_"))
    return importlib.import_module(name)


def sections(docstring: str) -> dict[str, list[str]]:
    """Split a numpydoc docstring: the title of each section and its lines."""
    found: dict[str, list[str]] = {"": []}
    title, lines = "", inspect.cleandoc(docstring).splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if re.fullmatch(r"-{3,}", below):
            title = line.strip()
            found[title] = []
        elif not re.fullmatch(r"-{3,}", line):
            found[title].append(line)
    return found


def documented(docstring: str, *titles: str) -> list[str]:
    """List the names that the sections describe: `a, b : float` describes two."""
    split = sections(docstring)
    heads = [line for t in titles for line in split.get(t, []) if re.match(r"[*\w`]", line)]
    return [name.strip(" *`") for head in heads for name in head.partition(" :")[0].split(",")]


def public(name: str) -> list[tuple[str, object]]:
    """List what a module announces, without its dunder names."""
    found = module(name)
    return [(f"{name}.{n}", getattr(found, n)) for n in found.__all__ if not n.startswith("__")]


def imported(name: str) -> ModuleType | None:
    """Import a module of the core, or nothing where it needs an extra that is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in EXTRAS:
            return None
        raise


def core_dataclasses() -> list[type]:
    """Find every dataclass with a public name in the modules of the core."""
    modules = pkgutil.walk_packages(slq.__path__, "slq.")
    names = [m.name for m in modules if "__main__" not in m.name]
    members = (member for n in names for _, member in inspect.getmembers(imported(n)))
    found = {m for m in members if inspect.isclass(m) and dataclasses.is_dataclass(m)}
    own = [c for c in found if c.__module__ in names and not c.__name__.startswith("_")]
    return sorted(own, key=lambda c: c.__qualname__)


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_all_is_sorted_and_every_name_exists(name):
    found = module(name)

    assert list(found.__all__) == sorted(found.__all__)
    assert [n for n in found.__all__ if not hasattr(found, n)] == []


@pytest.mark.parametrize("name", ["slq", "slq_jax", "slq_torch"])
def test_a_package_shows_what_it_announces_and_nothing_else(name):
    found = module(name)

    shown = {n for n in vars(found) if not n.startswith("_")}
    assert shown == {n for n in found.__all__ if not n.startswith("_")}


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_every_public_function_documents_its_parameters_result_and_an_example(name):
    for full_name, member in public(name):
        if not inspect.isfunction(member):
            continue
        doc = member.__doc__ or ""
        parameters = list(inspect.signature(member).parameters)
        assert documented(doc, "Parameters", "Other Parameters") == parameters, full_name
        assert {"Returns", "Examples"} <= sections(doc).keys(), full_name


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_every_public_class_and_each_of_its_public_methods_has_a_docstring(name):
    for full_name, member in public(name):
        if not inspect.isclass(member):
            continue
        assert member.__doc__, full_name
        for method, value in vars(member).items():
            plain = inspect.isfunction(value) or isinstance(value, property | classmethod)
            if plain and not method.startswith("_"):
                assert inspect.getdoc(getattr(member, method)), f"{full_name}.{method}"


@pytest.mark.parametrize("cls", core_dataclasses(), ids=lambda c: c.__name__)
def test_a_dataclass_that_documents_its_fields_documents_exactly_these(cls):
    fields = [f.name for f in dataclasses.fields(cls) if not f.name.startswith("_")]
    found = documented(cls.__doc__ or "", "Parameters", "Attributes")

    announced = cls.__name__ in {*slq.__all__, *slq.gallery.__all__}
    assert sorted(found) == sorted(fields) or not (found or announced)


@pytest.mark.parametrize("cls", core_dataclasses(), ids=lambda c: c.__name__)
def test_a_result_cannot_be_changed(cls):
    assert cls.__dataclass_params__.frozen


def test_that_the_reader_of_docstrings_sees_what_is_missing():
    doc = """Do it.

    Parameters
    ----------
    a, b : float
        Two numbers.
    *rest : int
        Others.

    Returns
    -------
    float
        Their sum.
    """

    assert documented(doc, "Parameters") == ["a", "b", "rest"]
    assert list(sections(doc)) == ["", "Parameters", "Returns"]
