"""What can be seen in the source alone: it compiles for GPUs, and nothing in a step waits for one."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "adapters" / "slq_cupy"
SOURCE = PACKAGE / "_kernels.cu"
NVCC = shutil.which("nvcc")
# What a step runs through, and what in it is asked before the first step, when coefficients are fetched anyway, or for
# a checkpoint, which is written between steps.
STEP = ["_basis.py", "_devices.py", "_kernels.py", "_krylov.py"]
BETWEEN_STEPS = {"size", "asymmetry", "drift", "state", "stored", "restore"}
PRODUCTS = {"matmat", "_dense", "_sparse", "product"}
WAITING_CALLS = {"float", "int", "bool", "complex", "asnumpy"}
WAITING_METHODS = {"get", "item", "tolist", "asnumpy", "synchronize", "any", "all"}


def waits(tree):
    """Name the calls in some code that would wait for the device."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id in WAITING_CALLS:
                found.append(f"{function.id}() in line {node.lineno}")
            if isinstance(function, ast.Attribute) and function.attr in WAITING_METHODS:
                found.append(f".{function.attr}() in line {node.lineno}")
    return found


def functions(name):
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("name", STEP)
def test_nothing_in_a_step_waits_for_the_device(name):
    assert [w for f in functions(name) if f.name not in BETWEEN_STEPS for w in waits(f)] == []


def test_no_product_waits_for_the_device():
    # `self._products.get(number)` asks a dictionary.
    found = [w for f in functions("_matrix.py") if f.name in PRODUCTS for w in waits(f)]
    assert [w for w in found if not w.startswith(".get()")] == []
    assert len([f for f in functions("_matrix.py") if f.name in PRODUCTS]) == len(PRODUCTS)


@pytest.mark.parametrize("line", ["float(alpha)", "x.get()", "if x.any(): pass", "cupy.asnumpy(x)"])
def test_that_a_wait_would_be_noticed(line):
    assert waits(ast.parse(line))


def test_the_numbers_of_the_launch_are_those_of_the_source():
    defined = dict(re.findall(r"#define (\w+) (\d+)", SOURCE.read_text(encoding="utf-8")))
    text = (PACKAGE / "_kernels.py").read_text(encoding="utf-8")

    assert f"_THREADS, _ITEMS, WIDTH = {defined['THREADS']}, {defined['ITEMS']}, {defined['WIDTH']}\n" in text


def test_every_kernel_is_launched_with_as_many_arguments_as_it_takes():
    kernels = dict(re.findall(r"__global__ void (\w+)\(([^)]*)\)", SOURCE.read_text(encoding="utf-8")))
    calls = [
        node
        for f in functions("_kernels.py")
        for node in ast.walk(f)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "_launch"
    ]
    # The name and the shape come first, and the length is added last.
    assert {c.args[0].value: len(c.args) - 1 for c in calls} == {k: v.count(",") + 1 for k, v in kernels.items()}


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
@pytest.mark.parametrize("types", ["double double", "float float", "float __half"])
def test_the_kernels_compile_for_gpus_without_spilling_registers(types, tmp_path):
    number, stored = types.split()
    command = [NVCC, "-cubin", "-Xptxas", "-v", f"-DNUMBER={number}", f"-DSTORED={stored}"]
    done = subprocess.run(
        [*command, "-arch=sm_80", "-o", tmp_path / "kernels.cubin", SOURCE], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    spills = re.findall(r"(\d+) bytes spill", done.stderr)
    assert spills
    assert set(spills) == {"0"}
