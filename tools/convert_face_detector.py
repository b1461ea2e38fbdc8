"""Convert MediaPipe's full-range face detector (TensorFlow Lite, Apache-2.0) to the file that the package carries.

    pip download --no-deps mediapipe==0.10.21
    unzip mediapipe-0.10.21-*.whl 'mediapipe/modules/face_detection/*'
    pip install tflite ai-edge-litert
    python tools/convert_face_detector.py mediapipe/modules/face_detection/face_detection_full_range_sparse.tflite \\
        src/anytalker/conditioning/face_detection/weights/full_range.safetensors

The outputs of both networks are compared on noise and must agree to 1e-4 of the largest value.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from anytalker.conditioning.face_detection.network import FaceNetwork


def run_original(path: Path, pixels: np.ndarray) -> Any:
    """The original network after a picture (1, 192, 192, 3), with all of its intermediate values kept."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    original = Interpreter(
        str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    original.allocate_tensors()
    original.set_tensor(original.get_input_details()[0]["index"], pixels)
    original.invoke()
    return original


def read_convolutions(path: Path, original: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """(weights in torch's order, bias) of all convolutions in the order of the graph, none of them sparse."""
    import tflite

    model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    found = []
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if kind in (tflite.BuiltinOperator.CONV_2D, tflite.BuiltinOperator.DEPTHWISE_CONV_2D):
            weight, bias = (original.get_tensor(int(number)) for number in operator.InputsAsNumpy()[1:3])
            depthwise = kind == tflite.BuiltinOperator.DEPTHWISE_CONV_2D
            found.append((weight.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)), bias))
    return found


def _for_pixel_shuffle(values: np.ndarray) -> np.ndarray:
    """Channels from (row, column, value) to (value, row, column): torch shuffles pixels in another order."""
    return values.reshape(4, -1, *values.shape[1:]).swapaxes(0, 1).reshape(values.shape)


def convert(source: Path, original: Any) -> FaceNetwork:
    """The torch network with the weights of a file."""
    network = FaceNetwork().eval()
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    for (name, layer), (weight, bias) in zip(layers, read_convolutions(source, original), strict=True):
        if "_head." in name:
            weight, bias = _for_pixel_shuffle(weight), _for_pixel_shuffle(bias)
        layer.weight.data.copy_(torch.from_numpy(weight.copy()))
        layer.bias.data.copy_(torch.from_numpy(bias.copy()))
    return network


def largest_difference(original: Any, network: FaceNetwork, pixels: np.ndarray) -> float:
    """The largest difference from the original's outputs, relative to the largest value."""
    with torch.no_grad():
        scores, boxes = network(torch.from_numpy(pixels.transpose(0, 3, 1, 2)))
    worst = 0.0
    for details in original.get_output_details():
        expected = original.get_tensor(details["index"])
        values = (scores if expected.shape[-1] == 1 else boxes).flatten(2).transpose(1, 2).numpy()
        worst = max(worst, float(np.abs(values - expected).max() / np.abs(expected).max()))
    return worst


if __name__ == "__main__":
    source, target = Path(sys.argv[1]), sys.argv[2]
    noise = np.random.default_rng(0).uniform(-1, 1, (1, 192, 192, 3)).astype(np.float32)
    reference = run_original(source, noise)
    converted = convert(source, reference)
    difference = largest_difference(reference, converted, noise)
    if difference > 1e-4:
        sys.exit(f"The converted network differs by {difference:g}.")
    save_file({key: value.half().contiguous() for key, value in converted.state_dict().items()}, target)
    print(f"Wrote {target}; the outputs differ by {difference:.1e} at most.")
