"""README.md and the pages say what is there: commands, names, links, scores."""

import re
from pathlib import Path

import pytest
import yaml
from detectron2.modeling import META_ARCH_REGISTRY

import deeplab2_d2
from deeplab2_d2.checkpoint.zoo_table import find_row, short_names, zoo_rows

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / "datasets" / "README.md", *DOCS),
]
# Pages of others: not ours to fetch here.
_ELSEWHERE = re.compile(r"[a-z]+:")


def _text(path):
    """A page without the code on it, in which brackets are no links."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"`[^`\n]*`", "code", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def _anchors(path):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", _text(page)):
        if _ELSEWHERE.match(target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target} is not there"
        if anchor and path.suffix == ".md":
            assert anchor in _anchors(path), f"{page.name}: {target} is no heading"


def test_the_reference_has_every_public_room():
    reference = "".join(p.read_text() for p in (ROOT / "docs/reference").glob("*.rst"))
    documented = set(re.findall(r"automodule:: deeplab2_d2\.(\S+)", reference))
    package = ROOT / "projects" / "deeplab2_d2"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    assert rooms - documented == set(), "add a page to docs/reference"
    for name in documented:
        path = package / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_exists(page):
    text = page.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    code = "".join(re.findall(r"```\w*\n.*?```", text, re.DOTALL))
    targets = re.findall(r"`make ([a-z\-]+)", text) + re.findall(r"^make ([a-z\-]+)", code, re.M)
    for target in targets:
        assert target in phony.split(), f"{page.name}: make {target}"
    for module in re.findall(r"python -m (deeplab2_d2[\w.]*)", text):
        path = ROOT / "projects" / module.rstrip(".").replace(".", "/")
        is_there = path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
        assert is_there, f"{page.name}: python -m {module}"
    for script in re.findall(r"python ((?:demo|datasets|tests|scripts)/[\w/]+\.py)", text):
        assert (ROOT / script).is_file(), f"{page.name}: {script}"


def test_the_targets_of_make_are_the_ones_that_its_help_names():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    rules = set(re.findall(r"^([a-z][a-z \-]*):", makefile, re.MULTILINE))
    assert set(phony.split()) == {name for rule in rules for name in rule.split()}
    (told,) = re.findall(r"^help:\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    untold = {name for name in phony.split() if name not in told}
    assert untold <= {"help"}, untold


def test_the_meta_architectures_of_the_table_are_registered():
    (table,) = re.findall(r"^\| model \|.*?\n\n", README, re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`(DeepLab2\w+)`", table))
    named |= {f"DeepLab2DeepLab{end}" for end in re.findall(r"`\.\.\.(V\w+)`", table)}
    registered = {name for name, _ in META_ARCH_REGISTRY if name.startswith("DeepLab2")}
    assert named <= registered and len(named) >= 11


# Models of the README's table under the zoo's names.
_RELEASED = {"DeepLab v1, v2, v3, v3+": "DeepLab v3+"}


def _model_rows():
    """The cells of the README's table of models, by the model's name."""
    (table,) = re.findall(r"^\| model \|.*?\n\n", README, re.MULTILINE | re.DOTALL)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.split("\n")[2:-2]]
    return {re.sub(r"\[(.*?)\]\(.*?\)", r"\1", cells[0]): cells for cells in rows}


@pytest.mark.parametrize("name", _model_rows())
def test_released_scores_are_those_of_the_zoo(name):
    model, cell = _RELEASED.get(name, name), _model_rows()[name][3]
    told = re.findall(r"([A-Z][\w -]*?) (PQ|mIoU|STQ|VPQ) ([\d.]+)(?: to ([\d.]+))?", cell)
    assert bool(told) == any(row.model == model for row in zoo_rows())
    for dataset, score, least, greatest in told:
        found = [
            scores[key]
            for row in zoo_rows()
            if row.model == model and row.dataset.startswith(dataset)
            for kind, scores in row.scores.items()
            for key in (score, f"val {score}")
            if kind in ("official", "published") and key in scores
        ]
        # Of the two or more digits that are published the table has one.
        assert float(least) == pytest.approx(min(found), abs=0.051), dataset
        assert float(greatest or least) == pytest.approx(max(found), abs=0.051), dataset


def test_models_are_named_as_load_model_takes_them():
    for page in (ROOT / "README.md", *DOCS):
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r'load_model\("([\w./]+_[\w./]+)"', text):
            if not name.endswith((".pth", ".yaml")):
                assert find_row(short_names().get(name, name)).config


def test_the_citation_has_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == deeplab2_d2.__version__
    assert all(entry["authors"] and entry["url"] for entry in citation["references"])
