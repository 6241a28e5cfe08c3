"""Pages of notebooks as they were saved: text, code, and what the code printed and drew."""

import json
from typing import Any, Dict, Iterator, List, Union

from myst_parser.sphinx_ import Parser

Text = Union[str, List[str]]


def notebook_to_markdown(text: str) -> str:
    """The Markdown of an .ipynb file of format 4; pictures become data URIs."""
    parts = []
    for cell in json.loads(text)["cells"]:
        content = _join(cell["source"]).strip("\n")
        if cell["cell_type"] == "markdown":
            parts.append(content)
        elif cell["cell_type"] == "code":
            parts.append(_fence(content, "python"))
            parts += [part for output in cell["outputs"] for part in _output(output)]
    return "\n\n".join(parts) + "\n"


def _output(output: Dict[str, Any]) -> Iterator[str]:
    data = output.get("data", {})
    pictures = [kind for kind in ("image/png", "image/jpeg") if kind in data]
    if pictures:
        content = "".join(_join(data[pictures[0]]).split())
        yield f"![what the cell draws](data:{pictures[0]};base64,{content})"
    elif "text/plain" in data or "text" in output:
        yield _fence(_join(data.get("text/plain", output.get("text"))).strip("\n"), "text")


def _join(text: Text) -> str:
    return text if isinstance(text, str) else "".join(text)


def _fence(content: str, language: str) -> str:
    return f"````{language}\n{content}\n````"


class NotebookParser(Parser):
    """Reads .ipynb files."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: Any) -> None:
        super().parse(notebook_to_markdown(inputstring), document)


def setup(app: Any) -> Dict[str, bool]:
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
