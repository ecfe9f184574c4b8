"""What a recipe may hold, and how one is refused."""

import re
from pathlib import Path

import pytest

from music_zoo.errors import RecipeError
from music_zoo.hub.manifest import read_manifest

pytestmark = pytest.mark.keras

RECIPES = sorted((Path(__file__).parents[2] / "examples" / "recipes").rglob("*.yaml"))
RECIPE = {"preset": "toy", "data": "fma-small", "encoder": "resnet-compact", "fit": "{epochs: 2}"}


@pytest.fixture
def read(tmp_path):
    """Read a recipe of these settings, as the text of a YAML file."""
    from music_zoo.training.recipe import read_recipe

    def read(overrides: dict | None = None, **settings: str):
        path = tmp_path / "toy.yaml"
        lines = [f"{name}: {value}" for name, value in (RECIPE | settings).items() if value is not None]
        path.write_text("\n".join(lines))
        return read_recipe(path, **overrides or {})

    return read


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_valid_and_build_their_network(path):
    from music_zoo.models import BACKBONES
    from music_zoo.pretraining.settings import named_config
    from music_zoo.training.recipe import read_recipe

    recipe = read_recipe(path)
    assert recipe.preset == path.stem
    backbone = named_config(recipe.encoder)["backbone"]
    network = BACKBONES[backbone["architecture"]](**backbone["config"] | recipe.encoder_options)
    assert 4 * network.count_params() < 16e6  # bytes: what is bundled is smaller yet
    known = {recipe.stem for recipe in RECIPES} | set(read_manifest())
    needed = {recipe.start, recipe.distill and recipe.distill.teacher}
    needed = needed.union(*(fit.teachers for fit in recipe.fit)) - {None, "vggish"}
    assert {name.removesuffix("/pretrained") for name in needed} <= known


def test_sections_know_what_the_recipe_says_for_all(read):
    recipe = read(
        {"seed": 7, "precision": None},
        encoder="sample-cnn",
        sample_rate="8000",
        window="0.5",
        pretrain="{method: simclr, clip: 2.0}",
        precision="mixed_bfloat16",
    )
    pretrain = recipe.pretrain
    assert (pretrain.encoder, pretrain.sample_rate, pretrain.segment, pretrain.clip) == (
        "sample-cnn",
        8000,
        0.5,
        2.0,
    )
    assert (pretrain.seed, pretrain.precision, recipe.seed) == (7, "mixed_bfloat16", 7)
    assert [fit.epochs for fit in recipe.fit] == [2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fit": "{epoch: 2}"}, "toy.yaml: fit.0.epoch: Extra inputs"),
        ({"fits": "3"}, "toy.yaml: fits: Extra inputs"),
        ({"fit": "[{frozen: true}, {epochs: 0}]"}, "fit.1.epochs: Input should be greater than 0"),
        ({"fit": "{frozen: true, epochs: 2, crop: 8}"}, "a frozen network is fitted without crop, epochs"),
        ({"fit": "{crop: 8, segment: 1.5}"}, "give crop or segment, not both"),
        ({"fit": "{labels: 10}"}, "fit.0.labels: Input should be less than or equal to 1"),
        ({"fit": "{labels: 0}"}, "without labels a whole network learns from `teacher: vggish` alone"),
        ({"fit": "{labels: 0, teacher: vggish, tags: true}"}, "alone, and no tags"),
        ({"fit": "{labels: 0, frozen: true}"}, "without labels a whole network learns"),
        ({"fit": "{labels: 0, teacher: vggish}"}, "the last section of `fit` needs labels, for the head"),
        ({"fit": "{unlabelled: true, teacher: vggish}"}, "where `labels` is between 0 and 1"),
        ({"fit": "{unlabelled: true, labels: 0.1}"}, "they need `teacher: vggish`"),
        ({"fit": "{unlabelled: true, labels: 0.1, teacher: vggish, tags: true}"}, "and have no tags"),
        ({"fit": None}, "give sections of `fit`, or `distill`"),
        ({"encoder": "resnet-compat"}, "encoder: Value error, there is no configuration 'resnet-compat'"),
        ({"pretrain": "{method: moko}"}, "pretrain.method: Input should be "),
        ({"pretrain": "{method: moco, encoder: swin-mini}"}, "pretrain: encoder belongs into the recipe"),
        ({"pretrain": "{method: moco}", "start": "resnet-fma"}, "give one of `start`, `pretrain`"),
        ({"calibrator": "platt"}, "calibrator: Input should be 'temperature', 'vector' or 'isotonic'"),
        ({"preset": "../toy"}, "preset: String should match"),
        ({"preset": "{"}, "toy.yaml cannot be read as a YAML file"),
    ],
)
def test_an_error_names_file_and_setting(read, settings, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        read(**settings)


def test_a_file_that_is_no_recipe_is_refused(tmp_path):
    from music_zoo.training.recipe import read_recipe

    with pytest.raises(RecipeError, match="none.yaml cannot be read"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(RecipeError, match=r"list.yaml: expected lines of `setting: value`, got \[1\]"):
        read_recipe(tmp_path / "list.yaml")
