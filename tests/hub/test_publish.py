"""Publishing: the page of a preset, what is sent and what is not, the commit written back."""

import re

import pytest
import yaml
from hub_server import READER, WRITER
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from music_zoo.errors import PresetError
from music_zoo.hub import card, publish
from music_zoo.hub.files import PRESET_FILES
from music_zoo.hub.manifest import read_manifest, update_manifest
from music_zoo.hub.schema import BundledSource, HubSource, UrlSource

# Of https://huggingface.co/docs/hub/repositories-licenses, those that presets have.
LICENSES = {"apache-2.0", "cc-by-4.0", "cc-by-nc-4.0", "isc", "mit"}
PRESETS = read_manifest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("name", PRESETS)
def test_the_card_of_every_preset_is_what_the_hub_wants(name):
    entry = PRESETS[name]
    page = ModelCard(card.model_card(name, entry, f"org/{name}"))  # raises where metadata are not valid
    data = page.data.to_dict()
    assert data["library_name"] == "music_zoo" and data["pipeline_tag"] == "audio-classification"
    assert data["license"] in LICENSES and "license_name" not in data
    assert all(isinstance(tag, str) and tag == tag.strip() and len(tag) < 50 for tag in data["tags"])
    told = {
        (result.dataset_name, result.dataset_split, result.metric_type): result.metric_value
        for result in page.data.eval_results or ()
    }
    tests = [result for result in entry.results if "test" in result.split]
    assert told == {
        (it.dataset, it.split, metric): it.metrics[metric] for it in tests for metric in it.metrics
    }
    for model in data.get("model-index", ()):  # what the specification calls required
        assert model["name"] and model["results"]
    for result in (result for model in data.get("model-index", ()) for result in model["results"]):
        assert result["task"]["type"] and result["dataset"]["type"]
        assert result["dataset"]["name"] and all(it["type"] and "value" in it for it in result["metrics"])
    for part in (entry.description, entry.limits, entry.training_data, entry.citation, entry.license):
        assert part in page.text
    for result in entry.results:
        assert (result.command or result.source) in page.text and f"{result.dataset}, " in page.text


def test_use_in_three_lines():
    text = card.model_card("resnet-fma", PRESETS["resnet-fma"], "org/resnet-fma")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    compile(code, "card", "exec")
    assert len([line for line in code.splitlines() if line]) == 3
    assert 'music_zoo.load("hf://org/resnet-fma")' in code


def test_calibration_figures_are_beside_those_of_before():
    text = card.model_card("resnet-fma", PRESETS["resnet-fma"], "org/resnet-fma", "reliability.png")
    for result in PRESETS["resnet-fma"].results:
        row = (
            f"| expected calibration error | {result.metrics['ece']:.4f} | {result.uncalibrated['ece']:.4f} |"
        )
        assert row in text
    assert "![Reliability diagram](reliability.png)" in text


def test_another_licence_goes_by_its_name(entry):
    page = ModelCard(card.model_card("tiny", entry.model_copy(update={"license": "My Own 1.0"}), "org/tiny"))
    assert (page.data.license, page.data.license_name) == ("other", "my-own-1.0")


def test_results_in_the_newer_form():
    hub = pytest.importorskip("huggingface_hub")
    if not hasattr(hub, "parse_eval_result_entries"):
        pytest.skip("an older client")
    told = hub.parse_eval_result_entries(card.eval_results(PRESETS["resnet-gtzan"]))
    (result,) = [it for it in PRESETS["resnet-gtzan"].results if it.split == "test"]
    assert {it.task_id: it.value for it in told} == dict(result.metrics)
    assert {it.dataset_id for it in told} == {"marsyas/gtzan"} and result.command in told[0].notes
    assert card.eval_results(PRESETS["musicnn-mtat"]) == [], "no page of that data set"


def test_what_is_sent_and_that_it_is_sent_once(hub_client, preset, entry, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", WRITER)
    picture = tmp_path / "Reliability.PNG"
    picture.write_bytes(b"a picture")
    publication = publish.prepare("tiny", entry, preset, "org/tiny", picture)
    assert not hub_client.requests
    first = publish.push(publication)
    (bundled, source) = first.sources
    files = hub_client.repos["org/tiny"].at(source.revision)[1]
    assert set(files) == {*PRESET_FILES, "README.md", "labels.txt", "reliability.png", ".gitattributes"}
    assert {file: files[file] for file in PRESET_FILES} == {
        file: (preset / file).read_bytes() for file in PRESET_FILES
    }
    assert files["labels.txt"] == b"a\nb\nc\n" and b"(reliability.png)" in files["README.md"]
    assert bundled == BundledSource() and source.repo == "org/tiny"

    commits = list(hub_client.repos["org/tiny"].commits)
    assert publish.push(publication) == first
    assert list(hub_client.repos["org/tiny"].commits) == commits


def test_a_private_repository(hub_client, preset, entry, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", WRITER)
    publish.push(publish.prepare("tiny", entry, preset, "org/tiny"), private=True)
    assert hub_client.repos["org/tiny"].private


@pytest.mark.parametrize("token", [None, READER, "hf_wrong"])
def test_who_may_not_write(hub_client, preset, entry, monkeypatch, token):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(PresetError, match=r"(?s)hf://org/tiny was not published: .*log in \(`hf auth login`"):
        publish.push(publish.prepare("tiny", entry, preset, "org/tiny"))
    assert not hub_client.repos


def test_a_commit_that_fails_leaves_the_repository_as_it_was(hub_client, preset, entry, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", WRITER)
    for request in ("POST .*/preupload/.*", "POST .*/objects/batch", "POST .*/commit/.*"):
        hub_client.misbehave(request, 400)
        with pytest.raises(PresetError, match="was not published"):
            publish.push(publish.prepare("tiny", entry, preset, "org/tiny"))
        assert len(hub_client.repos["org/tiny"].commits) == 1, "the one that made it"


def test_altered_files_and_authors_checkpoints_are_not_published(preset, entry):
    (preset / "config.json").write_text("{}")
    with pytest.raises(PresetError, match=r"config.json is incomplete or altered"):
        publish.prepare("tiny", entry, preset, "org/tiny")
    with pytest.raises(PresetError, match="is its authors' checkpoint.*--card"):
        publish.prepare("musicnn-mtat", PRESETS["musicnn-mtat"], preset, "org/tiny")


def test_where_the_source_stands(entry):
    mirror = UrlSource(base="https://example.org")
    old, new = (HubSource(repo="org/tiny", revision=digit * 40) for digit in "01")
    before = entry.model_copy(update={"sources": (BundledSource(), mirror, old)})
    assert publish.with_hub_source(before, new).sources == (BundledSource(), new, mirror)


@pytest.fixture
def invoke():
    from music_zoo.cli import app

    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def manifest(hub_client, tmp_path, monkeypatch):
    """A manifest of one bundled preset, in place of music_zoo's own."""
    path = tmp_path / "manifest.json"
    monkeypatch.setenv("MUSIC_ZOO_MANIFEST", str(path))
    update_manifest("resnet-gtzan", PRESETS["resnet-gtzan"], path)
    return path


def test_dry_run_then_push_then_push_again(invoke, hub_client, manifest, monkeypatch):
    before = manifest.read_bytes()
    dry = invoke("publish", "resnet-gtzan", "--repo", "org/resnet-gtzan")
    assert dry.exit_code == 0 and not hub_client.requests and manifest.read_bytes() == before
    assert "1,585,108  model.safetensors" in dry.output and "library_name: music_zoo" in dry.output
    assert "Nothing was sent; with --push" in dry.output

    monkeypatch.setenv("HF_TOKEN", WRITER)
    sent = invoke("publish", "resnet-gtzan", "--repo", "org/resnet-gtzan", "--push")
    assert sent.exit_code == 0, sent.output
    entry = read_manifest()["resnet-gtzan"]
    _, source = entry.sources
    head, files = hub_client.repos["org/resnet-gtzan"].at("main")
    assert source == HubSource(repo="org/resnet-gtzan", revision=head) and str(source) in sent.output
    assert entry.model_copy(update={"sources": PRESETS["resnet-gtzan"].sources}) == PRESETS["resnet-gtzan"]
    (dataset,) = {it["dataset"]["id"] for it in yaml.safe_load(files[".eval_results/music_zoo.yaml"])}
    assert dataset == "marsyas/gtzan"

    after = manifest.stat()
    again = invoke("publish", "resnet-gtzan", "--repo", "org/resnet-gtzan", "--push")
    assert again.exit_code == 0 and str(source) in again.output
    assert len(hub_client.repos["org/resnet-gtzan"].commits) == 2 and manifest.stat() == after


def test_pull_and_cache(invoke, hub_client, manifest, preset, entry, tmp_path):
    commit = hub_client.new_repo("org/tiny", {file: (preset / file).read_bytes() for file in PRESET_FILES})
    hub_client.new_repo("org/other", {"config.json": b'{"model_type": "swin"}', "model.safetensors": b""})
    source, nowhere = (HubSource(repo="org/tiny", revision=it) for it in (commit, COMMIT))
    update_manifest("tiny", entry.model_copy(update={"sources": (source,)}))
    update_manifest("broken", entry.model_copy(update={"sources": (nowhere,)}))
    run = invoke("pull", "--all")
    assert run.exit_code == 1
    assert re.search(rf"^tiny\t{tmp_path}/home/hub/.*{commit}$", run.output, re.MULTILINE)
    assert re.search(r"^resnet-gtzan\t.*presets/resnet-gtzan$", run.output, re.MULTILINE)
    assert "broken: no source of the preset 'broken' gave its files intact" in run.output
    assert invoke("pull", "hf://org/tiny", "tiny").exit_code == 0
    from huggingface_hub import snapshot_download

    snapshot_download("org/other")
    listed = invoke("cache").output.splitlines()
    assert len(listed) == 2 and f"hf://org/tiny@{commit}" in listed[0] and "in all" in listed[1]


def test_an_empty_cache(invoke, hub_client):
    assert invoke("cache").output.split() == ["0.0", "MB", "in", "all"]


def test_verify_manifest(invoke, manifest, tmp_path):
    assert "valid, 1 presets, 1 of them bundled and intact" in invoke("verify", "--manifest").output
    (tmp_path / "bad.json").write_text(manifest.read_text().replace('"task"', '"tsk"'))
    run = invoke("verify", "--manifest", tmp_path / "bad.json")
    assert run.exit_code == 1 and "preset 'resnet-gtzan', field 'task'" in run.output


@pytest.mark.parametrize(
    "args", [["pull"], ["verify"], ["verify", "--all", "x"], ["publish", "x", "--repo", "y"]], ids=" ".join
)
def test_arguments_that_do_not_go(invoke, args):
    assert invoke(*args).exit_code == 2
