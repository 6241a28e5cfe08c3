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
    return compiler.compile_all()


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
