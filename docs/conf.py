"""How the documentation is built: with what is installed, and nothing is fetched."""

import os
from importlib import metadata
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"

project = "slq"
author = "The slq developers"
copyright = author
version = release = metadata.version("slq")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

default_role = "code"
autosummary_generate = True
autodoc_mock_imports = ["cupy", "cupyx"]  # they need a GPU to install, not to be documented
autodoc_typehints = "none"  # the numpydoc sections name the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

examples = Path(__file__).parent.parent / "examples"
has_gallery = any(examples.glob("*.py"))
if has_gallery:
    extensions.append("sphinx_gallery.gen_gallery")
sphinx_gallery_conf = {
    "examples_dirs": str(examples),
    "gallery_dirs": "auto_examples",
    # The others are shown, not run: those of docs/reproductions.md train for minutes, and their pictures stand there.
    "filename_pattern": r"/plot_(?!batch_norm|edge_of|toy_|class_structure|residual_and|language_|training_)",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "slq"
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {"*": []}  # only pages in folders have neighbours to show
html_theme_options = {
    "logo": {"text": "slq"},
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
}


def without_gallery(app, docname, source):
    """Leave the gallery out of the index for as long as there are no examples."""
    if not has_gallery:
        source[0] = source[0].replace("auto_examples/index\n", "")


def setup(app):
    app.connect("source-read", without_gallery)
