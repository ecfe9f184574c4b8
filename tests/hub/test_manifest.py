"""The manifest: what is valid survives a round trip, all else is refused with preset, field and reason."""

import copy
import hashlib
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from music_zoo.errors import ManifestError
from music_zoo.hub.files import PRESET_FILES
from music_zoo.hub.manifest import Manifest, PresetEntry, Result, read_manifest, update_manifest
from music_zoo.hub.schema import BundledSource, FileRecord, HubSource, OriginalFile, OriginalSource, UrlSource

quick = settings(max_examples=60, deadline=None, derandomize=True)
HEX = "0123456789abcdef"
text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)
count = st.integers(1, 10**12)
metrics = st.dictionaries(text, st.floats(allow_nan=False, allow_infinity=False), max_size=3)
names = st.from_regex(r"[a-z0-9]+(-[a-z0-9]+)*", fullmatch=True)
records = st.builds(FileRecord, size=count, sha256=st.text(HEX, min_size=64, max_size=64))
sources = st.one_of(
    st.just(BundledSource()),
    st.builds(HubSource, repo=st.just("org/name"), revision=st.text(HEX, min_size=40, max_size=40)),
    st.builds(
        UrlSource, base=st.sampled_from(["https://example.org/a/", "http://127.0.0.1:80", "http://[::1]"])
    ),
)
hexadecimal = st.text(HEX, min_size=40, max_size=40)
originals = st.builds(
    OriginalSource,
    originals=st.lists(
        st.builds(
            OriginalFile,
            url=st.just("https://example.org/a.pth"),
            path=st.just("a/b.pth"),
            size=st.none() | count,
            sha256=st.none() | st.text(HEX, min_size=64, max_size=64),
            git_blob=hexadecimal,
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    conversion=text,
    config=text,
)
results = st.builds(
    Result,
    dataset=text,
    split=text,
    examples=count,
    metrics=metrics,
    command=text,
    uncalibrated=metrics,
    note=text | st.just(""),
)
published = st.builds(
    Result, dataset=text, split=text, examples=st.none() | count, metrics=metrics, source=text
)
common = dict(
    description=text,
    architecture=text,
    task=st.sampled_from(["single_label", "multi_label"]),
    labels=st.lists(text, min_size=1, unique=True).map(tuple),
    sample_rate=count,
    window_seconds=st.floats(0, 1e6, exclude_min=True),
    parameters=count,
    license=text,
    training_data=text,
    limits=text,
    results=st.lists(results | published, max_size=2).map(tuple),
    citation=text | st.just(""),
)
entries = st.builds(
    PresetEntry,
    **common,
    sources=st.tuples(sources, sources | originals) | st.tuples(sources),
    files=st.fixed_dictionaries(dict.fromkeys((*PRESET_FILES, "labels.json"), records)),
) | st.builds(PresetEntry, **common, sources=st.tuples(originals))


@quick
@given(st.dictionaries(names, entries, max_size=3))
def test_round_trip(tmp_path_factory, presets):
    path = tmp_path_factory.mktemp("manifest") / "manifest.json"
    manifest = Manifest(schema_version=1, presets=presets)
    manifest.write(path)
    first = path.read_bytes()
    assert read_manifest(path) == manifest
    read_manifest(path).write(path)
    assert path.read_bytes() == first, "formatting is stable"
    assert list(read_manifest(path)) == sorted(presets)
    assert [item.name for item in path.parent.iterdir()] == [path.name], "no temporary file is left"


@pytest.fixture
def valid(entry) -> dict:
    """A valid manifest as JSON, with a source of each kind."""
    data = {"schema_version": 1, "presets": {"tiny": entry.model_dump(mode="json")}}
    data["presets"]["tiny"]["sources"] = [
        {"kind": "bundled"},
        {"kind": "hub", "repo": "org/name", "revision": "0" * 40},
        {"kind": "url", "base": "https://example.org"},
    ]
    return data


def read_data(tmp_path, data) -> Manifest:
    path = tmp_path / "manifest.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return read_manifest(path)


def places(value, path=()):
    """Every path to a value inside a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def container(data, path):
    for key in path[:-1]:
        data = data[key]
    return data


def test_the_example_is_valid(tmp_path, valid, entry):
    manifest = read_data(tmp_path, valid)
    assert manifest["tiny"].files == entry.files
    assert manifest["tiny"].results == entry.results
    assert [str(source) for source in manifest["tiny"].sources] == [
        "bundled in the package",
        f"hf://org/name@{'0' * 40}",
        "https://example.org",
    ]


def test_any_unknown_field_is_refused(tmp_path, valid):
    for path in places(valid):
        data = copy.deepcopy(valid)
        target = container(data, (*path, None))
        if isinstance(target, dict) and path[-1:] not in [("metrics",), ("uncalibrated",)]:
            target["Surprise!"] = 1
            with pytest.raises(ManifestError):
                read_data(tmp_path, data)


def test_any_missing_required_field_is_refused(tmp_path, valid):
    open_mappings = ("presets", "metrics", "uncalibrated")
    for path in places(valid):
        if not path or isinstance(path[-1], int) or path[-1] == "uncalibrated":
            continue
        if len(path) > 1 and path[-2] in open_mappings:
            continue
        data = copy.deepcopy(valid)
        del container(data, path)[path[-1]]
        with pytest.raises(
            ManifestError,
            match="Field required|expected the files|Unable to extract tag using discriminator 'kind'|"
            "expected a result with either the command|expected a measured result",
        ):
            read_data(tmp_path, data)


@pytest.mark.parametrize("wrong", [None, True, [], {}, -1, "", " ", [1], {"a": 1}, 1.5], ids=repr)
def test_any_value_of_another_type_is_refused(tmp_path, valid, wrong):
    allowed = {
        "presets": ({},),
        "results": ([],),
        "metrics": ({}, {"a": 1}),
        "uncalibrated": ({}, {"a": 1}),
        "accuracy": (-1, 1.5),
        "ece": (-1, 1.5),
        "window_seconds": (1.5,),
    }
    for path in places(valid):
        if wrong in allowed.get(path[-1] if path else "", ()) and wrong is not True:
            continue
        data = copy.deepcopy(valid)
        if path:
            container(data, path)[path[-1]] = wrong
        else:
            data = wrong
        with pytest.raises(ManifestError):
            read_data(tmp_path, data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@quick
@given(data=st.data())
def test_any_change_is_read_or_refused_but_never_another_error(tmp_path_factory, data):
    manifest = Manifest(schema_version=1, presets={"tiny": data.draw(entries)})
    path = tmp_path_factory.mktemp("manifest") / "manifest.json"
    manifest.write(path)
    changed = json.loads(path.read_text())
    where = data.draw(st.sampled_from([place for place in places(changed) if place]))
    container(changed, where)[where[-1]] = data.draw(json_values)
    path.write_text(json.dumps(changed))
    try:
        read_manifest(path)
    except ManifestError as error:
        assert str(path) in str(error)


@quick
@given(st.binary(max_size=60))
def test_any_bytes_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("manifest") / "manifest.json"
    path.write_bytes(data)
    with pytest.raises(ManifestError):
        read_manifest(path)


@pytest.mark.parametrize(
    "name",
    [
        "../config.json",
        "/etc/passwd",
        "a/b.json",
        "a\\b.json",
        "..",
        ".hidden",
        "",
        "C:x",
        "a\x00",
        "a ",
        "x.",
        "A",
    ],
)
def test_file_names_that_lead_elsewhere_are_refused(tmp_path, valid, name):
    files = valid["presets"]["tiny"]["files"]
    files[name] = files["config.json"]
    with pytest.raises(
        ManifestError, match=r"preset 'tiny', field 'files': expected a plain lower-case file name"
    ):
        read_data(tmp_path, valid)


@pytest.mark.parametrize(
    ("keys", "wrong", "message"),
    [
        (
            ["files", "config.json", "sha256"],
            "AB" * 32,
            "expected a sha256 of 64 lower-case hexadecimal digits",
        ),
        (["files", "config.json", "sha256"], "ab" * 31, "'files/config.json/sha256'"),
        (["files", "config.json", "size"], 0, "expected greater than 0, got 0"),
        (["files", "config.json", "size"], True, "expected a valid integer, got True"),
        (["sources", 1, "revision"], "main", "'sources/1/hub/revision': expected a commit of 40"),
        (["sources", 1, "repo"], "../name", "expected a Hub repository such as 'org/name'"),
        (
            ["sources", 0, "kind"],
            "magic",
            "the expected tags: 'bundled', 'hub', 'url', 'original', got {'kind': 'magic'}",
        ),
        (["sources"], [], "expected at least one source"),
        (["sources", 2, "base"], "http://example.org", "expected an https address"),
        (["sources", 2, "base"], "http://localhost.example.org", "expected an https address"),
        (["sources", 2, "base"], "file:///etc", "expected an https address"),
        (["sources", 2, "base"], "https://user:word@example.org", "expected an https address"),
        (["sources", 2, "base"], "https://example.org:port", "expected an https address"),
        (["sources", 2, "base"], "https://[", "expected an https address"),
        (["sources", 2, "base"], "https://example.org/a b\n", "expected an https address"),
        (["labels"], ["a", "b", "a"], "'labels': expected labels, none of them twice"),
        (["task"], "regression", "expected 'single_label' or 'multi_label', got 'regression'"),
        (["results", 0, "metrics", "ece"], float("nan"), "NaN is not a number in JSON"),
        (["results", 0, "metrics", "ece"], 10**400, "field 'results/0/metrics/ece': expected a "),
        (["description"], "\ud800", "Invalid JSON: "),
        (["parameters"], 16.0, "'parameters': expected a valid integer, got 16.0"),
        (
            ["window_seconds"],
            "x" * 1000,
            "'window_seconds': expected a valid number, got 'xxxxxxxxxxxx...xxx",
        ),
    ],
)
def test_messages_name_preset_field_and_expectation(tmp_path, valid, keys, wrong, message):
    container(valid["presets"]["tiny"], keys)[keys[-1]] = wrong
    with pytest.raises(ManifestError) as caught:
        read_data(tmp_path, valid)
    assert message in str(caught.value)
    assert "preset 'tiny', field '" in str(caught.value) or "JSON" in str(caught.value)


@pytest.mark.parametrize("name", ["Tiny", "tiny_model", "-tiny", "tiny--model", "", "../tiny", "tiny\n"])
def test_preset_names(tmp_path, valid, name):
    valid["presets"][name] = valid["presets"].pop("tiny")
    with pytest.raises(ManifestError, match="field 'presets': expected a preset name such as 'resnet-fma'"):
        read_data(tmp_path, valid)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"schema_version": 1, "schema_version": 1, "presets": {}}', "'schema_version' is given twice"),
        ('{"schema_version": 2, "presets": {}}', "field 'schema_version': expected 1"),
        ('{"schema_version": 1, "presets": {}, "x": 1}', "field 'x': Extra inputs are not permitted, got 1"),
        ("[]", "the whole: expected an object, got"),
        ("1" * 5000, "not valid JSON"),
    ],
)
def test_broken_files(tmp_path, content, message):
    with pytest.raises(ManifestError, match=message):
        read_data(tmp_path, content)


def test_missing_manifest(tmp_path):
    with pytest.raises(ManifestError, match="cannot read the manifest .*No such file"):
        read_manifest(tmp_path / "manifest.json")


def test_infinity_written_as_a_large_number_is_refused(tmp_path, valid):
    with pytest.raises(ManifestError, match="expected a finite number, got inf"):
        read_data(tmp_path, json.dumps(valid).replace("0.01", "1e999"))


def test_update_adds_changes_and_never_writes_what_is_not_valid(tmp_path, entry):
    path = tmp_path / "manifest.json"
    update_manifest("tiny", entry, path)
    manifest = update_manifest("a-first", entry.model_copy(update={"citation": "Böck, 2016"}), path)
    assert read_manifest(path) == manifest
    assert list(read_manifest(path)) == ["a-first", "tiny"]
    assert "Böck" in path.read_text(encoding="utf-8")
    before = path.read_bytes()
    for name, wrong in [("tiny", entry.model_copy(update={"parameters": -1})), ("No", entry)]:
        with pytest.raises(ManifestError):
            update_manifest(name, wrong, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resluts": ()}, "field 'resluts': Extra inputs are not permitted"),
        ({"parameters": object()}, "field 'parameters': expected a valid integer, got <object"),
        ({"window_seconds": float("nan")}, "field 'window_seconds': expected a finite number, got nan"),
        ({"citation": None}, "field 'citation': expected a valid string, got None"),
        ({"results": [1]}, "field 'results': expected a valid tuple"),
        ({"files": {name: FileRecord(size=1, sha256="0" * 64) for name in PRESET_FILES[:2]}}, "the files "),
    ],
    ids=lambda value: "/".join(value) if isinstance(value, dict) else "",
)
def test_a_copy_with_wrong_fields_is_never_written(tmp_path, entry, change, message):
    with pytest.raises(ManifestError, match=f"preset 'tiny', .*{message}"):
        update_manifest("tiny", entry.model_copy(update=change), tmp_path / "manifest.json")
    assert list(tmp_path.glob("*manifest*")) == []


def test_what_is_no_character_is_never_written(tmp_path, entry):
    with pytest.raises(ManifestError, match="surrogates not allowed"):
        update_manifest("tiny", entry.model_copy(update={"citation": "\ud800"}), tmp_path / "manifest.json")
    assert list(tmp_path.glob("*manifest*")) == []


def test_entries_cannot_be_assigned_to_nor_built_from_wrong_values(entry):
    with pytest.raises(ValidationError, match="frozen"):
        entry.parameters = 1
    with pytest.raises(ValidationError, match="https address"):
        UrlSource(base="ftp://example.org")


def test_an_empty_file_is_measured_but_not_listed(tmp_path, entry):
    (tmp_path / "empty").touch()
    record = FileRecord.of(tmp_path / "empty")
    assert (record.size, record.sha256) == (0, hashlib.sha256(b"").hexdigest())
    changed = entry.model_copy(update={"files": {**entry.files, "empty": record}})
    with pytest.raises(ManifestError, match="'files/empty/size': expected greater than 0, got 0"):
        update_manifest("tiny", changed, tmp_path / "manifest.json")


@pytest.mark.parametrize(
    ("metrics", "headline"),
    [
        ({"macro_f1": 0.5, "accuracy": 0.53125}, "fma-small test: 53.1 % accuracy"),
        ({"nll": 0.2, "roc_auc": 0.9123}, "fma-small test: ROC-AUC 0.912"),
        ({"roc_auc": 0.9123, "average_precision": 0.45}, "fma-small test: ROC-AUC 0.912, PR-AUC 0.450"),
        ({"mae": 0.02, "ece": 0.1}, "fma-small test: mae 0.020, ece 0.100"),
        ({}, "fma-small test: no metric"),
    ],
)
def test_headline(metrics, headline):
    result = Result(dataset="fma-small", split="test", examples=800, metrics=metrics, command="x")
    assert result.headline == headline


def test_a_preset_in_words(entry):
    command = "music-zoo evaluate --model tiny --data " + "a-rather-long-folder/" * 5
    described = entry.model_copy(
        update={
            "description": "A network for tests. " * 8,
            "parameters": 421_832,
            "labels": ("Hip-Hop", "Old-Time / Historic"),
            "training_command": "python train.py",
            "results": (
                Result(
                    dataset="fma-small",
                    split="test",
                    examples=800,
                    metrics={"accuracy": 0.53125, "ece": 0.01},
                    uncalibrated={"ece": 0.1},
                    note="Looked at once.",
                    command=command,
                ),
            ),
        }
    )
    lines = described.to_text("tiny").splitlines()
    assert lines[0].startswith("tiny: A network for tests. ")
    assert all(len(line) <= 100 or command in line for line in lines)
    assert [line.rstrip() for line in lines[3:]] == [
        "task          single-label, 2 labels",
        "labels        Hip-Hop, Old-Time / Historic",
        "architecture  ResNet, 421,832 parameters",
        "input         windows of 30 s at 44100 Hz",
        "trained on    none",
        "limits        It knows nothing.",
        "licence       CC0-1.0",
        "",
        "fma-small test, 800 examples",
        "            calibrated  uncalibrated",
        "  accuracy      0.5312        0.5312",
        "  ece           0.0100        0.1000",
        "  Looked at once.",
        f"  $ {command}",
        "",
        "trained with",
        "  $ python train.py",
    ]


@pytest.fixture
def converted(entry) -> PresetEntry:
    """An entry of an original, with figures of its authors."""
    original = OriginalFile(url="https://example.org/a.pth", path="a/b.pth", git_blob="0" * 40)
    metrics = {"roc_auc": 0.9, "average_precision": 0.4}
    changes = {
        "sources": (OriginalSource(originals=(original,), conversion="fcn", config="fcn"),),
        "files": {},
        "results": (Result(dataset="mtat", split="test", metrics=metrics, source="README of org/name"),),
    }
    return PresetEntry.model_validate(entry.model_copy(update=changes))


def test_an_original_in_words(converted):
    lines = converted.to_text("tiny").splitlines()
    assert "original      https://example.org/a.pth" in lines
    assert lines[-4:] == [
        "mtat test",
        "  roc_auc                0.9000",
        "  average_precision      0.4000",
        "  published: README of org/name",
    ]
    assert converted.results[0].headline == "mtat test: ROC-AUC 0.900, PR-AUC 0.400 (authors)"


@pytest.mark.parametrize(
    ("keys", "wrong", "message"),
    [
        (["files"], "those of another entry", "'files': expected no files beside an original"),
        (["results", 0, "source"], " ", "'results/0': expected a result with either the command"),
        (["results", 0, "command"], "run", "'results/0': expected a result with either the command"),
        (["sources", 0, "original", "git_blob"], "0" * 39, "expected a git blob id of 40"),
        (["sources", 0, "original", "git_blob"], None, "expected a file with its sha256 or its git_blob"),
        (["sources", 0, "original", "path"], "../b.pth", "expected a relative path such as"),
        (["sources", 0, "original", "path"], "/b.pth", "expected a relative path such as"),
        (["sources", 0, "original", "url"], "file:///b.pth", "expected an https address"),
        (["sources", 0, "originals"], [], "expected at least one file"),
        (["sources", 0, "config"], None, "'sources/0/original/config': expected a valid string"),
    ],
)
def test_entries_of_originals_that_cannot_be(tmp_path, valid, converted, keys, wrong, message):
    data = valid | {"presets": {"tiny": converted.model_dump(mode="json")}}
    read_data(tmp_path, data)
    *keys, last = keys
    target = data["presets"]["tiny"]
    for key in keys:
        target = target["originals"][0] if key == "original" else target[key]
    target[last] = valid["presets"]["tiny"]["files"] if last == "files" else wrong
    with pytest.raises(ManifestError, match="preset 'tiny', field '") as caught:
        read_data(tmp_path, data)
    assert message in str(caught.value)


def test_a_git_blob_id_is_that_of_git():
    """`printf hello | git hash-object --stdin`."""
    file = OriginalFile(url="https://a.b", path="c", git_blob="b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0")
    assert file.is_pinned_as(b"hello") and not file.is_pinned_as(b"hallo")
    assert not file.model_copy(update={"size": 6}).is_pinned_as(b"hello")
    assert not file.model_copy(update={"sha256": "0" * 64}).is_pinned_as(b"hello")


@quick
@given(entries, names)
def test_any_preset_can_be_put_in_words(entry, name):
    words = entry.to_text(name).split()
    for result in entry.results:
        assert set(result.command.split()) <= set(words)


def test_reading_needs_nothing_heavy():
    code = "import sys, music_zoo.hub.manifest, music_zoo.hub.sources; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"keras", "numpy", "huggingface_hub", "librosa", "sklearn", "safetensors"} & set(loaded)
