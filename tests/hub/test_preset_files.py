"""A preset's folder: what is written is read back bit for bit; what is damaged is refused, by name."""

import json
import os
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from music_zoo.errors import PresetError
from music_zoo.hub.files import PRESET_FILES, write_atomically
from music_zoo.hub.preset_files import (
    MAX_CONFIG_BYTES,
    MAX_HEADER_BYTES,
    check_tensors,
    read_preset,
    write_preset,
)

WEIGHTS = "model.safetensors"


def raw_safetensors(header: dict | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file by hand: 8 bytes of header length, the header, the data."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def test_round_trip(preset, tensors):
    files = read_preset(preset)
    assert files.config == {"architecture": "ResNet", "labels": ["a", "b", "c"]}
    assert files.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        assert files.tensors[name].dtype == value.dtype and files.tensors[name].shape == value.shape
        np.testing.assert_array_equal(files.tensors[name], value)
    np.testing.assert_array_equal(files.golden["x"], np.ones(2))
    np.testing.assert_array_equal(load_file(preset / WEIGHTS)["dense/kernel"], tensors["dense/kernel"])


def test_views_are_stored_as_they_look(tmp_path):
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_preset(tmp_path / "p", {}, {"t": matrix.T, "s": matrix[:, ::2]})
    files = read_preset(tmp_path / "p")
    np.testing.assert_array_equal(files.tensors["t"], matrix.T)
    np.testing.assert_array_equal(files.tensors["s"], matrix[:, ::2])
    assert files.golden is None


def test_the_same_preset_gives_the_same_bytes(tmp_path, tensors):
    for name in ("a", "b"):
        write_preset(tmp_path / name, {"x": 1}, tensors, tensors)
    for file in PRESET_FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_an_older_preset_is_replaced_as_a_whole(preset, tensors):
    write_preset(preset, {"new": True}, tensors)
    assert read_preset(preset).config == {"new": True}
    assert sorted(item.name for item in preset.iterdir()) == ["config.json", WEIGHTS], (
        "the old golden file is gone"
    )
    assert [item.name for item in preset.parent.iterdir()] == [preset.name]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_others_may_read_what_is_written(preset):
    mask = os.umask(0)
    os.umask(mask)
    assert preset.stat().st_mode & 0o777 == 0o777 & ~mask
    for file in PRESET_FILES:
        assert (preset / file).stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("content", ["notes.txt", ".git", "config.json"])
def test_a_folder_of_other_things_is_left_alone(tmp_path, tensors, content):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / content).write_text('{"model_type": "swin"}')
    with pytest.raises(PresetError, match=content):
        write_preset(tmp_path / "p", {}, tensors)
    assert (tmp_path / "p" / content).read_text() == '{"model_type": "swin"}'


def test_a_file_in_the_place_of_the_folder_is_left_alone(tmp_path, tensors):
    (tmp_path / "p").write_text("precious")
    with pytest.raises(PresetError, match="found a file"):
        write_preset(tmp_path / "p", {}, tensors)
    assert (tmp_path / "p").read_text() == "precious"


@pytest.mark.parametrize(
    ("config", "weights", "message"),
    [
        ({"x": float("nan")}, {}, "expected a config that JSON can hold"),
        ({"x": object()}, {}, "expected a config that JSON can hold"),
        ({}, {"w": np.array([1, np.inf])}, "'w' holds NaN or infinity"),
        ({}, {"w": np.array([1j])}, "'w' is complex128"),
        ({}, {"w": np.array(["a"])}, "'w' is <U1"),
        ({}, {"w": np.array([True])}, "'w' is bool"),
    ],
)
def test_what_cannot_be_stored_leaves_the_old_preset(preset, config, weights, message):
    before = {item.name: item.read_bytes() for item in preset.iterdir()}
    with pytest.raises(PresetError, match=message):
        write_preset(preset, config, weights)
    assert {item.name: item.read_bytes() for item in preset.iterdir()} == before
    assert [item.name for item in preset.parent.iterdir()] == [preset.name]


def test_a_swap_that_fails_midway_brings_the_old_preset_back(preset, tensors, monkeypatch):
    path_type, moves = type(preset), []
    rename = path_type.rename

    def failing(self, target):
        moves.append(target)
        if len(moves) == 2:
            raise OSError("the disk went away")
        return rename(self, target)

    monkeypatch.setattr(path_type, "rename", failing)
    with pytest.raises(OSError, match="went away"):
        write_preset(preset, {"new": True}, tensors)
    assert read_preset(preset).config["architecture"] == "ResNet"
    assert [item.name for item in preset.parent.iterdir()] == [preset.name]


def test_a_folder_that_is_missing_or_lacks_a_file(preset):
    with pytest.raises(PresetError, match="nowhere: expected a preset's folder"):
        read_preset(preset / "nowhere")
    (preset / WEIGHTS).unlink()
    with pytest.raises(PresetError, match=r"model.safetensors: missing"):
        read_preset(preset)


@pytest.mark.parametrize("file", [WEIGHTS, "golden.safetensors"])
def test_truncation_at_any_byte_is_noticed(preset, file):
    whole = (preset / file).read_bytes()
    for length in [*range(0, 16), *range(16, len(whole), 7), len(whole) - 1]:
        (preset / file).write_bytes(whole[:length])
        with pytest.raises(PresetError, match=file):
            read_preset(preset)
    (preset / file).write_bytes(whole + b"\0")
    with pytest.raises(PresetError, match=file):
        read_preset(preset)


def test_truncated_config(preset):
    whole = (preset / "config.json").read_bytes().rstrip()
    for length in range(len(whole)):
        (preset / "config.json").write_bytes(whole[:length])
        with pytest.raises(PresetError, match=r"config.json"):
            read_preset(preset)


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HOSTILE = {
    "no header": b"",
    "a header of 2^63 bytes": raw_safetensors({}, length=2**63),
    "a header longer than allowed": raw_safetensors({}, length=50_000_000),
    "a header longer than the file": raw_safetensors({}, length=100),
    "a header that is not JSON": raw_safetensors(b"not json"),
    "a header that is not UTF-8": raw_safetensors(b'{"\xff": 1}'),
    "a header that is a list": raw_safetensors(b"[]"),
    "no dtype": raw_safetensors({"w": {"shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
    "an unknown dtype": raw_safetensors({"w": {**ONE, "dtype": "PICKLE"}}, b"\0" * 4),
    "bfloat16": raw_safetensors({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, b"\0" * 4),
    "eight-bit floats": raw_safetensors(
        {"w": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}, b"\0" * 4
    ),
    "booleans": raw_safetensors({"w": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}, b"\1"),
    "offsets outside": raw_safetensors({"w": {**ONE, "data_offsets": [4, 8]}}, b"\0" * 4),
    "offsets backwards": raw_safetensors({"w": {**ONE, "data_offsets": [4, 0]}}, b"\0" * 4),
    "a negative offset": raw_safetensors({"w": {**ONE, "data_offsets": [-4, 0]}}, b"\0" * 4),
    "overlapping tensors": raw_safetensors({"v": ONE, "w": ONE}, b"\0" * 4),
    "a hole": raw_safetensors({"v": ONE, "w": {**ONE, "data_offsets": [8, 12]}}, b"\0" * 12),
    "a shape that overflows": raw_safetensors({"w": {**ONE, "shape": [2**40, 2**40]}}, b"\0" * 4),
    "a negative shape": raw_safetensors({"w": {**ONE, "shape": [-1]}}, b"\0" * 4),
    "another shape than data": raw_safetensors({"w": {**ONE, "shape": [2]}}, b"\0" * 4),
    "not a number": raw_safetensors({"w": ONE}, struct.pack("<f", float("nan"))),
    "infinity": raw_safetensors({"w": ONE}, struct.pack("<f", float("-inf"))),
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93.",
    "a web page": b"<!DOCTYPE html><html><body>Not found</body></html>",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("file", [WEIGHTS, "golden.safetensors"])
def test_hostile_tensors_are_refused(preset, file, content):
    (preset / file).write_bytes(content)
    with pytest.raises(PresetError, match=file):
        read_preset(preset)


def test_a_header_is_bounded_before_it_is_parsed(preset):
    (preset / WEIGHTS).write_bytes(raw_safetensors(b"{}" + b" " * MAX_HEADER_BYTES))
    with pytest.raises(PresetError, match=f"expected a header of at most {MAX_HEADER_BYTES} bytes"):
        read_preset(preset)


def test_the_files_made_by_hand_are_right_but_for_their_fault(preset):
    (preset / WEIGHTS).write_bytes(raw_safetensors({"w": ONE}, struct.pack("<f", 1.5)))
    assert read_preset(preset).tensors == {"w": np.float32(1.5)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "valid JSON"),
        (b"\xff\xfe", "valid JSON"),
        (b'{"format_version": 1, "a": 1, "a": 2}', "'a' is given twice"),
        (b'{"format_version": 1, "a": NaN}', "NaN is not a number in JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1]", "expected a JSON object, found list"),
        (b"{}", "expected format_version 1, found None"),
        (b'{"format_version": 2}', "found 2; a higher one was written by a newer music_zoo"),
        (b'{"format_version": true}', "found True"),
        (b" " * (MAX_CONFIG_BYTES + 1), f"expected at most {MAX_CONFIG_BYTES} bytes"),
    ],
)
def test_broken_configs_are_refused(preset, content, message):
    (preset / "config.json").write_bytes(content)
    with pytest.raises(PresetError, match=message) as caught:
        read_preset(preset)
    assert "config.json" in str(caught.value)


def test_a_folder_where_a_file_should_be(preset):
    (preset / WEIGHTS).unlink()
    (preset / WEIGHTS).mkdir()
    with pytest.raises(PresetError, match=r"model.safetensors"):
        read_preset(preset)


def test_check_tensors_names_all_that_differs(tensors):
    shapes = {name: value.shape for name, value in tensors.items()}
    check_tensors(shapes, tensors)
    got = dict(tensors, extra=np.zeros(1), steps=np.zeros((2, 2)))
    del got["dense/bias"]
    with pytest.raises(PresetError) as caught:
        check_tensors(shapes, got)
    assert str(caught.value) == (
        "the weights are not those of this model; 1 missing: dense/bias; 1 not part of the model: extra; "
        "1 of another shape: steps (expected (), got (2, 2))"
    )
    with pytest.raises(PresetError, match=r"20 missing: a0, a1, a2, a3, a4, a5, a6, a7, \.\.\."):
        check_tensors({f"a{i}": (1,) for i in range(20)}, {})


def test_write_atomically_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_safetensors_of_other_writers_are_read(preset):
    save_file({"w": np.arange(3, dtype=np.uint8)}, preset / WEIGHTS, metadata={"format": "pt"})
    np.testing.assert_array_equal(read_preset(preset).tensors["w"], [0, 1, 2])
