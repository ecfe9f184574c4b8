"""Maxima that are taken early are the same maxima."""

from importlib.util import find_spec

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxruntime"))), reason="needs music-zoo[export]"
)


def image_model(steps: list[str], axis: int, channels: int = 5, bias: bool = False):
    """Convolution, steps for each channel, transposition, maximum over height (1) or width (2)."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    constants = {"kernel": rng.normal(size=(channels, 1, 3, 4))}
    if bias:
        constants["bias"] = rng.normal(size=channels)
    nodes = [helper.make_node("Conv", ["image", "kernel"] + ["bias"] * bias, ["v0"])]
    for number, step in enumerate(steps):
        inputs, attributes = [f"v{number}"], {}
        if step in ("Mul", "Add"):
            constants[f"c{number}"] = rng.normal(size=(1, channels, 1, 1))
            inputs.insert(number % 2, f"c{number}")
        if step == "Transpose":
            attributes = {"perm": [0, 2, 3, 1]}
        nodes.append(helper.make_node(step, inputs, [f"v{number + 1}"], **attributes))
    nodes.append(helper.make_node("ReduceMax", [f"v{len(steps)}", "axes"], ["maxima"], keepdims=0))
    tensors = [numpy_helper.from_array(each.astype("float32"), name) for name, each in constants.items()]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 11, 9])],
        [helper.make_tensor_value_info("maxima", TensorProto.FLOAT, [None] * 3)],
        [*tensors, numpy_helper.from_array(np.array([axis]), "axes")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model, image: np.ndarray) -> np.ndarray:
    import onnxruntime

    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": image})[0]


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("steps", "is_moved"),
    [
        (["Relu", "Mul", "Add", "Transpose"], True),
        (["Mul", "Add", "Relu", "Transpose"], True),
        (["Mul", "Relu", "Mul", "Transpose"], True),  # two signs
        (["Transpose"], True),
        (["Abs", "Transpose"], False),  # neither rises nor falls
        (["Relu"], False),
    ],
)
def test_maxima_are_the_same(steps, is_moved, bias, axis):
    import onnx

    from music_zoo.onnx_graph import take_maxima_early

    model = image_model(steps, axis, bias=bias)
    image = np.random.default_rng(1).normal(size=(2, 1, 11, 9)).astype("float32")
    expected = run(model, image)
    take_maxima_early(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model, image), expected, rtol=1e-5, atol=1e-6)
    assert ("MaxPool" in [node.op_type for node in model.graph.node]) == is_moved
