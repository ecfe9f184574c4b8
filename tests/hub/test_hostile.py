"""Presets made to do harm: refused with a message, nothing of them run, nothing written."""

import json
import os
import sys

import pytest
from small import small_classifier

import music_zoo
from music_zoo.errors import PresetError
from music_zoo.hub.preset_files import MAX_ITEMS

pytestmark = pytest.mark.keras

#: As Keras writes an object that it is to build; here, a function to be called.
SYSTEM = {
    "module": "os",
    "class_name": "system",
    "config": {"command": "touch harm"},
    "registered_name": None,
}
IMPORT = {"module": "this", "class_name": "d", "config": {}, "registered_name": None}
LAMBDA = {
    "module": "keras.layers",
    "class_name": "Lambda",
    "config": {"function": {"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}},
    "registered_name": None,
}
CODE = "__import__('os').system('touch harm')"

HOSTILE = [
    # Other things in the place of the model.
    (["kind"], "os.system"),
    (["kind"], ["classifier"]),
    (["kind"], SYSTEM),
    (["kind"], "ensemble"),
    (["classifier"], SYSTEM),
    (["classifier"], LAMBDA),
    (["classifier"], CODE),
    (["classifier"], None),
    # Classes and modules of others.
    (["classifier", "backbone", "architecture"], "os.system"),
    (["classifier", "backbone", "architecture"], "keras.layers.Lambda"),
    (["classifier", "backbone", "architecture"], "../../harm"),
    (["classifier", "backbone", "architecture"], CODE),
    (["classifier", "backbone", "architecture"], ["ResNet"]),
    (["classifier", "backbone", "architecture"], {"ResNet": 1}),
    (["classifier", "backbone"], SYSTEM),
    (["classifier", "backbone"], LAMBDA),
    (["classifier", "backbone", "config", "function"], LAMBDA),
    (["classifier", "backbone", "config", "dtype"], SYSTEM),
    (["classifier", "backbone", "config", "dtype"], IMPORT),
    (["classifier", "backbone", "config", "name"], SYSTEM),
    (["classifier", "backbone", "config", "__class__"], "os.system"),
    (["classifier", "front_end"], SYSTEM),
    (["classifier", "front_end", "layers", 0, "layer"], "Lambda"),
    (["classifier", "front_end", "layers", 0, "layer"], "keras.layers.Lambda"),
    (["classifier", "front_end", "layers", 0, "layer"], {"class_name": "Lambda"}),
    (["classifier", "front_end", "layers", 0], SYSTEM),
    (["classifier", "front_end", "layers", 0, "config", "dtype"], SYSTEM),
    (["classifier", "front_end", "layers", 0, "config", "dtype"], IMPORT),
    (["classifier", "front_end", "layers", 0, "config", "trainable"], LAMBDA),
    (["classifier", "calibrator"], SYSTEM),
    (["classifier", "calibrator"], "temperature"),
    (["classifier", "calibrator"], {"kind": "os.system", "config": {}}),
    (["classifier", "calibrator"], {"kind": ["temperature"], "config": {}}),
    (["classifier", "calibrator"], {"kind": "temperature", "config": {"function": LAMBDA}}),
    (["classifier", "calibrator"], {"kind": "temperature", "config": {"name": SYSTEM}}),
    (["classifier", "pooling"], "os.system"),
    (["classifier", "task"], CODE),
    (["classifier", "name"], SYSTEM),
    (["classifier", "custom_objects"], {"x": "os.system"}),
    # More than any machine can hold.
    (["classifier", "backbone", "config", "widths"], [10**9, 10**9]),
    (["classifier", "backbone", "config", "stem_width"], 2**31),
    (["classifier", "backbone", "config", "blocks"], [10**6, 10**6]),
    (["classifier", "backbone", "config", "n_mels"], 10**12),
    (["classifier", "front_end", "sample_rate"], 10**12),
    (["classifier", "front_end", "layers", 0, "config", "n_fft"], 2**40),
    (["classifier", "front_end", "layers"], [{"layer": "STFT"}] * (MAX_ITEMS + 1)),
    (["classifier", "window"], 1e9),
    (["classifier", "window"], -1.0),
    (["classifier", "labels"], [str(number) for number in range(MAX_ITEMS + 1)]),
    (["classifier", "labels"], ["a", "a", "b"]),
    (["classifier", "labels"], CODE),
    (["classifier", "labels"], [["a"], ["b"], ["c"]]),
    (["classifier", "dropout"], 1e308),
    (["classifier", "dropout"], -1),
]


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preset") / "small"
    small_classifier().save_preset(folder)
    return folder


@pytest.mark.parametrize(
    ("path", "value"), HOSTILE, ids=[f"{path[-1]}-{number}" for number, (path, _) in enumerate(HOSTILE)]
)
def test_hostile_configs_are_refused(preset, tmp_path, monkeypatch, path, value):
    monkeypatch.chdir(tmp_path)
    inner = changed = json.loads((preset / "config.json").read_text())
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    folder = tmp_path / "preset"
    folder.mkdir()
    for file in preset.glob("*.safetensors"):
        (folder / file.name).symlink_to(file)
    (folder / "config.json").write_text(json.dumps(changed))
    with pytest.raises(PresetError):
        music_zoo.load(folder)
    assert os.listdir(tmp_path) == ["preset"], "nothing was run or written"
    assert "this" not in sys.modules


def test_the_config_is_right_but_for_what_is_changed(preset):
    assert music_zoo.load(preset).labels == ("a", "b", "c")


@pytest.mark.parametrize("file", ["model.safetensors", "golden.safetensors", "config.json"])
@pytest.mark.parametrize("target", ["/etc/passwd", "/dev/zero", "."])
def test_links_to_elsewhere_are_refused(preset, tmp_path, file, target):
    folder = tmp_path / "preset"
    folder.mkdir()
    for other in preset.iterdir():
        (folder / other.name).symlink_to(target if other.name == file else other)
    with pytest.raises(PresetError, match=file):
        music_zoo.load(folder)
