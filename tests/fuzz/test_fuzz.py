"""A few wrong files for every reader; `make fuzz` gives them more. Always the same ones."""

import pytest
from fuzzing import SEEDS, prepare, try_example
from hypothesis import HealthCheck, given, settings
from targets import TARGETS

NUM_EXAMPLES = 12


def test_every_reader_has_seeds_and_no_seed_is_without():
    assert {path.name for path in SEEDS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_reads_its_seeds(name, tmp_path):
    TARGETS[name].read(prepare(name, tmp_path / name))


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_ends_well_whatever_it_is_given(name, tmp_path):
    @settings(
        max_examples=NUM_EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(example=TARGETS[name].examples(name))
    def check(example):
        try_example(TARGETS[name], prepare(name, tmp_path / name), *example)

    check()


FINDINGS = sorted(path for path in (SEEDS.parent / "findings").rglob("*") if path.is_file())


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_what_was_found_stays_mended(path, tmp_path):
    name, _, *file = path.relative_to(SEEDS.parent / "findings").parts
    folder = prepare(name, tmp_path / name)
    try_example(TARGETS[name], folder, "/".join(file), path.read_bytes())
