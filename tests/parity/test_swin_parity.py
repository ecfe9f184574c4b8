"""Swin Transformers, filled by rule, against what the authors' PyTorch code computes from images."""

from functools import partial

import fixture_rules
import keras
import numpy as np
import pytest
from fixtures import FOLDER, TIGHT, Comparison, Row, rule_weights, specification

from music_zoo.hub.convert import convert
from music_zoo.models.swin import Swin, _attention_mask, _relative_positions, swin_features

pytestmark = pytest.mark.keras

SMALL = {"embed_dim": 48, "depths": (2, 2, 2, 2), "window": 4}
#: Our name for the module of the original whose output was recorded.
LAYERS = {
    "patch_embed": "patch_norm",
    "layers.0.blocks.0": "stage0_block0_add2",
    "layers.0.blocks.1": "stage0_block1_add2",
    "layers.2.blocks.1": "stage2_block1_add2",
    "layers.0": "stage1_merging_dense",
    "layers.1": "stage2_merging_dense",
    "layers.2": "stage3_merging_dense",
    "layers.3": "stage3_block1_add2",
    "norm": "norm",
}


def of_color_images() -> keras.Model:
    """The paper's tiny network for images of three channels, which no backbone of ours takes."""
    image = keras.Input((224, None, 3))
    settings = {"patch_size": 4, "embed_dim": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)}
    settings |= {"window": 7, "mlp_ratio": 4, "drop_path_rate": 0.1, "position_columns": None}
    return keras.Model(image, swin_features(image, **settings))


MODELS = {
    "swin_t": of_color_images,
    "swin_small_w4": lambda: Swin(**SMALL),
    "swin_small_w8": lambda: Swin(**SMALL | {"window": 8}),
    "swin_small_rect": lambda: Swin(**SMALL, position_frames=256),
}


def compare_images(fixture: str) -> Comparison:
    """Fill the network by rule and run the fixture's images through it."""
    spec, state = specification(fixture), rule_weights(fixture)
    model = MODELS[fixture]()
    variables = {"backbone." + v.path.replace("/", "."): v for v in model.weights}
    shapes = {name: tuple(v.shape) for name, v in variables.items()}
    for leaf in ("kernel", "bias"):
        shapes[f"head.{leaf}"] = state["head.weight" if leaf == "kernel" else "head.bias"].T.shape
    tensors = convert("swin", state, shapes)
    for name, variable in variables.items():
        variable.assign(tensors[name])

    image = fixture_rules.image(fixture, spec["input"]["image"])
    image = image[:, 0] if image.shape[1] == 1 else np.moveaxis(image, 1, -1)
    arrays = {name: array for name, array in spec["arrays"].items() if name.startswith("after__")}
    ends = {array["of"]: model.get_layer(LAYERS[array["of"]]).output for array in arrays.values()}
    outputs = keras.Model(model.input, ends)(image, training=False)
    outputs = {of: keras.ops.convert_to_numpy(output) for of, output in outputs.items()}

    logits = outputs["norm"].mean((1, 2)) @ tensors["head.kernel"] + tensors["head.bias"]
    with np.load(FOLDER / f"{fixture}.npz") as stored:
        rows = [Row("logits", fixture_rules.worst_difference(stored["logits"], logits, 1), TIGHT)]
        for name, array in arrays.items():
            difference = fixture_rules.worst_difference(stored[name], outputs[array["of"]], array["step"])
            rows.append(Row(name, difference, TIGHT * max(1.0, array["abs_max"])))
    parameters = sum(tensor.size for tensor in tensors.values())
    return Comparison(parameters, spec["trainable_parameters"], rows)


#: For the test and for `tests/parity_report.py`.
COMPARISONS = {fixture: partial(compare_images, fixture) for fixture in MODELS}


@pytest.mark.parametrize("fixture", COMPARISONS)
def test_equals_the_original(fixture):
    assert not COMPARISONS[fixture]().failures


@pytest.mark.parametrize("fixture", MODELS)
def test_makes_the_constants_of_the_original(fixture):
    arrays = specification(fixture)["arrays"]
    height, width = (size // 4 for size in specification(fixture)["input"]["image"][2:])
    window = round(arrays["const__relative_position_index"]["shape"][0] ** 0.5)
    ours = {
        "const__relative_position_index": _relative_positions(window),
        # The original masks with -100.
        "const__attn_mask": np.where(_attention_mask(height, width, window, window // 2), -100.0, 0.0),
    }
    with np.load(FOLDER / f"{fixture}.npz") as stored:
        for name, array in ours.items():
            assert fixture_rules.worst_difference(stored[name], array, arrays[name]["step"]) == 0
