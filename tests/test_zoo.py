"""Names to presets: which there are, which was meant, and what else `load` takes."""

import pytest

import music_zoo
from music_zoo import PresetError, UnknownPresetError, zoo

NAMES = ("resnet-fma", "resnet-gtzan", "s3t-swin-fma")


@pytest.fixture
def manifest(monkeypatch):
    entries = {name: f"entry of {name}" for name in NAMES}
    monkeypatch.setattr(zoo, "read_manifest", lambda: entries)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", NAMES),
        ("*swin*", NAMES[2:]),
        ("resnet-*", NAMES[:2]),
        ("resnet-fma", NAMES[:1]),
        ("RESNET*", ()),
        ("", ()),
    ],
)
def test_list_models_matches_patterns_in_the_manifest_s_order(manifest, pattern, names):
    assert music_zoo.list_models(pattern) == list(names)


def test_list_models_gives_all_by_default(manifest):
    assert music_zoo.list_models() == list(NAMES)


def test_describe(manifest):
    assert music_zoo.describe("resnet-fma") == "entry of resnet-fma"


def test_unknown_names_are_answered_with_near_ones(manifest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for ask in (music_zoo.describe, music_zoo.load):
        with pytest.raises(UnknownPresetError, match="'resnet-fmaa' is no preset.*Did you mean resnet-fma"):
            ask("resnet-fmaa")
        with pytest.raises(LookupError, match="'xyz' is no preset") as caught:
            ask("xyz")
        assert "Did you mean" not in str(caught.value)
        assert "lists all 3 presets" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": "rock"}, "must be a list of names, got the string 'rock'"),
        ({"labels": ["a", "b"], "num_classes": 3}, "`num_classes` is 3, but there are 2 `labels`"),
        ({"task": "multi_label"}, "`task` belongs to a new head"),
    ],
)
def test_arguments_that_contradict_each_other(manifest, arguments, message):
    with pytest.raises(ValueError, match=message):
        music_zoo.load("resnet-fma", **arguments)


@pytest.mark.keras
@pytest.mark.parametrize("name", ["hf://", "hf://organisation", "hf://a/b/c", "hf://a/b@", "hf://../b"])
def test_malformed_references(name):
    with pytest.raises(PresetError, match="expected 'hf://org/name' or 'hf://org/name@revision'"):
        music_zoo.load(name)


@pytest.mark.keras
def test_a_folder_is_loaded_by_path_or_string(small_classifier, tmp_path):
    small_classifier.save_preset(tmp_path / "mine")
    for name in (tmp_path / "mine", str(tmp_path / "mine")):
        assert music_zoo.load(name).labels == ("a", "b", "c")


@pytest.mark.keras
def test_a_folder_that_is_no_preset(tmp_path):
    with pytest.raises(PresetError, match=r"config\.json"):
        music_zoo.load(tmp_path)


@pytest.mark.keras
def test_a_name_in_the_manifest_is_fetched_into_the_given_cache(
    manifest, small_classifier, tmp_path, monkeypatch
):
    small_classifier.save_preset(tmp_path / "mine")
    asked = []

    def fetch(name, entry, cache_dir):
        asked.append((name, entry, cache_dir))
        return tmp_path / "mine"

    monkeypatch.setattr("music_zoo.hub.sources.fetch", fetch)
    assert music_zoo.load("resnet-fma", cache_dir=tmp_path).window == 1.0
    assert asked == [("resnet-fma", "entry of resnet-fma", tmp_path)]
