import struct
from pathlib import Path

import numpy as np
import pytest
from bundle_writer import entry, field, table, write_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parity import rule

from deeplab2_d2.checkpoint.sorted_table import CheckpointFormatError
from deeplab2_d2.checkpoint.tensor_bundle import TensorBundle

CHECKPOINT = Path(__file__).parents[1] / "parity/data/checkpoint/mobilenet_v3_small_narrow"


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return {
        "encoder/_stem/_conv/kernel": random.normal(size=(7, 7, 3, 4)).astype(np.float32),
        "encoder/_stem/_batch_norm/gamma": random.normal(size=4).astype(np.float32),
        "global_step": np.array(60000, np.int64),
        "half": random.normal(size=(2, 3)).astype(np.float16),
        "empty": np.zeros((0, 4), np.float32),
    }


@pytest.mark.parametrize("num_shards", [1, 3])
def test_every_value_comes_back(tmp_path, arrays, num_shards):
    write_bundle(tmp_path / "ckpt", arrays, num_shards)
    bundle = TensorBundle(tmp_path / "ckpt")
    assert sorted(bundle) == sorted(arrays) and len(bundle) == 5
    for key, array in arrays.items():
        value = bundle.read(key)
        assert (value.dtype, value.shape) == (array.dtype, array.shape)
        assert np.array_equal(value, array)
    assert not bundle.read("half").flags.writeable
    with pytest.raises(KeyError, match="no tensor 'quarter'"):
        bundle.read("quarter")


def test_a_shard_cut_short_is_refused_with_its_name_and_end(tmp_path, arrays):
    write_bundle(tmp_path / "ckpt", arrays)
    shard = tmp_path / "ckpt.data-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:-4])
    end = shard.stat().st_size
    with pytest.raises(CheckpointFormatError, match=f"00000-of-00001, byte {end}: .*cut short"):
        TensorBundle(tmp_path / "ckpt")


def test_a_shard_that_is_cut_short_after_it_was_opened_is_named(tmp_path, arrays):
    write_bundle(tmp_path / "ckpt", arrays)
    bundle = TensorBundle(tmp_path / "ckpt")
    with open(tmp_path / "ckpt.data-00000-of-00001", "r+b") as file:
        file.truncate(100)
    last = max(bundle.entries, key=lambda key: bundle.entries[key].offset)
    with pytest.raises(CheckpointFormatError, match=f"00000-of-00001, byte 100: .* ends in {last}"):
        bundle.read(last)


def test_an_index_that_promises_any_number_of_shards_ends_at_the_first_missing(tmp_path):
    index = table([(b"", field(1, 2**40)), (b"k", entry(np.zeros(1, np.float32), 0, 0))])
    (tmp_path / "ckpt.index").write_bytes(index)
    with pytest.raises(FileNotFoundError, match=f"data-00000-of-{2**40}: this shard"):
        TensorBundle(tmp_path / "ckpt")


@pytest.mark.parametrize("key_size, num_entries", [(1000, 2000), (4, 10000)])
def test_a_table_that_unfolds_without_end_is_refused(tmp_path, monkeypatch, key_size, num_entries):
    # Every key shares all but its last bytes with the one before.
    monkeypatch.setattr("deeplab2_d2.checkpoint.sorted_table._MAX_UNFOLDED", 1 << 20)
    entries = [(b"k" * key_size + b"%06d" % i, b"") for i in range(num_entries)]
    index = table([(b"", field(1, 1)), *entries], block_size=num_entries + 1)
    assert len(index) < 1 << 18
    (tmp_path / "ckpt.index").write_bytes(index)
    with pytest.raises(CheckpointFormatError, match="entries of the table take more than 1048576"):
        TensorBundle(tmp_path / "ckpt")


@pytest.mark.parametrize(
    "key", [b"\xff\xfe", b"a\0b", b"\x1b[31mred", b"a\nb", b"k" * 5000], ids=range(5)
)
def test_a_key_that_is_no_word_is_refused_in_a_short_line(tmp_path, key):
    index = table([(b"", field(1, 1)), (key, entry(np.zeros(1, np.float32), 0, 0))])
    (tmp_path / "ckpt.index").write_bytes(index)
    with pytest.raises(
        CheckpointFormatError, match="a key must be a word of at most 4096"
    ) as error:
        TensorBundle(tmp_path / "ckpt")
    assert str(error.value).isprintable() and len(str(error.value)) < 500


@pytest.mark.parametrize("shape", [(0, 2**63), (2**40, 0, 2**40), (1,) * 70])
def test_a_shape_that_no_array_has_is_refused(tmp_path, shape):
    dimensions = b"".join(field(2, field(1, size)) for size in shape)
    value = field(1, 1) + field(2, dimensions) + field(5, 0)
    index = table([(b"", field(1, 1)), (b"k", value)])
    (tmp_path / "ckpt.index").write_bytes(index)
    (tmp_path / "ckpt.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(CheckpointFormatError, match="k must have at most 32 dimensions and 2"):
        TensorBundle(tmp_path / "ckpt")


def test_a_missing_shard_is_named(tmp_path, arrays):
    write_bundle(tmp_path / "ckpt", arrays, num_shards=2)
    (tmp_path / "ckpt.data-00001-of-00002").unlink()
    with pytest.raises(FileNotFoundError, match="data-00001-of-00002"):
        TensorBundle(tmp_path / "ckpt")


def test_a_changed_value_is_found_when_it_is_read(tmp_path, arrays):
    write_bundle(tmp_path / "ckpt", arrays)
    shard = tmp_path / "ckpt.data-00000-of-00001"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    bundle = TensorBundle(tmp_path / "ckpt")
    last = max(bundle.entries, key=lambda key: bundle.entries[key].offset)
    with pytest.raises(CheckpointFormatError, match=f"the checksum of {last} is wrong"):
        bundle.read(last)


@pytest.mark.parametrize("kept", [0, 20, 47, 60, -1, -8])
def test_an_index_cut_short_is_refused(tmp_path, arrays, kept):
    write_bundle(tmp_path / "ckpt", arrays)
    index = tmp_path / "ckpt.index"
    index.write_bytes(index.read_bytes()[:kept])
    with pytest.raises(CheckpointFormatError, match="ckpt.index, byte"):
        TensorBundle(tmp_path / "ckpt")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_no_flipped_bit_of_the_index_goes_unnoticed(tmp_path_factory, position, bit):
    folder = tmp_path_factory.mktemp("flipped")
    arrays = {f"layer{i}/kernel": np.full((2, 3), i, np.float32) for i in range(5)}
    write_bundle(folder / "ckpt", arrays)
    index = folder / "ckpt.index"
    data = bytearray(index.read_bytes())
    # The meta index and the unused part of the footer carry no information.
    data[position % len(data)] ^= 1 << bit
    index.write_bytes(data)
    try:
        bundle = TensorBundle(folder / "ckpt")
        values = {key: bundle.read(key) for key in bundle}
    except (CheckpointFormatError, FileNotFoundError):
        return
    assert {key: value.tolist() for key, value in values.items()} == {
        key: value.tolist() for key, value in arrays.items()
    }


def test_a_file_of_another_format_is_refused(tmp_path):
    (tmp_path / "ckpt.index").write_bytes(b"PK\x03\x04" + bytes(200))
    with pytest.raises(CheckpointFormatError, match="byte 196: .*of another format"):
        TensorBundle(tmp_path / "ckpt")


def test_an_absent_checkpoint_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        TensorBundle(tmp_path / "nothing")


def test_a_table_that_is_no_checkpoint_is_refused(tmp_path):
    from bundle_writer import table

    (tmp_path / "ckpt.index").write_bytes(table([(b"key", b"value")]))
    with pytest.raises(CheckpointFormatError, match="not of a checkpoint"):
        TensorBundle(tmp_path / "ckpt")


def test_compressed_blocks_are_refused_by_name(tmp_path, arrays):
    from bundle_writer import MAGIC, masked_crc32c, varint

    body = struct.pack("<II", 0, 1) + b"\x01"  # type 1: snappy
    data = body + struct.pack("<I", masked_crc32c(body))
    handles = varint(0) + varint(8) + varint(0) + varint(8)
    footer = handles.ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    (tmp_path / "ckpt.index").write_bytes(data + footer)
    with pytest.raises(CheckpointFormatError, match="compression 1"):
        TensorBundle(tmp_path / "ckpt")


def test_tensorflows_own_checkpoint_holds_the_rules_values():
    bundle = TensorBundle(CHECKPOINT / "ckpt-1")
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    keys = [key for key in bundle if key.endswith(suffix) and key != "save_counter" + suffix]
    assert len(keys) == 362 and len(bundle) == 364
    for key in keys:
        value = bundle.read(key)
        assert np.array_equal(value, rule.weight(key[: -len(suffix)], value.shape))
    assert bundle.read("save_counter" + suffix) == 1
