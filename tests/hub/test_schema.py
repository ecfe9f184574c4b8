"""The JSON Schema of the manifest, for other tools: written down, current, and as strict as it can be."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from music_zoo.hub.manifest import Manifest, read_manifest

SCHEMA = Path(__file__).parents[2] / "weights_manifest.schema.json"


def current() -> str:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"


def test_the_file_is_current():
    assert SCHEMA.read_text() == current(), f"write it anew: python {Path(__file__).name}"


@pytest.fixture
def check():
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema).is_valid


def test_it_takes_our_manifest_and_refuses_what_we_refuse(check):
    manifest = json.loads(read_manifest().model_dump_json())
    assert check(manifest)
    for path, wrong in [
        (["presets", "resnet-fma", "files", "config.json", "sha256"], "AB" * 32),
        (["presets", "resnet-fma", "files", "../config.json"], {"size": 1, "sha256": "0" * 64}),
        (["presets", "resnet-fma", "sources"], [{"kind": "hub", "repo": "org/x", "revision": "main"}]),
        (["presets", "resnet-fma", "sources"], [{"kind": "ftp"}]),
        (["presets", "resnet-fma", "task"], "regression"),
        (["presets", "resnet-fma", "parameters"], 0),
        (["presets", "resnet-fma", "surprise"], 1),
        (["presets", "No Name"], manifest["presets"]["resnet-fma"]),
    ]:
        changed = inner = copy.deepcopy(manifest)
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = wrong
        assert not check(changed), path


if __name__ == "__main__":
    SCHEMA.write_text(current())
