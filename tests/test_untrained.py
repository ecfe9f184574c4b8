"""Configurations without weights: listed, built with labels of one's own, and told from presets."""

import subprocess
import sys

import numpy as np
import pytest

import music_zoo
from music_zoo import UnknownPresetError
from music_zoo.models import BACKBONES, named_configs

pytestmark = pytest.mark.keras


def test_every_configuration_has_one_name_and_one_form():
    configs = named_configs()
    modules = {sys.modules[architecture.__module__] for architecture in BACKBONES.values()}
    assert len(configs) == sum(len(module.CONFIGS) for module in modules)
    assert {config["backbone"]["architecture"] for config in configs.values()} == set(BACKBONES)
    for config in configs.values():
        assert set(config) == {"front_end", "backbone", "task", "window", "pooling", "dropout"}
    assert not set(configs) & set(music_zoo.list_models())


def test_list_models_without_weights():
    assert music_zoo.list_models(pretrained=False) == list(named_configs())
    assert music_zoo.list_models("short-*", pretrained=False) == ["short-chunk-cnn", "short-chunk-resnet"]


def test_listing_presets_needs_no_keras():
    code = "import sys, music_zoo; assert music_zoo.list_models(); print('keras' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_build_one_untrained():
    classifier = music_zoo.load("fcn", pretrained=False, labels=["calm", "tense"])
    assert (classifier.labels, classifier.task, classifier.name) == (("calm", "tense"), "multi_label", "fcn")
    assert classifier.window == 29.0
    single = music_zoo.load("fcn", pretrained=False, num_classes=3, task="single_label")
    assert (single.labels, single.task) == (("class_0", "class_1", "class_2"), "single_label")
    kernels = [c.tensors()["backbone.layer1_conv.kernel"] for c in (classifier, single)]
    assert not np.array_equal(*kernels)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "fcn", "pretrained": False}, ValueError, "give `labels` or `num_classes`"),
        ({"name": "fcnn", "pretrained": False, "num_classes": 2}, UnknownPresetError, "Did you mean fcn"),
        (
            {"name": "fcn-mtat", "pretrained": False, "num_classes": 2},
            UnknownPresetError,
            "is no configuration",
        ),
        ({"name": "fcn"}, UnknownPresetError, r"without weights.*load\('fcn', pretrained=False, labels="),
    ],
)
def test_names_that_stand_for_the_other(tmp_path, monkeypatch, arguments, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        music_zoo.load(**arguments)
