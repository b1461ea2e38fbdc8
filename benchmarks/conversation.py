"""A script of four people and twelve turns on the miniature: time, and whose mouth follows whose voice.

python benchmarks/conversation.py runs/conversation
python benchmarks/conversation.py runs/conversation --edit     # one turn half a second later, against all of it
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from anytalker.conditioning.timeline import speaking_spans
from anytalker.errors import NoScoreError
from anytalker.evaluation.lip_sync.binding import binding
from anytalker.evaluation.lip_sync.crops import crop_faces
from anytalker.evaluation.lip_sync.scores import SyncTracks, embed_tracks, lip_sync_of
from anytalker.evaluation.lip_sync.silence import MOUTH, mouth_motions, silence
from anytalker.evaluation.lip_sync.syncnet import load_sync_model
from anytalker.media.video import read_video
from anytalker.timeline.model import Timeline
from anytalker.timeline.streams import streams

SCRIPT = """Anna: Good morning everybody, did you see the game last night?
Ben: Yes I did, and I could not believe the ending.
Carla: What happened? I fell asleep on the sofa.
Dan: They scored twice in the last two minutes.
Anna: And the goalkeeper ran all the way to the other side.
Carla: Oh no, I always miss the best moments.
Ben: You can watch it again tonight, I recorded everything.
Dan: [pause 0.4] Only if you bring something to eat.
Anna: I can make pizza for all of us.
Carla: With mushrooms and a lot of cheese, please.
Ben: Then we have a plan for this evening.
Dan: See you at eight, and do not be late.
"""


def main() -> None:
    """Make the video unless it is there, and print what it took and how good it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1_000_005, help="of the picture of four people")
    parser.add_argument("--edit", action="store_true", help="measure an edit instead of the scores")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    video = folder / f"talk-{options.seed}.mp4"
    if not video.exists():
        (folder / "script.txt").write_text(SCRIPT, encoding="utf-8")
        picture = folder / f"four-{options.seed}.png"
        command = [sys.executable, "-m", "anytalker"]
        drawn = ["miniature", "picture", "--persons", "4", "--seed", str(options.seed), "--output", str(picture)]
        subprocess.run([*command, *drawn], check=True)
        made = ["generate", "--image", str(picture), "--script", str(folder / "script.txt"), "--output", str(video)]
        wall, processor = timed([*command, *made, "--keep-latents"])
        print(f"wall {wall:.1f} s, processor {processor:.1f} s")
    if options.edit:
        edit(video, folder / f"four-{options.seed}.png")
    else:
        measure(video)


def timed(command: list[str]) -> tuple[float, float]:
    """Run a command; seconds on the clock, and of the processor in all threads."""
    started, before = time.monotonic(), os.times()
    subprocess.run(command, check=True)
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - started, processor


def edit(video: Path, picture: Path, number: int = 5) -> None:
    """Move one turn by half a second, make that video with the earlier one's latents and without, and compare."""
    timeline = Timeline.checked(json.loads(video.with_suffix(".json").read_text())["timeline"])
    turns = list(timeline.turns)
    moved = turns[number]
    turns[number] = moved.model_copy(update={"start": moved.start + 0.5, "end": moved.end + 0.5})
    changed = timeline.model_copy(update={"turns": tuple(turns)})
    changed.write(video.with_name("moved.json"))
    made = [sys.executable, "-m", "anytalker", "generate", "--image", str(picture)]
    made += ["--timeline", str(video.with_name("moved.json")), "--force"]
    took, making = {}, {}
    for name, more in (("edited", ["--edit-of", str(video)]), ("anew", [])):
        output = video.with_name(f"{name}.mp4")
        took[name] = timed([*made, *more, "--output", str(output)])
        stages = json.loads(output.with_suffix(".json").read_text())["seconds"]
        making[name] = stages["denoise"] + stages["decode"]
        print(f"{name}: wall {took[name][0]:.1f} s, processor {took[name][1]:.1f} s; wall by stage {stages}")
    wall, processor = (took["edited"][kind] / took["anew"][kind] for kind in (0, 1))
    print(f"edited / anew: wall {wall:.2f}, processor {processor:.2f}")
    print(f"edited / anew, denoising and decoding alone: wall {making['edited'] / making['anew']:.2f}")
    sizes = [video.with_name(f"{name}.mp4").stat().st_size / 1e6 for name in ("edited", "anew")]
    print(f"edited {sizes[0]:.2f} MB, anew {sizes[1]:.2f} MB")
    frames = {name: read_video(video.with_name(f"{name}.mp4"))[0] for name in ("edited", "anew")}
    earlier, fps = read_video(video)
    apart = np.array([np.abs(a.astype(int) - b).mean() for a, b in zip(earlier, frames["edited"], strict=False)])
    print(f"frames that differ from the earlier video: {(apart > 0).sum() / fps:.1f} s of {len(apart) / fps:.1f} s")
    between = np.array(
        [np.abs(a.astype(int) - b).mean() for a, b in zip(frames["anew"], frames["edited"], strict=False)]
    )
    print(f"edited against anew: mean difference {between.mean():.2f} of 255, largest of a frame {between.max():.2f}")


def measure(video: Path) -> None:
    """Print the scores of a video and its record."""
    record = json.loads(video.with_suffix(".json").read_text())
    timeline = Timeline.checked(record["timeline"])
    voices = [voice[:] for voice in streams(timeline, video.parent)]
    frames, fps = read_video(video)
    boxes = np.array([person["box_xywh"] for person in record["persons"]], dtype=float)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)[None].repeat(len(frames), axis=0)
    judge = load_sync_model()
    tracks = embed_tracks(*crop_faces(frames, corners, judge.crop), voices, fps, judge)
    spans = [[(start, end) for start, end in speaking_spans(voice)] for voice in voices]
    still = silence(mouth_motions(*crop_faces(frames, corners, MOUTH)), spans, fps)
    print(f"{len(frames) / fps:.1f} s, {len(timeline.people)} people, {len(timeline.turns)} turns")
    print(f"faces bound to their own voice: {binding(tracks).accuracy:.1%}")
    own, all_of_it, left_out = bound_seconds(tracks, timeline)
    print(f"speaking time in which the own face fits best: {own / all_of_it:.1%} of {all_of_it:.1f} s")
    print(f"turns too short to be judged: {left_out:.1f} s; silent / speaking mouth motion: {still.ratio:.3f}")


def bound_seconds(tracks: SyncTracks, timeline: Timeline) -> tuple[float, float, float]:
    """Seconds of turns whose voice fits the speaker's face better than any other, of all, and of those left out."""
    names = [person.name for person in timeline.people]
    own = judged = left_out = 0.0
    for turn in timeline.turns:
        voice = names.index(turn.person)
        try:
            fits = [
                lip_sync_of(tracks, face, voice, [(turn.start, turn.end)]).distances.min() for face in range(len(names))
            ]
        except NoScoreError:
            left_out += turn.seconds
            continue
        judged += turn.seconds
        own += turn.seconds * (int(np.argmin(fits)) == voice)
    return own, judged, left_out


if __name__ == "__main__":
    main()
