"""One page of HTML that shows pictures and explains them; it needs no script and no network."""

from dataclasses import dataclass
from html import escape
from typing import Sequence, Tuple
from urllib.parse import quote

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #666; }
@media (prefers-color-scheme: dark) { :root { --soft: #aaa; } }
body { font: 1rem/1.55 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .3rem; }
h2 { font-size: 1.3rem; margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1.2rem; }
h3 { font-size: 1.05rem; margin-top: 2rem; }
p { max-width: 46rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 0 1rem; }
figure { margin: 1rem 0; }
figure.sheet a { display: inline-block; background: white; border: 1px solid var(--line);
  border-radius: .4rem; padding: .5rem; }
img { max-width: 100%; height: auto; vertical-align: middle; }
.row img { width: 100%; border-radius: .3rem; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 46rem; margin-top: .3rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
summary { cursor: pointer; margin: .6rem 0; }
"""


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


def section(title: str, *parts: str, level: int = 2) -> str:
    """A heading and what stands under it, which is HTML."""
    return "\n".join([f"<section>\n<h{level}>{escape(title)}</h{level}>", *parts, "</section>"])


def paragraph(text: str) -> str:
    """Plain text as a paragraph."""
    return f"<p>{escape(text)}</p>"


def figures(pictures: Sequence[Picture]) -> str:
    """Pictures with their captions, each a link to its file."""
    parts = []
    is_in_row = False
    for picture in pictures:
        if is_in_row == picture.is_sheet:
            parts.append("</div>" if is_in_row else '<div class="row">')
            is_in_row = not is_in_row
        parts.append(_figure(picture))
    return "\n".join([*parts, *(["</div>"] if is_in_row else [])])


def folded(summary: str, *parts: str) -> str:
    """HTML that is shown on a click."""
    return "\n".join([f"<details>\n<summary>{escape(summary)}</summary>", *parts, "</details>"])


def facts(items: Sequence[Tuple[str, str]]) -> str:
    """Names and values, one pair a line."""
    rows = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in items)
    return "\n".join(["<dl>", *rows, "</dl>"])


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of texts and numbers; numbers stand at the right of their columns."""

    def cell(value: object, tag: str, is_number: bool) -> str:
        kind = ' class="number"' if is_number else ""
        return f"<{tag}{kind}>{escape(str(value))}</{tag}>"

    numeric = [bool(rows) and isinstance(value, (int, float)) for value in rows[0]] if rows else []
    head = "".join(cell(h, "th", n) for h, n in zip(headings, numeric or [False] * len(headings)))
    body = ("".join(cell(value, "td", n) for value, n in zip(row, numeric)) for row in rows)
    lines = "\n".join(f"<tr>{row}</tr>" for row in body)
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody>\n</table></div>"
    )


def page(title: str, *parts: str) -> str:
    """
    The whole page.

    Args:
        title: plain text.
        parts: HTML, made by the functions above.

    Returns:
        HTML; the pictures' files must stand beside it.
    """
    content = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{content}
</main>
</body>
</html>
"""


def _figure(picture: Picture) -> str:
    address = escape(quote(picture.file_name))
    caption = f"\n<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    kind = ' class="sheet"' if picture.is_sheet else ""
    return (
        f'<figure{kind}>\n<a href="{address}"><img src="{address}" loading="lazy" '
        f'alt="{escape(picture.alt)}"></a>{caption}\n</figure>'
    )
