"""The configuration of the documentation's site: `bash scripts/docs.sh` builds it.

The reference pages (`generated/`) are written from the code at each build. Nothing is fetched, and the built pages use
no outside assets: a build that finds one fails.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE / "_ext"))

import assets  # noqa: E402
import docstrings  # noqa: E402
import generated  # noqa: E402

from rlexp import __version__  # noqa: E402

project = "rlexp"
author = "The rlexp developers"
copyright = author  # no year: a build of the same sources is the same
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "images"]
default_role = "code"  # docstrings mark code by single backticks
highlight_language = "bash"
smartquotes = False  # texts hold code

myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]

autodoc_mock_imports = ["tensorflow", "keras", "mlflow"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "pydata_sphinx_theme"
html_title = f"rlexp {release}"
html_copy_source = False
html_show_sourcelink = False
html_context = {"default_mode": "auto"}  # as the reader's system: light or dark
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

TOP_LEVEL = {  # files that code hosts show at the top, and the site's pages that include them
    "README.md": "index.md",
    "GUARANTEES.md": "researchers/guarantees.md",
    "CLUSTER.md": "researchers/clusters.md",
    "CONTRIBUTING.md": "researchers/contributing.md",
    "CHANGELOG.md": "researchers/changelog.md",
}


def to_the_site(app: Any, docname: str, content: list[str]) -> None:
    """Links to top-level files become links to the pages that include them; as files both work."""
    up = "../" * docname.count("/")
    for name, page in TOP_LEVEL.items():
        content[0] = content[0].replace(f"]({up}../{name}", f"]({up or './'}{page}")


def included(app: Any, path: Path, parent: str, content: list[str]) -> None:
    """The same for an included top-level file, whose links start at the top."""
    up = "../" * parent.count("/")
    for name, page in TOP_LEVEL.items():
        content[0] = content[0].replace(f"]({name}", f"]({up}{page}")
    content[0] = content[0].replace("](docs/", f"]({up}")


def setup(app: Any) -> None:
    """Connect what this folder adds to Sphinx."""
    app.connect("builder-inited", lambda app: generated.write(HERE / "generated"))
    app.connect("source-read", to_the_site)
    app.connect("include-read", included)
    app.connect("autodoc-process-docstring", docstrings.process, priority=400)  # before napoleon
    app.connect("build-finished", assets.check)
