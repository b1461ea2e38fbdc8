"""Convert MediaPipe's face mesh with attention (TensorFlow Lite, Apache-2.0) to the file that the package carries.

    pip download --no-deps mediapipe==0.10.21
    unzip mediapipe-0.10.21-*.whl 'mediapipe/modules/face_landmark/*'
    pip install tflite
    python tools/convert_face_mesh.py mediapipe/modules/face_landmark/face_landmark_with_attention.tflite \\
        src/anytalker/conditioning/face_mesh/weights/attention_mesh.safetensors

The branches that place the irises are left out.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import tflite
import torch
from safetensors.torch import save_file
from torch import nn

from anytalker.conditioning.face_mesh.network import Block, MeshNetwork, Narrow

KINDS = tflite.BuiltinOperator


class Graph:
    """A network's operators, to be followed from value to value."""

    def __init__(self, path: Path) -> None:
        self.model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
        self.graph = self.model.Subgraphs(0)
        self.operators = [self.graph.Operators(index) for index in range(self.graph.OperatorsLength())]
        self.readers: dict[int, list[Any]] = defaultdict(list)
        self.stored: dict[int, int] = {}
        for operator in self.operators:
            for number in operator.InputsAsNumpy():
                self.readers[int(number)].append(operator)
            if self.kind(operator) == KINDS.DEQUANTIZE:
                self.stored[int(operator.Outputs(0))] = int(operator.Inputs(0))

    def kind(self, operator: Any) -> int:
        """Which of the built-in operators it is."""
        code = self.model.OperatorCodes(operator.OpcodeIndex())
        return max(code.BuiltinCode(), code.DeprecatedBuiltinCode())

    def custom(self, name: str) -> list[Any]:
        """All custom operators of a name, in order."""
        codes = [self.model.OperatorCodes(operator.OpcodeIndex()).CustomCode() for operator in self.operators]
        return [operator for operator, code in zip(self.operators, codes, strict=True) if code == name.encode()]

    def after(self, value: int, kind: int, index: int = 0) -> Any:
        """The operator of a kind that reads a value; `index` where there are several."""
        return [operator for operator in self.readers[value] if self.kind(operator) == kind][index]

    def constant(self, operator: Any, place: int) -> np.ndarray:
        """A constant input as float32."""
        number = int(operator.Inputs(place))
        tensor = self.graph.Tensors(self.stored.get(number, number))
        kind = {tflite.TensorType.FLOAT16: np.float16, tflite.TensorType.FLOAT32: np.float32}[tensor.Type()]
        values = np.frombuffer(self.model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes(), kind)
        return values.reshape(tensor.ShapeAsNumpy()).astype(np.float32)

    def options(self, operator: Any, name: str, count: int) -> list[int]:
        """A vector of whole numbers among a custom operator's options, which are a flexbuffer."""
        from flatbuffers import flexbuffers

        values = flexbuffers.GetRoot(bytes(operator.CustomOptionsAsNumpy())).AsMap[name]
        return [int(value) for value in values.Value] if count > 1 else [int(values.AsInt)]


def fill(graph: Graph, layer: nn.Conv2d, operator: Any) -> int:
    """Copy a convolution's weights; returns its output."""
    weight, bias = graph.constant(operator, 1), graph.constant(operator, 2)
    order = (3, 0, 1, 2) if layer.groups > 1 else (0, 3, 1, 2)
    layer.weight.data.copy_(torch.from_numpy(weight.transpose(order).copy()))
    layer.bias.data.copy_(torch.from_numpy(bias))
    return int(operator.Outputs(0))


def fill_activation(graph: Graph, layer: nn.PReLU, value: int) -> int:
    """Copy the slopes of the activation after a value; returns its output."""
    operator = graph.after(value, KINDS.PRELU)
    layer.weight.data.copy_(torch.from_numpy(graph.constant(operator, 1).ravel()))
    return int(operator.Outputs(0))


def fill_layers(graph: Graph, layers: nn.Sequential, value: int, order: int = 0) -> int:
    """Copy the weights of blocks from a value on; returns their output. Where paths part, the first is followed."""
    for layer in layers:
        if isinstance(layer, Block):
            value = fill(graph, layer.depthwise, graph.after(value, KINDS.DEPTHWISE_CONV_2D))
            value = fill(graph, layer.pointwise, graph.after(value, KINDS.CONV_2D))
            value = fill_activation(graph, layer.activation, int(graph.after(value, KINDS.ADD).Outputs(0)))
        elif isinstance(layer, Narrow):
            value = fill(graph, layer.pointwise, graph.after(value, KINDS.CONV_2D))
            value = fill_activation(graph, layer.activation, value)
    return value


def convert(path: Path) -> MeshNetwork:
    """The torch network with the weights of a file."""
    graph, network = Graph(path), MeshNetwork().eval()
    first = graph.after(int(graph.graph.Inputs(0)), KINDS.CONV_2D)
    value = fill_activation(graph, network.stem[1], fill(graph, network.stem[0], first))
    value = fill_layers(graph, network.late, fill_layers(graph, network.early, value))
    heads = [graph.after(value, KINDS.CONV_2D, index) for index in range(2)]
    for operator in heads:
        layer = network.points if len(graph.constant(operator, 2)) > 1 else network.presence
        fill(graph, layer, operator)
    cuts, places = graph.custom("TransformTensorBilinear"), graph.custom("Landmarks2TransformMatrix")
    for name, cut, place in zip(network.REGIONS, cuts, places, strict=True):
        region = network.regions[name]
        value = fill_layers(graph, region.blocks, int(cut.Outputs(0)))
        fill(graph, region.points, graph.after(value, KINDS.CONV_2D))
        chosen = graph.options(place, "subset_idxs", 2)
        axis = [graph.options(place, f"{side}_rotation_idx", 1)[0] for side in ("left", "right")]
        network.get_buffer(f"{name}_points").copy_(torch.tensor(chosen))
        network.get_buffer(f"{name}_axis").copy_(torch.tensor(axis))
    return network


if __name__ == "__main__":
    converted = convert(Path(sys.argv[1]))
    state = {key: value.half() if value.is_floating_point() else value for key, value in converted.state_dict().items()}
    save_file({key: value.contiguous() for key, value in state.items()}, sys.argv[2])
    print(f"Wrote {sys.argv[2]}.")
