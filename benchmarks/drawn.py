"""How often drawn people are taken for photographs, and photographs are not.

    python benchmarks/drawn.py                            # 100 drawn pictures of unseen seeds, in seven forms
    python benchmarks/drawn.py PICTURE... --drawn 0       # photographs, or videos, of which a frame is looked at

A picture in which no face is found is left out, and named.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from anytalker.conditioning.drawn import looks_photographed
from anytalker.conditioning.faces import detect_faces, scale_box
from anytalker.errors import AnyTalkerError
from anytalker.media.pictures import load_image
from anytalker.miniature.world.scenes import UNSEEN_SEED, Scene


def scaled(image: Image.Image, factor: float) -> Image.Image:
    """A picture of other sides."""
    return image.resize((round(factor * image.width), round(factor * image.height)), Image.Resampling.BICUBIC)


def compressed(image: Image.Image, quality: int) -> Image.Image:
    """A picture as JPEG has it."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


FORMS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as drawn": lambda image: image,
    "enlarged 1.7 times": lambda image: scaled(image, 1.7),
    "JPEG of quality 90": lambda image: compressed(image, 90),
    "JPEG of quality 75": lambda image: compressed(image, 75),
    "JPEG of quality 60": lambda image: compressed(image, 60),
    "JPEG of quality 40": lambda image: compressed(image, 40),
    "shrunk to 0.6, JPEG of quality 75": lambda image: compressed(scaled(image, 0.6), 75),
}


def drawn_people(count: int, first: int) -> None:
    """Print the rows of drawn pictures: with their faces, and without."""
    scenes = [Scene.random(1 + seed % 4, first + seed) for seed in range(count)]
    for name, form in FORMS.items():
        wrong = [0, 0]
        for scene in scenes:
            drawn = Image.fromarray(scene.picture(288))
            image = form(drawn)
            faces = [scale_box(box, drawn.size, image.size) for box in scene.boxes(288)]
            for place, boxes in enumerate((faces, [])):
                wrong[place] += looks_photographed(image, boxes)
        print(f"| {count} drawn, {name} | {wrong[0]} | {wrong[1]} |", flush=True)


def photographs(paths: list[Path]) -> None:
    """Print the row of photographs, and below it which ones were not recognised."""
    right, missed, count = [0, 0], [], 0
    for path in paths:
        try:
            image = load_image(path).convert("RGB")
            faces = detect_faces(image)
        except AnyTalkerError as error:
            print(error, file=sys.stderr)
            continue
        if not faces:
            print(f"{path}: no face", file=sys.stderr)
            continue
        count += 1
        by_faces = looks_photographed(image, faces)
        right[0] += by_faces
        right[1] += looks_photographed(image)
        missed += [] if by_faces else [path.name]
    print(f"| {count} photographs | {right[0]} | {right[1]} |\n\nNot recognised: {', '.join(missed) or 'none'}")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path, nargs="*")
    parser.add_argument("--drawn", type=int, default=100, help="drawn pictures; 0: none")
    parser.add_argument("--first", type=int, default=UNSEEN_SEED, help="seed of the first one")
    options = parser.parse_args()
    print("| taken for photographs | by their faces | by the whole picture |\n|---|---|---|")
    if options.drawn:
        drawn_people(options.drawn, options.first)
    if options.pictures:
        photographs(options.pictures)


if __name__ == "__main__":
    main()
