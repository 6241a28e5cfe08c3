"""docs/errors.md tells what programs say: each mistake of its table, made again."""

import error_table
import pytest


@pytest.fixture(scope="module")
def lines():
    return error_table.error_lines()


def test_every_mistake_ends_in_one_line_without_a_traceback(lines):
    for mistake, (status, said) in lines.items():
        assert status in (1, 2), mistake
        assert "Traceback" not in "\n".join(said), (mistake, said)
        # Before the line there is at most the table of weights that do not fit.
        assert len(said) == 1 or "weights" in mistake.title, (mistake, said)
        program = mistake.command.replace("-m deeplab2_d2.data.", "").split()[0]
        name = program.rpartition("/")[2] if program != "-m" else "checkpoint"
        assert said[-1].startswith(f"{name}: "), (mistake, said)


def test_the_page_shows_these_lines(lines):
    page = error_table.DOCUMENT.read_text()
    missing = [m.title for m, (_, said) in lines.items() if f"`{said[-1]}`" not in page]
    assert missing == [], "run `python tests/error_table.py`"
