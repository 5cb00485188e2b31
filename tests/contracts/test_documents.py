"""What the documents show is true: code runs, commands exist, links lead somewhere."""

import importlib
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILT = {"_build", "auto_examples", "generated"}
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if not BUILT & set(p.parts))]
DOCUMENTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
# Pages whose code runs with every change; that of the others takes seconds each.
QUICK = {"README.md", "start.md", "questions.md"}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[tuple[int, str]]:
    """List the code blocks of a page in one language, each with the number of lines above it."""
    text = path.read_text(encoding="utf-8")
    found = ((text.count("\n", 0, m.start(2)), m) for m in FENCE.finditer(text))
    return [(above, m[2]) for above, m in found if m[1] == language]


def commands() -> list[str]:
    """List the calls of the command `slq` in the pages' bash blocks and inline code."""
    found = []
    for page in PAGES:
        for _, block in blocks(page, "bash"):
            found += re.findall(r"(?:^|&& |/)slq ([a-z].*?)(?= &&|$)", block, flags=re.MULTILINE)
        found += re.findall(r"`slq ([a-z][^`]*)`", page.read_text(encoding="utf-8"))
    return sorted(set(found))


def help_text(verb: str) -> tuple[int, str]:
    """Ask the command line for help on one verb: exit status, and what it says."""
    pytest.importorskip("cyclopts")
    done = subprocess.run(
        [sys.executable, "-c", "from slq._command._cli import main; main()", verb, "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def quiet_corner(tmp_path, monkeypatch):
    """Work in an empty folder, draw on no screen, and leave PyTorch as it was.

    One thread of PyTorch is enough for small examples, and does not wait for busy cores.
    """
    pyplot = pytest.importorskip("matplotlib.pyplot")
    torch = pytest.importorskip("torch")
    pyplot.switch_backend("Agg")
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield tmp_path
    torch.set_num_threads(threads)
    pyplot.close("all")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if page.name in QUICK else pytest.mark.slow)
        for page in PAGES
        if blocks(page, "python")
    ],
    ids=named,
)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, quiet_corner):
    if "import jax" in page.read_text(encoding="utf-8"):
        pytest.importorskip("jax")
    namespace: dict[str, object] = {"__name__": page.stem}
    for above, block in blocks(page, "python"):
        exec(compile("\n" * above + block, str(page), "exec"), namespace)

    assert "slq" in namespace


def test_the_readme_begins_with_two_commands_complete_in_themselves():
    _, first = blocks(ROOT / "README.md", "bash")[0]

    lines = first.splitlines()
    assert len(lines) == 2
    for line, end in zip(lines, (".venv/bin/slq demo", ".venv/bin/python -m pytest"), strict=True):
        assert line.startswith("python3 -m venv .venv && .venv/bin/python -m pip install")
        assert "-c constraints.txt" in line
        assert line.endswith(end)


def test_the_readme_shows_no_code_before_its_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert FENCE.search(text)[1] == "bash"


@pytest.mark.parametrize("verb", sorted({c.split()[0] for c in commands()}))
def test_a_command_in_the_documents_exists_and_has_the_options_shown(verb):
    status, text = help_text(verb)
    options = {w for c in commands() if c.split()[0] == verb for w in c.split() if w[0] == "-"}

    assert status == 0, text
    assert {o for o in options if not re.search(rf"(?<![\w-]){o}(?![\w-])", text)} == set(), text


def test_that_an_invented_command_would_be_noticed():
    assert help_text("levitate")[0] != 0


@pytest.mark.parametrize("page", DOCUMENTS, ids=named)
def test_every_relative_link_leads_to_a_file(page):
    targets = re.findall(r"\]\((?!\w+:)([^)#\s]+)", page.read_text(encoding="utf-8"))

    assert [t for t in targets if not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", DOCUMENTS, ids=named)
def test_every_public_name_in_inline_code_exists(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    missing = []
    for package, path in re.findall(r"`(slq|slq_torch)\.([a-zA-Z][\w.]*)", text):
        if package == "slq_torch" and find_spec("torch") is None:
            continue
        found = importlib.import_module(package)
        for part in path.split("."):
            found = getattr(found, part, None)
        missing += [f"{package}.{path}"] if found is None else []

    assert missing == []


@pytest.mark.parametrize("name", ["slq", "slq.gallery", "slq.plot", "slq_torch", "slq_torch.distributed"])
def test_the_reference_lists_every_public_name(name):
    if name.startswith("slq_torch"):
        pytest.importorskip("torch")
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    parts = re.split(r"^\.\. currentmodule:: (\S+)$", text, flags=re.MULTILINE)
    listed = {
        entry
        for module, part in zip(parts[1::2], parts[2::2], strict=True)
        if module == name
        for entry in re.findall(r"^   ([a-zA-Z]\w*)$", part, flags=re.MULTILINE)
    }

    module = importlib.import_module(name)
    submodules = {"slq": {"gallery", "plot"}, "slq_torch": {"distributed"}}.get(name, set())
    assert listed == {n for n in module.__all__ if not n.startswith("_")} - submodules
