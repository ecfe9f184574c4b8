"""Conversion takes every entry of a checkpoint once, in its shape, and nothing else."""

import numpy as np
import pytest

from music_zoo.errors import PresetError
from music_zoo.hub.convert import TABLES, convert

SHAPES = {
    "backbone.input_norm.gamma": (1,),
    "backbone.layer1_conv.kernel": (3, 3, 1, 2),
    "head.kernel": (2, 5),
    "head.bias": (5,),
    "calibrator.temperature": (),
}
STATE = {
    "spec.mel_scale.fb": (257, 96),
    "spec_bn.weight": (1,),
    "spec_bn.num_batches_tracked": (),
    "layer1.conv.weight": (2, 1, 3, 3),
    "dense.weight": (5, 2),
    "dense.bias": (5,),
}


def state(**changes) -> dict[str, np.ndarray]:
    shapes = STATE | changes
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape) for name, shape in shapes.items() if shape is not None}


def test_kernels_turn_round_and_the_rest_stays():
    original = state()
    tensors = convert("fcn", original, SHAPES)
    assert {name: tensor.shape for name, tensor in tensors.items()} == SHAPES
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())
    kernel = original["layer1.conv.weight"].astype("float32")
    assert tensors["backbone.layer1_conv.kernel"][2, 1, 0, 1] == kernel[1, 0, 2, 1]
    assert tensors["head.kernel"][1, 4] == np.float32(original["dense.weight"][4, 1])
    np.testing.assert_array_equal(tensors["head.bias"], original["dense.bias"].astype("float32"))
    assert tensors["calibrator.temperature"] == 1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"dense.bias": None}, "1 missing: dense.bias"),
        ({"teacher.dense.bias": (5,)}, "1 left over: teacher.dense.bias"),
        ({"dense.weight": (6, 2)}, r"1 of another shape: dense.weight \(6, 2\) for head.kernel \(2, 5\)"),
        ({"dense.weight": ()}, r"1 of another shape: dense.weight \(\) for head.kernel \(2, 5\)"),
        (
            {"dense.bias": None, "dense.offset": (5,), "spec_bn.weight": (2,)},
            "1 missing: dense.bias; 1 of another shape: spec_bn.weight.*; 1 left over: dense.offset",
        ),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(PresetError, match=message):
        convert("fcn", state(**changes), SHAPES)


def test_an_architecture_of_another_table_is_refused():
    with pytest.raises(PresetError, match="1 unknown to the table: backbone.stem.kernel"):
        convert("fcn", state(), SHAPES | {"backbone.stem.kernel": (1, 1)})


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match="fcn.*got 'resnet-50'"):
        convert("resnet-50", {}, {})


def test_gates_of_recurrent_layers_change_places():
    """Of two units: PyTorch's rows are reset, update, new; Keras' columns update, reset, new."""
    rows = np.arange(6.0)[:, None] + np.zeros((1, 3))
    names = {
        "weight_ih_l0": rows,
        "weight_hh_l0": rows[:, :2],
        "bias_ih_l0": rows[:, 0],
        "bias_hh_l0": rows[:, 0] + 10,
    }
    shapes = {"kernel": (3, 6), "recurrent_kernel": (2, 6), "bias": (2, 6)}
    tensors = convert(
        "crnn",
        {f"layer5.{name}": value for name, value in names.items()},
        {f"backbone.gru_0.gru_cell.{name}": shape for name, shape in shapes.items()},
    )
    columns = [2, 3, 0, 1, 4, 5]
    np.testing.assert_array_equal(tensors["backbone.gru_0.gru_cell.kernel"], [columns] * 3)
    np.testing.assert_array_equal(tensors["backbone.gru_0.gru_cell.recurrent_kernel"], [columns] * 2)
    np.testing.assert_array_equal(
        tensors["backbone.gru_0.gru_cell.bias"], [columns, [column + 10 for column in columns]]
    )


@pytest.mark.parametrize("prefix", ["", "encoder.", "model.encoder."])
def test_prefixes_of_training_code_go(prefix):
    entries = {f"{prefix}sequential.0.0.bias": np.ones(4), "projector.0.weight": np.ones((2, 2))}
    tensors = convert("clmr", entries, {"backbone.layer1_conv.bias": (4,)})
    np.testing.assert_array_equal(tensors["backbone.layer1_conv.bias"], np.ones(4))


def test_two_entries_of_one_name_are_refused():
    entries = {"encoder.fc.bias": np.ones(4), "fc.bias": np.ones(4)}
    with pytest.raises(PresetError, match="two entries for fc.bias"):
        convert("clmr", entries, {"head.bias": (4,)})


def test_tables_are_of_patterns_and_templates_that_go_together():
    for name, table in TABLES.items():
        assert table.origin("backbone.no_such_layer.kernel") is None, name


def test_the_encoder_of_clmr_and_its_linear_classifier_are_two_files():
    encoder = {"encoder.sequential.0.0.weight": np.ones((2, 1, 3)), "projector.0.weight": np.ones((4, 4))}
    head = {"0.weight": np.ones((5, 2)), "0.bias": np.ones(5)}
    shapes = {"backbone.layer1_conv.kernel": (3, 1, 2), "head.kernel": (2, 5), "head.bias": (5,)}
    assert set(convert("clmr", encoder | head, shapes)) == set(shapes)
    with pytest.raises(PresetError, match="2 missing: fc.weight, fc.bias"):
        convert("clmr", encoder, shapes)
