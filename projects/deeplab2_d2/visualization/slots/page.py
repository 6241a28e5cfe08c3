"""One page of HTML that shows pictures and explains them; it needs no script and no network."""

import itertools
import operator
from dataclasses import dataclass
from typing import Any, ClassVar, Iterable, List, Sequence, Tuple


@dataclass(frozen=True)
class Block:
    """A part of the page; ``kind`` is its macro in the template."""

    kind: ClassVar[str]


@dataclass(frozen=True)
class Section(Block):
    """A heading and what stands under it."""

    kind = "section"
    title: str
    parts: Sequence[Block]
    level: int = 2


@dataclass(frozen=True)
class Paragraph(Block):
    """Plain text."""

    kind = "paragraph"
    text: str


@dataclass(frozen=True)
class Folded(Block):
    """What is shown on a click."""

    kind = "folded"
    summary: str
    parts: Sequence[Block]


@dataclass(frozen=True)
class Facts(Block):
    """Names and values, one pair a line."""

    kind = "facts"
    items: Sequence[Tuple[str, str]]


@dataclass(frozen=True)
class Table(Block):
    """A table of texts and numbers; numbers stand at the right of their columns."""

    kind = "table"
    headings: Sequence[str]
    rows: Sequence[Sequence[object]]

    def is_number(self, column: int) -> bool:
        return bool(self.rows) and isinstance(self.rows[0][column], (int, float))


@dataclass(frozen=True)
class Picture:
    """
    A picture of the page.

    Attributes:
        file_name: relative to the page.
        alt: what is seen, for who cannot see it.
        caption: how it is to be read; "" for none.
        is_sheet: a figure with labels, as wide as the page; others stand side by side.
    """

    file_name: str
    alt: str
    caption: str = ""
    is_sheet: bool = True


@dataclass(frozen=True)
class Figures(Block):
    """Pictures with their captions, each a link to its file."""

    kind = "figures"
    pictures: Sequence[Picture]


def render_page(title: str, parts: Sequence[Block]) -> str:
    """
    The whole page.

    Returns:
        HTML; the pictures' files must stand beside it.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["groupby_in_order"] = _group_in_order
    return environment.get_template("page.html").render(title=title, parts=parts).strip() + "\n"


def _group_in_order(items: Iterable[Any], attribute: str) -> List[Tuple[Any, List[Any]]]:
    groups = itertools.groupby(items, key=operator.attrgetter(attribute))
    return [(key, list(group)) for key, group in groups]
