"""The diagrams of the documentation: python tools/diagrams.py

Writes docs/block.svg and docs/data_flow.svg. Their colours follow the page's light or dark scheme.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"

_STYLE = """
svg { font-family: system-ui, sans-serif; }
text { fill: #1f2933; font-size: 15px; text-anchor: middle; }
.small { font-size: 12.5px; fill: #52606d; }
.left { text-anchor: start; }
rect { stroke-width: 1.5; rx: 8; }
.data { fill: #eef2f6; stroke: #7b8794; }
.net { fill: #d5f0ec; stroke: #00897b; }
.person { fill: #fdeccf; stroke: #c77700; }
.group { fill: none; stroke: #9aa5b1; stroke-dasharray: 6 5; }
path { fill: none; stroke: #52606d; stroke-width: 1.8; marker-end: url(#tip); }
marker path { fill: #52606d; stroke: none; marker-end: none; }
circle { fill: #ffffff; stroke: #52606d; stroke-width: 1.8; }
@media (prefers-color-scheme: dark) {
  text { fill: #e4e7eb; }
  .small { fill: #b8c2cc; }
  .data { fill: #2b3440; stroke: #9aa5b1; }
  .net { fill: #124a45; stroke: #4db6ac; }
  .person { fill: #5a3d0c; stroke: #ffb74d; }
  path { stroke: #b8c2cc; }
  marker path { fill: #b8c2cc; }
  circle { fill: #1e2129; stroke: #b8c2cc; }
}
"""


class Drawing:
    """An SVG of boxes and arrows.

    Args:
        width, height: of the picture in pixels.
        title: what it shows, for screen readers.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img"><title>{escape(title)}</title><style>{_STYLE}</style>'
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            'orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z"/></marker></defs>'
        ]

    def box(self, x: int, y: int, width: int, height: int, kind: str, *lines: str) -> None:
        """A box at its top left corner; the first line is its name, the others are small."""
        self.parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}"/>')
        top = y + height / 2 + 5 - 9 * (len(lines) - 1)
        for number, line in enumerate(lines):
            self.text(x + width / 2, top + 18 * number, line, "small" if number else "")

    def text(self, x: float, y: float, line: str, kind: str = "small") -> None:
        """A line of text around x, or from x on if `kind` names "left"."""
        self.parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(line)}</text>')

    def arrow(self, *points: tuple[int, int]) -> None:
        """An arrow along straight lines through the points."""
        self.parts.append(f'<path d="M{" L".join(f"{x} {y}" for x, y in points)}"/>')

    def plus(self, x: int, y: int) -> None:
        """A sum."""
        self.parts.append(f'<circle cx="{x}" cy="{y}" r="11"/><text x="{x}" y="{y + 5}">+</text>')

    def write(self, path: Path) -> None:
        """Write the file."""
        path.write_text("\n".join([*self.parts, "</svg>\n"]), encoding="utf-8")


def block() -> Drawing:
    """One block of the transformer, layout A."""
    drawing = Drawing(980, 770, "One transformer block with Audio-Face Cross Attention")
    drawing.box(60, 20, 240, 44, "data", "video tokens")
    drawing.box(60, 110, 240, 56, "net", "self attention", "all tokens of the window")
    drawing.plus(180, 205)
    drawing.arrow((180, 64), (180, 108))
    drawing.arrow((180, 166), (180, 192))
    drawing.arrow((180, 84), (30, 84), (30, 205), (167, 205))
    drawing.box(60, 250, 240, 44, "net", "norm, query")
    drawing.arrow((180, 216), (180, 248))

    drawing.parts.append('<rect class="group" x="340" y="96" width="320" height="440"/>')
    drawing.text(356, 122, "cross attention: one query, separate keys", "small left")
    drawing.box(370, 140, 240, 56, "net", "attention to text", "keys: prompt embeddings")
    drawing.box(370, 216, 240, 56, "net", "attention to picture", "keys: CLIP image embeddings")
    afca = ("queries: tokens inside the box", "keys: face and audio of this person", "result × face mask")
    drawing.box(370, 292, 240, 96, "person", "AFCA, person 1", *afca)
    drawing.text(490, 412, "…")
    drawing.box(370, 424, 240, 96, "person", "AFCA, person N", *afca)
    for y in (168, 244, 340, 472):
        drawing.arrow((300, 272), (350, 272), (350, y), (368, y))
        drawing.arrow((610, y), (632, y), (632, 553))
    drawing.plus(632, 566)
    drawing.box(370, 544, 150, 44, "net", "projection")
    drawing.arrow((620, 566), (522, 566))
    drawing.plus(180, 566)
    drawing.arrow((370, 566), (193, 566))
    drawing.arrow((180, 230), (30, 230), (30, 566), (167, 566))
    drawing.box(60, 606, 240, 44, "net", "feed-forward")
    drawing.arrow((180, 577), (180, 604))
    drawing.plus(180, 678)
    drawing.arrow((180, 650), (180, 665))
    drawing.arrow((180, 592), (30, 592), (30, 678), (167, 678))
    drawing.box(60, 706, 240, 44, "data", "video tokens")
    drawing.arrow((180, 689), (180, 704))
    notes = (
        "One AFCA call per person, all with",
        "the same weights: any number of people.",
        "",
        "The face mask is zero outside the",
        "person's box, so voices don't mix.",
        "",
        "Audio: each latent frame attends to",
        "its own four video frames of sound.",
        "In layout A the first latent frame",
        "attends to all of it.",
        "",
        "The time step scales, shifts and",
        "gates self attention and feed-forward.",
    )
    for number, note in enumerate(notes):
        drawing.text(684, 180 + 22 * number, note, "small left")
    return drawing


def data_flow() -> Drawing:
    """From the inputs to the MP4."""
    drawing = Drawing(920, 500, "From picture and recordings to the MP4")
    for y, name, small in ((30, "picture", "any size"), (232, "recordings", "one per person"), (324, "prompt", "text")):
        drawing.box(20, y, 140, 60, "data", name, small)
    rows = (
        (20, "net", "autoencoder, encoder", "condition latents"),
        (96, "net", "image encoder", "picture and face crops"),
        (172, "person", "face detector", "boxes → face masks"),
        (248, "person", "audio encoder", "features per video frame"),
        (324, "net", "text encoder", "prompt, negative prompt"),
    )
    for y, kind, name, small in rows:
        drawing.box(230, y, 200, 60, kind, name, small)
    for y in (50, 126, 202):
        drawing.arrow((160, 60), (195, 60), (195, y), (228, y))
    drawing.arrow((160, 262), (195, 262), (195, 278), (228, 278))
    drawing.arrow((160, 354), (228, 354))
    drawing.arrow((330, 172), (330, 158))
    drawing.text(338, 169, "crops", "small left")
    drawing.box(740, 20, 160, 50, "data", "noise", "from the seed")
    drawing.arrow((740, 45), (692, 45))
    drawing.box(
        520,
        100,
        170,
        250,
        "net",
        "transformer",
        "AFCA per person",
        "",
        "each step, each",
        "window, each",
        "guidance branch",
    )
    for y, middle, target in ((50, 490, 130), (126, 475, 170), (202, 460, 215), (278, 460, 262), (354, 475, 320)):
        drawing.arrow((430, y), (middle, y), (middle, target), (518, target))
    drawing.box(520, 20, 170, 50, "net", "sampler", "noise → latents")
    drawing.arrow((580, 100), (580, 72))
    drawing.arrow((630, 70), (630, 98))
    drawing.box(740, 195, 160, 60, "net", "autoencoder", "decoder, in chunks")
    drawing.arrow((690, 225), (738, 225))
    drawing.box(740, 300, 160, 60, "data", "frames", "float32 in [0, 1]")
    drawing.arrow((820, 255), (820, 298))
    drawing.box(740, 420, 160, 60, "data", "talk.mp4, talk.json", "video and its record")
    drawing.arrow((820, 360), (820, 418))
    drawing.arrow((20, 262), (8, 262), (8, 450), (738, 450))
    drawing.text(400, 440, "the sound, unchanged in length: mixed, or one recording after another")
    return drawing


if __name__ == "__main__":
    block().write(DOCS / "block.svg")
    data_flow().write(DOCS / "data_flow.svg")
