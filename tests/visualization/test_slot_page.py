from html.parser import HTMLParser

from deeplab2_d2.visualization.slots.page import (
    Facts,
    Figures,
    Folded,
    Paragraph,
    Picture,
    Section,
    Table,
    render_page,
)

VOID_TAGS = {"img", "meta"}


class Reader(HTMLParser):
    """Checks that tags are balanced; keeps attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_what_users_wrote_is_text_and_never_markup():
    nasty = '<b>"&'
    parts = [
        Section(nasty, [Paragraph(nasty)]),
        Facts([(nasty, nasty)]),
        Folded(nasty, [Table([nasty], [[nasty]])]),
        Figures([Picture("a.png", nasty, nasty)]),
    ]
    text = render_page(nasty, parts)
    reader = Reader(text)
    assert "<b>" not in text
    # Title (in the head and on the page), heading, paragraph, two facts, summary, table, caption.
    assert reader.text.count(nasty) == 10
    assert [image["alt"] for image in reader.all("img")] == [nasty]


def test_pictures_are_links_to_files_beside_the_page():
    pictures = [Picture("one & 2.png", "first", is_sheet=False), Picture("b.png", "b")]
    reader = Reader(render_page("", [Figures(pictures)]))
    assert [image["src"] for image in reader.all("img")] == ["one%20%26%202.png", "b.png"]
    assert [link["href"] for link in reader.all("a")] == ["one%20%26%202.png", "b.png"]


def test_small_pictures_share_a_row_and_sheets_stand_alone():
    kinds = [True, False, False, True, False]
    pictures = [Picture(f"{k}.png", "x", is_sheet=kind) for k, kind in enumerate(kinds)]
    reader = Reader(render_page("", [Figures(pictures)]))
    order = [attributes.get("class") or attributes.get("src") for _, attributes in reader.tags]
    order = [item for item in order if item]
    assert order == ["sheet", "0.png", "row", "1.png", "2.png", "sheet", "3.png", "row", "4.png"]


def test_columns_of_numbers_are_told_from_columns_of_text():
    reader = Reader(render_page("", [Table(("slot", "count"), [("a", 1), ("b", 22)])]))
    assert [cell.get("class") for cell in reader.all("td")] == [None, "number"] * 2
    assert [cell.get("class") for cell in reader.all("th")] == [None, "number"]
    assert Reader(render_page("", [Table(("slot", "count"), [])])).all("td") == []


def test_the_page_needs_nothing_from_elsewhere():
    text = render_page("title", [Paragraph("text")])
    reader = Reader(text)
    assert {tag for tag, _ in reader.tags}.isdisjoint({"script", "link", "iframe"})
    assert "http" not in text and "url(" not in text and "@import" not in text
    assert reader.all("html") == [{"lang": "en"}]
