"""The page with the tables of Panoptic-DeepLab's paper: all rows, and what makes each."""

import re
import shlex
from pathlib import Path

import pytest

from deeplab2_d2.config import validate_config
from deeplab2_d2.engine import load_config

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "panoptic_tables.md"
# What the paper gives of its own models in each table, in its order: PQ, or mIoU where there is
# no PQ.
PAPER = {
    1: [60.3, 61.0, 61.8, 60.8, 62.5, 62.7, 63.0, 62.1, 80.3],
    2: [63.0, 63.4, 64.1, 65.3, 65.6, 67.0],
    3: [62.3, 65.5],
    4: [37.7, 38.0, 40.3],
    5: [39.2, 40.3, 39.3, 40.6, 40.5, 40.0, 39.7, 39.3, 40.3, 40.3, 42.2],
    6: [42.7],
    7: [39.7, 40.2, 41.2],
    8: [41.4],
    9: [55.4, 59.7, 63.0, 28.8, 33.3, 37.7, 30.0, 35.1, 38.9, 39.7],
    10: [62.5, 63.0],
}


def _rows():
    """(table, cells) of every row of the page."""
    for section in PAGE.read_text().split("\n## Table ")[1:]:
        number = int(section.partition(":")[0])
        lines = [line for line in section.splitlines() if line.startswith("|")][2:]
        for line in lines:
            yield number, [cell.strip() for cell in line.strip("|").split("|")]


ROWS = list(_rows())


def test_every_row_of_the_paper_is_there_with_its_score():
    found = {}
    for number, (*_, pq, _, last) in ROWS:
        found.setdefault(number, []).append(float(last if pq == "-" else pq))
    assert found == PAPER


@pytest.mark.parametrize("number, cells", ROWS, ids=lambda value: str(value)[:40])
def test_a_row_names_a_config_and_options_that_it_takes(number, cells):
    (path,) = re.findall(r"\]\(([^)#]+)", cells[1])
    assert (DOCS / path).is_file()
    if not path.endswith(".yaml"):  # The ensemble, whose command another page has.
        assert "--ensemble" in (DOCS / path).read_text()
        return
    options = shlex.split(cells[2].strip("`"))
    cfg = load_config(str(DOCS / path), [word for word in options if word != "--eval-only"])
    validate_config(cfg)
    if "flip" in cells[0]:
        assert cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.FLIP
    header = (DOCS / path).read_text().partition("_BASE_")[0]
    scores = cells[3:5] if number == 9 else cells[3:]  # The last are milliseconds there.
    assert [score for score in scores if score != "-" and score not in header] == []
