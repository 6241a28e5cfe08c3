"""
The HTML pages: ``make docs``.

The source folder is the repository, so that a link from one file to another is right on GitHub and
in the pages. What is built of it stands in ``include_patterns``; other files that are linked get a
page with their text (``repository_links.py``).
"""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
sys.path[:0] = [str(_HERE), str(_ROOT / "projects")]

import deeplab2_d2  # noqa: E402

project = "deeplab2_d2"
author = "The deeplab2_d2 developers"
release = version = deeplab2_d2.__version__
html_title = f"{project} {release}"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "contents",
    "named_tuples",
    "notebook_pages",
    "repository_links",
]
root_doc = "README"
include_patterns = [
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "datasets/README.md"),
    *("docs/*.md", "docs/*.ipynb", "docs/reference/*.rst"),
]
# Folders that are not looked through.
exclude_patterns = [
    *(".*", "build", "configs", "demo", "output", "projects", "scripts", "tests"),
    "docs/sphinx",
]

# Anchors of headings as GitHub makes them.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
# What Detectron2 says of a method is not written for these pages.
autodoc_inherit_docstrings = False
# The description of a constructor's arguments stands in __init__.
autoclass_content = "both"
napoleon_use_ivar = True

html_theme = "furo"
html_static_path = ["static"]
# Wider pages: the tables of models have many columns.
html_css_files = ["pages.css"]
templates_path = ["templates"]
html_additional_pages = {"index": "redirect.html"}
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
pygments_style = "friendly"
