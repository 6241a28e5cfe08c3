"""Every CUDA source compiles, on machines without a GPU too."""

import cuda_compiler
import pytest

pytestmark = pytest.mark.slow

PLAIN = "__global__ void fill(int* numbers) { numbers[threadIdx.x] = 1; }\n"


@pytest.fixture(scope="module")
def compiler():
    reason = cuda_compiler.why_not()
    if reason is not None:
        pytest.skip(reason)
    return cuda_compiler.Compiler(device_only=True)


@pytest.fixture(scope="module")
def errors(compiler):
    return compiler.compile_as_one(cuda_compiler.sources())


@pytest.mark.parametrize("source", cuda_compiler.sources(), ids=lambda source: source.stem)
def test_source_compiles(errors, source):
    assert errors[source] is None, errors[source]


def test_error_is_found_and_a_mended_source_is_compiled_again(compiler, tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "objects", tmp_path / "objects")
    source = tmp_path / "fill_cuda.cu"
    source.write_text(PLAIN)
    assert compiler.compile(source) is None
    assert compiler.object_of(source).exists()
    source.write_text(PLAIN.replace("numbers[", "undeclared["))
    assert "undeclared" in compiler.compile(source)
    assert not compiler.object_of(source).exists()


def test_unchanged_source_is_not_compiled_again(compiler, tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "objects", tmp_path / "objects")
    source = tmp_path / "fill_cuda.cu"
    source.write_text(PLAIN)
    assert compiler.compile(source) is None
    monkeypatch.setattr(compiler, "command", ["no-such-compiler"])
    assert compiler.compile(source) is None


def test_of_two_sources_with_equal_names_the_one_with_an_error_is_named(
    compiler, tmp_path, monkeypatch
):
    monkeypatch.setattr(compiler, "objects", tmp_path / "objects")
    first, second = (tmp_path / name / f"{name}_cuda.cu" for name in ("first", "second"))
    for source in (first, second):
        source.parent.mkdir()
        source.write_text(f"namespace deeplab2_d2 {{\n{PLAIN}}}\n")
    assert compiler.compile_as_one([first, second]) == {first: None, second: None}
    second.write_text(second.read_text().replace("numbers[", "undeclared["))
    errors = compiler.compile_as_one([first, second])
    assert errors[first] is None and "undeclared" in errors[second]
