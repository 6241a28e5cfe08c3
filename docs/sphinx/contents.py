"""The sidebar: what docs/index.md links, under its headings, and the pages that it does not."""

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
    index = Path(app.srcdir) / f"{_INDEX}.md"
    app.env.note_dependency(str(index))
    contents = {
        title: [_document(app, target) for target in targets]
        for title, targets in sections(index.read_text(encoding="utf-8"))
    }
    listed = {name for names in contents.values() for name in names} | {_INDEX, docname}
    contents["More"] = sorted(set(app.env.found_docs) - listed)
    lines = [f"All pages </{_INDEX}>"]
    for title, names in contents.items():
        lines += [f"/{name}" for name in names]
        if lines:
            entries = "\n".join(lines)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{entries}\n```\n"
        lines = []


def setup(app: Any) -> Dict[str, bool]:
    app.connect("source-read", _add_contents)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
