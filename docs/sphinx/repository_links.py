"""
Links to what is no page: files and folders of the repository.

Each that is linked gets a page with its text or the list of its files, so that the HTML pages need
nothing beside them. ``DEEPLAB2_D2_SOURCE_URL=https://.../blob/main`` makes them links to there.
"""

import html
import os
import posixpath
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple
from urllib.parse import quote

from docutils import nodes
from sphinx import addnodes

_SOURCE_URL = os.environ.get("DEEPLAB2_D2_SOURCE_URL", "").rstrip("/")
_PAGES = "source"
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "bash", ".cpp": "cpp", ".h": "cpp"}
Page = Tuple[str, Dict[str, str], str]


def _replace_links(app: Any, doctree: nodes.document) -> None:
    """Make links to files and folders links to their pages."""
    docname = app.env.docname
    linked: Set[str] = app.env.deeplab2_linked.setdefault(docname, set())
    for node in list(doctree.findall(_is_unknown)):
        path = _in_repository(app, node["reftarget"])
        if path is None:
            continue  # Sphinx warns of it.
        linked.add(path)
        uri = f"{_SOURCE_URL}/{path}" if _SOURCE_URL else _uri(docname, path)
        reference = nodes.reference("", "", *node.children, internal=not _SOURCE_URL, refuri=uri)
        node.replace_self(reference)


def _is_unknown(node: nodes.Node) -> bool:
    if isinstance(node, addnodes.download_reference):
        return True
    return isinstance(node, addnodes.pending_xref) and node.get("refdomain") is None


def _in_repository(app: Any, target: str) -> Optional[str]:
    """The path of a link's target below the root, if git has it."""
    _, absolute = app.env.relfn2path(target.partition("#")[0])
    path = Path(absolute).resolve()
    root = Path(app.srcdir).resolve()
    if not path.exists() or root not in (path, *path.parents):
        return None
    return path.relative_to(root).as_posix()


def _uri(docname: str, path: str) -> str:
    """The page of a file from a document's, whichever builder reads the document."""
    return quote(posixpath.relpath(f"{_PAGES}/{path}.html", posixpath.dirname(docname) or "."))


def _pages(app: Any) -> Iterator[Page]:
    """The pages of all that is linked, and of the files in linked folders."""
    if _SOURCE_URL:
        return
    linked = set().union(*app.env.deeplab2_linked.values())
    files = _tracked_files(app.srcdir)
    contents = {path: _contents(path, files) for path in linked - files}
    shown = sorted(
        linked | {file for names in contents.values() for file in names if file in files}
    )
    for path in shown:
        body = _file_body(app, path) if path in files else _folder_body(path, contents, shown)
        yield f"{_PAGES}/{path}", {"title": path, "body": body}, "source.html"


def _tracked_files(root: str) -> Set[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, capture_output=True, check=True)
    return {name for name in listed.stdout.decode().split("\0") if name}


def _contents(folder: str, files: Set[str]) -> List[str]:
    """What stands directly in a folder: files, and the folders of others."""
    depth = len(PurePosixPath(folder).parts)
    below = (PurePosixPath(file).parts for file in files if file.startswith(f"{folder}/"))
    return sorted({"/".join(parts[: depth + 1]) for parts in below})


def _file_body(app: Any, path: str) -> str:
    content = (Path(app.srcdir) / path).read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return f"<p>{len(content)} bytes</p>"
    language = _LANGUAGES.get(PurePosixPath(path).suffix, "text")
    return app.builder.highlighter.highlight_block(text, language)


def _folder_body(folder: str, contents: Dict[str, List[str]], shown: List[str]) -> str:
    items = []
    for path in contents[folder]:
        name = html.escape(PurePosixPath(path).name)
        # The page of a folder stands beside the pages of its files' folder.
        uri = f"{PurePosixPath(folder).name}/{name}.html"
        items.append(
            f'<li><a href="{uri}">{name}</a></li>' if path in shown else f"<li>{name}</li>"
        )
    return f"<ul>{''.join(items)}</ul>"


def _prepare(app: Any) -> None:
    if not hasattr(app.env, "deeplab2_linked"):
        app.env.deeplab2_linked = {}


def _purge(app: Any, env: Any, docname: str) -> None:
    env.deeplab2_linked.pop(docname, None)


def setup(app: Any) -> Dict[str, bool]:
    app.connect("builder-inited", _prepare)
    app.connect("env-purge-doc", _purge)
    # Before Sphinx gathers what is to be downloaded.
    app.connect("doctree-read", _replace_links, priority=400)
    app.connect("html-collect-pages", _pages)
    # Documents are read in one process: what is linked is gathered in it.
    return {"parallel_read_safe": False, "parallel_write_safe": True}
