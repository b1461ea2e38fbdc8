"""How much memory `anytalker convert` takes for a checkpoint of the 14B's shape, over time.

    python benchmarks/convert_memory.py work --layers 10 --plot docs/convert_memory.png

Makes a .pth of that many of the 14B's 40 blocks, of its true width, in bfloat16 (0.9 GB a block), converts it in a
process of its own, and samples that process's memory: anonymous pages are what it needs, file pages are the system's
page cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from anytalker.models.conversion import release_config
from anytalker.models.release_names import Names
from anytalker.models.transformer import AnyTalkerTransformer3DModel


def make_checkpoint(folder: Path, layers: int) -> Path:
    """A checkpoint of the release's layout B, every tensor its own file region."""
    path = folder / "14B-part.pth"
    config = {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": layers, "audio_face_layout": "B"}
    with torch.device("meta"):
        model = AnyTalkerTransformer3DModel(**config)
    names = Names("B")
    tensors = {
        str(names.releases(key)): torch.zeros(value.shape, dtype=torch.bfloat16)
        for key, value in model.state_dict().items()
    }
    torch.save(tensors, path)
    (folder / "config_af2v_14B.json").write_text(json.dumps(release_config(model.config)), encoding="utf-8")
    return path


def sample(process: int) -> tuple[float, float] | None:
    """Anonymous and file-backed memory of a process in GiB; None once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except FileNotFoundError:
        return None
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return (int(values["RssAnon"]) / 2**20, int(values["RssFile"]) / 2**20) if values else None


def main() -> None:
    """Make, convert, sample, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    maker = "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import convert_memory as m; "
    maker += "m.make_checkpoint(Path(sys.argv[2]), int(sys.argv[3]))"
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", maker, here, str(options.folder), str(options.layers)], check=True)
    source = options.folder / "14B-part.pth"
    command = [sys.executable, "-m", "anytalker", "convert", str(source), str(options.folder / "transformer")]
    started, curve = time.monotonic(), []
    with subprocess.Popen(command) as running:
        while running.poll() is None:
            memory = sample(running.pid)
            if memory:
                curve.append((time.monotonic() - started, *memory))
            time.sleep(0.05)
    size = source.stat().st_size / 2**30
    print(
        f"{size:.2f} GiB in {curve[-1][0]:.1f} s: at most {max(point[1] for point in curve):.2f} GiB of its own, "
        f"{max(point[2] for point in curve):.2f} GiB of page cache mapped"
    )
    if options.plot:
        plot(curve, size, options.plot)


def plot(curve: list[tuple[float, float, float]], size: float, path: Path) -> None:
    """The memory over time as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3), layout="constrained")
    moments, own, mapped = zip(*curve, strict=True)
    axes.plot(moments, own, label="own memory")
    axes.plot(moments, mapped, label="page cache mapped", alpha=0.5)
    axes.axhline(size, linestyle=":", color="grey", label="size of the checkpoint")
    axes.set(xlabel="seconds", ylabel="GiB", title="anytalker convert, a part of the 14B")
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
