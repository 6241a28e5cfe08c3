"""The sidebar: what docs/index.md links, under its headings."""

import re
from pathlib import Path
from typing import Any, Dict, List, Tuple

_INDEX = "docs/index"
_LINK = re.compile(r"^[-*] \[[^]]*\]\(([^)#]+)\)", re.MULTILINE)


def sections(text: str) -> List[Tuple[str, List[str]]]:
    """
    The contents that a page of links describes.

    Args:
        text: Markdown, with a list of links below each heading of the second level.

    Returns:
        Headings, each with the targets of the links that begin its items.
    """
    _, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    split = (part.partition("\n") for part in parts)
    return [(title.strip(), _LINK.findall(body)) for title, _, body in split]


def _document(app: Any, target: str) -> str:
    path = (Path(app.srcdir) / _INDEX).parent / target
    return app.env.path2doc(str(path.resolve()))


def _add_contents(app: Any, docname: str, source: List[str]) -> None:
    """Append the tables of contents, which GitHub would show as code, to the first page."""
    if docname != app.config.root_doc:
        return
    text = (Path(app.srcdir) / f"{_INDEX}.md").read_text(encoding="utf-8")
    app.env.note_dependency(str(Path(app.srcdir) / f"{_INDEX}.md"))
    for title, targets in sections(text):
        names = [f"/{_document(app, target)}" for target in targets]
        if title == "Start here":
            names.insert(0, f"All pages </{_INDEX}>")
        entries = "\n".join(names)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{entries}\n```\n"


def setup(app: Any) -> Dict[str, bool]:
    app.connect("source-read", _add_contents)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
