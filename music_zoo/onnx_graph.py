"""What onnxruntime computes faster with the same result: maxima before all that cannot change them."""

from collections import Counter

import numpy as np
import onnx
from onnx import helper, numpy_helper

#: Of as many channels at a time is onnxruntime's fast layout; it knows maxima of whole blocks only.
BLOCK = 16


def take_maxima_early(model: onnx.ModelProto) -> None:
    """Take maxima over an axis of an image right behind the convolution, in place.

    Between the two, ReLU and batch normalisation are then computed of what is left and not of the whole
    image, for which onnxruntime would also leave its fastest layout. As a factor below zero makes a maximum a
    minimum, such channels are computed with the other sign.

    Args:
        model: As tf2onnx writes it, where it finds a convolution of known height and width; ReLU, factors and
            terms of each channel; a transposition to `(batch, height, width, channels)`; and a maximum over
            height or width.
    """
    graph = model.graph
    values = onnx.shape_inference.infer_shapes(model).graph.value_info
    shapes = {each.name: [size.dim_value for size in each.type.tensor_type.shape.dim] for each in values}
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(output.name for output in graph.output)

    def constant(name: str, value: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    for end in [node for node in graph.node if node.op_type == "ReduceMax"]:
        chain = _back_to_convolution(end, makers, uses, constants)
        axes = constants.get(end.input[1]) if len(end.input) > 1 else None
        if not chain or axes is None or axes.tolist() not in ([1], [2]):
            continue
        convolution, after = chain[-1], chain[-2]
        shape = shapes.get(convolution.output[0], ())
        if len(shape) != 4 or not all(shape[1:]):
            continue
        sign = np.ones(shape[1], np.float32)
        for node in chain:
            if node.op_type == "Mul":
                (factor,) = [constants[name] for name in node.input if name in constants]
                sign = sign * np.where(factor < 0, -1, 1).astype(np.float32).ravel()
        name, padding = convolution.output[0], -len(sign) % BLOCK
        for number, weights in enumerate(convolution.input[1:], 1):
            rest = constants[weights].ndim - 1
            turned = np.pad(
                constants[weights] * sign.reshape(-1, *[1] * rest), [(0, padding), *[(0, 0)] * rest]
            )
            convolution.input[number] = constant(f"{name}/turned{number}", turned)
        kernel = [shape[2], 1] if axes.tolist() == [1] else [1, shape[3]]
        own = [
            constant(f"{name}/{part}", np.array([limit]))
            for part, limit in (("start", 0), ("end", len(sign)))
        ]
        axis = constant(f"{name}/axis", np.array([1]))
        signs = constant(f"{name}/sign", sign.reshape(1, -1, 1, 1))
        nodes = [
            helper.make_node("MaxPool", [name], [f"{name}/max"], f"{name}/max", kernel_shape=kernel),
            helper.make_node("Slice", [f"{name}/max", *own, axis], [f"{name}/own"], f"{name}/own"),
            helper.make_node("Mul", [f"{name}/own", signs], [f"{name}/signed"], f"{name}/signed"),
        ]
        at = list(graph.node).index(convolution) + 1
        for node in reversed(nodes):
            graph.node.insert(at, node)
        after.input[:] = [f"{name}/signed" if each == name else each for each in after.input]
    used = {name for node in graph.node for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]


def _back_to_convolution(end, makers: dict, uses: Counter, constants: dict) -> list[onnx.NodeProto] | None:
    """Return the nodes before a maximum, back to a convolution; None if something else is among them."""
    chain = []
    name = end.input[0]
    while uses[name] == 1 and name in makers:
        node = makers[name]
        chain.append(node)
        known = [each for each in node.input if each in constants]
        if node.op_type == "Conv":
            is_first = len(known) == len(node.input) - 1 and len(chain) > 1
            return chain if is_first and chain[0].op_type == "Transpose" else None
        if node.op_type == "Transpose":
            if len(chain) > 1 or list(node.attribute[0].ints) != [0, 2, 3, 1]:
                return None
        elif node.op_type in ("Mul", "Add"):  # of each channel of (batch, channels, height, width)
            if len(known) != 1 or constants[known[0]].ndim < 3 or set(constants[known[0]].shape[-2:]) != {1}:
                return None
        elif node.op_type != "Relu":
            return None
        (name,) = [each for each in node.input if each not in constants]
    return None
