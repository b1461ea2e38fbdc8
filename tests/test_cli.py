"""The command line: what it makes, and how it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from anytalker import AnyTalkerPipeline, cli
from anytalker.denoising.denoiser import DenoisingRun
from anytalker.media.video import read_video, write_video
from tests.processes import start
from tests.training.fixtures import make_config


def run(*arguments: str | Path) -> int:
    """Run the command line in this process and return its exit code."""
    old, sys.argv = sys.argv, ["anytalker", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = old
    return 0


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """A picture of two drawn people with its boxes in a .json beside it."""
    path = tmp_path_factory.mktemp("drawn") / "two.png"
    assert run("miniature", "picture", "--persons", "2", "--seed", "1000003", "--output", path) == 0
    return path


SMALL = ("--scale", "0.5")
"""Videos of half the size, where nothing depends on it."""
QUICK = (*SMALL, "--steps", "1", "--max-frames", "5")
"""As little of a video as there can be."""


def boxes_of(picture: Path) -> list[str]:
    persons = json.loads(picture.with_suffix(".json").read_text())["persons"]
    return [",".join(map(str, person["box_xywh"])) for person in persons]


def test_demo_makes_a_playable_video(tmp_path) -> None:
    output = tmp_path / "demo.mp4"
    assert run("demo", "--persons", "2", "--seconds", "1", "--output", output) == 0
    frames, fps = read_video(output)
    assert fps == 24
    assert len(frames) == 25
    assert frames.shape[2] >= 192
    assert frames.shape[1] >= 96
    assert np.abs(np.diff(frames.astype(float), axis=0)).max() > 30
    with av.open(str(output)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        lengths = [float(stream.duration * stream.time_base) for stream in (picture, sound)]
        assert (picture.codec_context.name, sound.codec_context.name) == ("h264", "aac")
        assert abs(lengths[0] - lengths[1]) <= 1 / 24
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.json", "demo.mp4"]


def test_generate_writes_video_and_record(tmp_path, drawn, write_wave, tone) -> None:
    output = tmp_path / "talk.mp4"
    first, second = boxes_of(drawn)
    people = ["--audio", write_wave(tone), "--audio", "none", "--face", second, "--face", first]
    assert run("generate", "--image", drawn, *people, "--steps", "2", "--seed", "7", "--output", output) == 0
    record = json.loads(output.with_suffix(".json").read_text())
    frames, fps = read_video(output)
    assert (record["height"], record["width"]) == frames.shape[1:3]
    assert (record["frames"], record["fps"], record["seed"], record["model"]) == (len(frames), fps, 7, "tiny")
    assert len(frames) % 4 == 1
    assert record["settings"]["num_inference_steps"] == 2
    assert set(record["seconds"]) == {"prepare", "denoise", "decode"}
    speaker, listener = record["persons"]
    assert speaker["box_xywh"][0] > listener["box_xywh"][0]
    assert (speaker["audio"], listener["audio"]) == ("voice.wav", None)
    assert speaker["speaking"]
    assert listener["speaking"] == []


def test_a_tuned_decoder_gives_a_model_that_plays(tmp_path, drawn, write_wave, tone) -> None:
    assert run("miniature", "decoder", "tiny", tmp_path, "--steps", "1", "--clips", "1") == 0
    arguments = ["--image", drawn, "--audio", write_wave(tone), "--face", boxes_of(drawn)[0], "--max-frames", "5"]
    output = tmp_path / "talk.mp4"
    assert run("generate", "--model", tmp_path / "model", *arguments, "--output", output) == 0
    assert len(read_video(output)[0]) == 5


def test_the_same_seed_gives_the_same_video(tmp_path, drawn, write_wave, tone) -> None:
    voice, videos = write_wave(tone), []
    arguments = ["--image", drawn, "--audio", voice, "--face", boxes_of(drawn)[0], "--steps", "1", "--max-frames", "9"]
    for name in ("a.mp4", "b.mp4"):
        assert run("generate", *arguments, "--output", tmp_path / name) == 0
        videos.append(read_video(tmp_path / name)[0])
    assert len(videos[0]) == 9
    # Float sums depend on where arrays lie in memory; H.264 makes a few grey levels of the last bit.
    assert np.abs(videos[0].astype(int) - videos[1]).mean() < 0.6


def test_adapters_and_caches_change_the_video_and_stand_in_its_record(tmp_path, drawn, write_wave, tone) -> None:
    from safetensors.torch import save_file

    adapter = {
        "blocks.3.attn1.to_v.lora_A.weight": torch.full((2, 192), 0.1),
        "blocks.3.attn1.to_v.lora_B.weight": torch.full((192, 2), 0.1),
    }
    save_file(adapter, tmp_path / "few.safetensors")
    arguments = ["--image", drawn, "--audio", write_wave(tone), "--face", boxes_of(drawn)[0], "--max-frames", "9"]
    arguments += SMALL
    videos, records = [], []
    for name, options in {
        "plain": ["--steps", "4"],
        "lora": ["--steps", "4", "--lora", f"{tmp_path / 'few.safetensors'}:2"],
        "cache": ["--steps", "4", "--cache", "magcache", "--cache-threshold", "1"],
    }.items():
        assert run("generate", *arguments, *options, "--output", tmp_path / f"{name}.mp4") == 0
        videos.append(read_video(tmp_path / f"{name}.mp4")[0].astype(int))
        records.append(json.loads((tmp_path / f"{name}.json").read_text())["settings"])
    assert "lora" not in records[0]
    assert "cache" not in records[0]
    assert records[1]["lora"] == ["few.safetensors:2"]
    assert (records[2]["cache"], records[2]["cache_threshold"]) == ("magcache", 1)
    for video in videos[1:]:
        assert np.abs(video - videos[0]).mean() > 0.6


def test_a_preview_shows_whose_voice_is_whose(tmp_path, drawn, write_wave, tone) -> None:
    first, second = boxes_of(drawn)
    voice = write_wave(tone)
    people = ["--audio", voice, "--face", second, "--audio", "none", "--face", first]
    assert run("generate", "--image", drawn, *people, "--preview", "--output", tmp_path / "talk.mp4") == 0
    assert not (tmp_path / "talk.mp4").exists()
    shown = np.asarray(Image.open(tmp_path / "talk.preview.png"), dtype=float)
    picture = np.asarray(Image.open(drawn).convert("RGB"), dtype=float)
    assert len(shown) > len(picture)  # who speaks when is below
    changed = np.abs(shown[: len(picture)] - picture).max(axis=(0, 2)) > 20
    for box in (first, second):
        x, _, width, _ = map(int, box.split(","))
        assert changed[x : x + width].mean() > 0.9


def test_a_silent_voice_is_said(tmp_path, drawn, write_wave, tone, capsys) -> None:
    people = ["--audio", write_wave(0 * tone, "dead.wav"), "--audio", write_wave(tone)]
    assert run("generate", "--image", drawn, *people, "--preview", "--output", tmp_path / "talk.mp4") == 0
    told = capsys.readouterr().err
    assert "dead.wav is silent throughout" in told
    assert "voice.wav is silent" not in told


def test_a_stereo_recording_gives_two_voices_and_a_video_its_picture(tmp_path, drawn, write_wave, tone, capsys) -> None:
    quiet = np.zeros(16000, np.float32)
    sides = np.stack([np.concatenate([tone, quiet]), np.concatenate([quiet, tone])])
    talk = write_wave(sides.T.ravel(), "talk.wav", channels=2)
    video = tmp_path / "film.mp4"
    with av.open(str(video), "w") as file:
        stream, sound = file.add_stream("libx264", rate=24), file.add_stream("aac", rate=16000, layout="mono")
        picture = av.VideoFrame.from_image(Image.open(drawn))
        stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
        for _ in range(12):
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
        frame = av.AudioFrame.from_ndarray(tone[None, :8000], "fltp", "mono")
        frame.sample_rate = 16000
        file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    one, two = (["--face", box] for box in boxes_of(drawn))
    preview = ["--output", tmp_path / "out.mp4", "--preview"]
    both = ["--audio", f"{talk}:left", "--audio", f"{talk}:right"]
    assert run("generate", "--image", video, "--at", "0.2", *both, *one, *two, *preview) == 0
    assert "different voice" not in capsys.readouterr().err
    assert run("generate", "--image", video, "--audio", talk, "--audio", talk, *one, *two, *preview) == 0
    assert capsys.readouterr().err.count("has a different voice on each side; take one with") == 1
    assert run("generate", "--image", video, "--audio", video, *one, *preview) == 0
    assert run("generate", "--image", video, "--at", "3", *both, *one, *two, *preview) == 2
    assert "it lasts 0.50 s" in capsys.readouterr().err
    before = video.read_bytes()
    assert run("generate", "--image", drawn, "--audio", f"{video}:1", *one, "--output", video) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert video.read_bytes() == before
    assert run("generate", "--image", video, "--audio", f"{talk}:left", *one, *preview[:2], *QUICK) == 0
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["persons"][0]["audio"] == "talk.wav:left"


def test_names_in_messages_stay_whole(tmp_path, drawn, write_wave, tone, capsys) -> None:
    video = tmp_path / "[bold] [draft].mp4"
    parts = tmp_path / "[bold] [draft].parts"
    parts.mkdir()
    (parts / "state.safetensors").write_bytes(b"damaged")
    people = ["--audio", write_wave(tone), *QUICK]
    assert run("generate", "--image", drawn, *people, "--output", video) == 0
    assert f"The parts in {parts} are damaged" in capsys.readouterr().err


def bad_files(folder: Path) -> None:
    (folder / "text.png").write_text("no picture")
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    (folder / "cut.png").write_bytes((folder / "noise.png").read_bytes()[:50000])
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("1", (20000, 64)).save(folder / "wide.png")
    (folder / "empty.wav").write_bytes(b"")
    (folder / "cut.wav").write_bytes((folder / "voice.wav").read_bytes()[:9000])
    with av.open(str(folder / "mute.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width = stream.height = 64
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        container.mux(stream.encode(None))


VOICE = ["--audio", "voice.wav"]
BAD_INPUT = {
    "missing picture": (["--image", "gone.png"], "gone.png"),
    "no picture": (["--image", "text.png"], "text.png"),
    "truncated picture": (["--image", "cut.png"], "cut.png"),
    "one pixel": (["--image", "dot.png"], "1×1"),
    "too wide": (["--image", "wide.png"], "20000"),
    "missing audio": (["--audio", "gone.wav"], "gone.wav"),
    "empty audio": (["--audio", "empty.wav"], "empty.wav"),
    "truncated audio": (["--audio", "cut.wav"], "cut.wav"),
    "no sound stream": (["--audio", "mute.mp4"], "mute.mp4"),
    "too short audio": (["--audio", "short.wav"], "short.wav"),
    "nobody speaks": (["--audio", "none"], "No audio"),
    "more audios than faces": (["--image", "noise.png", *VOICE, *VOICE], "2 audios"),
    "more audios than boxes": ([*VOICE, *VOICE, "--face", "FACE0"], "2 audios"),
    "face outside": (["--face", "9000,10,50,50"], "9000,10,50,50"),
    "face of zero size": (["--face", "10,10,0,50"], "10,10,0,50"),
    "malformed face": (["--face", "10;10;50;50"], "10;10;50;50"),
    "same person twice": ([*VOICE, *VOICE, "--face", "FACE0", "--face", "FACE0"], "same person"),
    "unknown model": (["--model", "huge"], "'huge'"),
    "no such folder": (["--output", "none/talk.mp4"], "none"),
    "wrong extension": (["--output", "talk.gif"], "talk.gif"),
    "no steps": (["--steps", "0"], "--steps"),
    "no frames a second": (["--fps", "0"], "--fps"),
    "scale not a number": (["--guidance-scale", "nan"], "--guidance-scale"),
    "unknown mode": (["--mode", "sideways"], "sideways"),
    "unknown option": (["--quality", "9"], "--quality"),
    "negative seed": (["--seed", "-1"], "--seed"),
    "too few frames": (["--max-frames", "1"], "--max-frames"),
    "missing adapter": (["--lora", "gone.safetensors"], "gone.safetensors"),
    "too many strengths": ([*["--voice-strength", "1"] * 9], "9 voice strengths"),
    "nobody at the point": (["--face", "1,1"], "1,1"),
    "no such kernel": (["--attention", "slow"], "'slow'"),
    "caches of compiled blocks": (["--cache", "magcache", "--compile"], "--compile"),
    "too few samples": (["--fps", "1"], "voice.wav"),
    "adapter that is none": (["--lora", "voice.wav:0.5"], "voice.wav"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_and_leaves_nothing(case, tmp_path, monkeypatch, capsys, drawn, write_wave, tone) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded before the input was looked at")

    monkeypatch.setattr(AnyTalkerPipeline, "from_pretrained", load)
    write_wave(tone)
    write_wave(tone[:160], "short.wav")
    bad_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    given, culprit = BAD_INPUT[case]
    arguments = [boxes_of(drawn)[0] if value == "FACE0" else value for value in given]
    if "--image" not in given:
        arguments += ["--image", str(drawn)]
    if "--audio" not in given:
        arguments += VOICE
    if "--face" not in given and case != "more audios than faces":
        arguments += ["--face", boxes_of(drawn)[0]]
    if "--output" not in given:
        arguments += ["--output", "talk.mp4"]
    before = sorted(tmp_path.rglob("*"))
    assert run("generate", *arguments) == 2
    message = capsys.readouterr().err
    assert culprit in message
    assert "Traceback" not in message
    assert sorted(tmp_path.rglob("*")) == before


def test_a_record_that_can_not_be_written_is_said_before_any_work(tmp_path, drawn, write_wave, tone, capsys) -> None:
    (tmp_path / "talk.json").mkdir()
    people = ["--audio", write_wave(tone), "--face", boxes_of(drawn)[0]]
    assert run("generate", "--image", drawn, *people, "--output", tmp_path / "talk.mp4") == 2
    assert "talk.json" in capsys.readouterr().err
    assert not (tmp_path / "talk.mp4").exists()


def test_an_existing_output_is_untouched_by_bad_input(tmp_path, drawn) -> None:
    output = tmp_path / "talk.mp4"
    output.write_text("precious")
    assert run("generate", "--image", drawn, "--audio", tmp_path / "gone.wav", "--output", output) == 2
    assert output.read_text() == "precious"


@pytest.mark.parametrize("changed", ["--image", "--audio", "--face"])
@pytest.mark.parametrize("given", ["talk.mp4", "talk.json", "talk.preview.png", "talk.parts/video.mp4", "link.mp4"])
def test_no_input_is_overwritten(tmp_path, monkeypatch, drawn, capsys, given, changed) -> None:
    monkeypatch.chdir(tmp_path)
    Path("talk.parts").mkdir()
    path = Path("talk.mp4" if given == "link.mp4" else given)
    path.write_text("precious")
    Path("link.mp4").symlink_to("talk.mp4")
    arguments = {"--image": str(drawn), "--audio": "other.wav", "--face": "20,20,60,60"} | {changed: given}
    assert run("generate", *(text for pair in arguments.items() for text in pair)) == 2
    assert f"The input {given} would be overwritten" in capsys.readouterr().err
    assert path.read_text() == "precious"


def test_a_json_file_is_replaced_only_by_its_like(tmp_path, drawn, write_wave, tone, capsys) -> None:
    people = ["--audio", write_wave(tone), "--face", boxes_of(drawn)[0], *QUICK]
    boxes = tmp_path / "two.json"
    boxes.write_bytes(drawn.with_suffix(".json").read_bytes())
    for command in (["generate", "--image", drawn, *people], ["demo"]):
        assert run(*command, "--output", tmp_path / "two.mp4") == 2
        assert "two.json would be overwritten, but it is not the record of a video" in capsys.readouterr().err
        assert boxes.read_bytes() == drawn.with_suffix(".json").read_bytes()
    for _ in range(2):
        assert run("generate", "--image", drawn, *people, "--output", tmp_path / "talk.mp4") == 0
        assert run("miniature", "picture", "--output", tmp_path / "two.png") == 0
    assert run("miniature", "picture", "--output", tmp_path / "talk.png") == 2
    assert "not a picture's face boxes" in capsys.readouterr().err
    assert json.loads((tmp_path / "talk.json").read_text())["frames"] == 5


def test_a_batch_overwrites_no_file_that_it_needs(tmp_path, monkeypatch, drawn, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = {"talk": {"image": str(drawn), "audio": ["a.mp4"]}, "a": {"image": str(drawn), "audio": ["b.wav"]}}
    for name, wanted, culprit in (("talk.json", ["talk"], "talk.json"), ("jobs.json", ["talk", "a"], "a.mp4")):
        Path("a.mp4").write_text("precious")
        text = json.dumps({key: jobs[key] for key in wanted})
        Path(name).write_text(text)
        assert run("batch", name, "--output", ".") == 2
        message = capsys.readouterr().err
        assert f"{culprit} would be overwritten" in message
        assert "Rename the job" in message
        assert (Path(name).read_text(), Path("a.mp4").read_text()) == (text, "precious")
    Path("batch.jsonl").write_text(json.dumps({"talk": jobs["talk"]}))
    assert run("batch", "batch.jsonl", "--output", ".") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo", "--persons", "0"),
        ("demo", "--seconds", "nan"),
        ("miniature", "picture", "--persons", "99"),
        ("miniature", "syncnet", "x", "--steps", "0"),
        ("miniature", "decoder", "tiny", "x", "--steps", "0"),
        ("miniature", "decoder", "tiny", "x", "--clips", "0"),
        ("dance",),
    ],
)
def test_other_commands_refuse_too(arguments, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert list(tmp_path.iterdir()) == []


def test_help_is_light_and_shows_examples() -> None:
    program = "import sys; sys.argv=['anytalker','generate','--help']\nfrom anytalker.cli import main\n"
    program += "try: main()\nfinally: print([m for m in ('torch','diffusers','av','cv2','numpy') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.rstrip().endswith("[]")
    assert "Examples" in shown.stdout


@pytest.mark.slow
def test_interruption_ends_with_130_and_leaves_nothing(tmp_path, drawn, write_wave, tone) -> None:
    voice = write_wave(np.tile(tone, 20))
    folder = tmp_path / "out"
    folder.mkdir()
    command = ["generate", "--image", str(drawn), "--audio", str(voice), "--face", boxes_of(drawn)[0]]
    command += ["--steps", "200", "--output", str(folder / "talk.mp4")]
    running = start("import runpy; runpy.run_module('anytalker', run_name='__main__')", command)
    while not running.written("errors"):
        running.process.join(0.05)
        assert running.process.is_alive()
    os.kill(running.process.pid, signal.SIGINT)
    code, _, said = running.end(60)
    assert code == 130
    assert "Traceback" not in said
    assert list(folder.iterdir()) == []


def test_an_interrupted_long_video_goes_on(tmp_path, drawn, write_wave, tone, monkeypatch, capsys) -> None:
    folder, real, steps = tmp_path / "out", DenoisingRun.advance, []
    folder.mkdir()
    people = ["--audio", write_wave(np.tile(tone, 2)), "--face", boxes_of(drawn)[0], "--steps", "2", *SMALL]
    command = ["generate", "--image", drawn, *people, "--save-every", "0", "--output"]

    def advance(run: DenoisingRun) -> None:
        steps.append(run)
        if len(steps) == 4:
            raise KeyboardInterrupt
        real(run)

    monkeypatch.setattr(DenoisingRun, "advance", advance)
    assert run(*command, folder / "talk.mp4") == 130
    assert "same command goes on where it stopped" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["talk.parts"]
    assert run(*command, folder / "talk.mp4") == 0
    assert "Going on at" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["talk.json", "talk.mp4"]
    assert run(*command, tmp_path / "whole.mp4") == 0
    # To the byte in a fresh process, which another test checks; in this one, sums of floats depend on where their
    # memory begins. Other noise would differ by 1.8.
    resumed, whole = (read_video(path)[0].astype(float) for path in (folder / "talk.mp4", tmp_path / "whole.mp4"))
    assert np.abs(resumed - whole).mean() < 1.0


def test_a_full_disk_is_said_with_exit_code_1(tmp_path, drawn, write_wave, tone, capsys) -> None:
    resource = pytest.importorskip("resource")
    people = ["--audio", write_wave(np.tile(tone, 2)), "--face", boxes_of(drawn)[0], "--steps", "1", *SMALL]
    folder = tmp_path / "out"
    folder.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        codes = [
            run("generate", "--image", drawn, *people, "--save-every", every, "--output", folder / "talk.mp4")
            for every in ("0", "100")
        ]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert codes == [1, 1]
    assert capsys.readouterr().err.count("The disk is full") == 2
    assert list(folder.iterdir()) == []


def test_training_from_the_command_line(tmp_path, capsys) -> None:
    config = make_config(tmp_path)
    (tmp_path / "run.yaml").write_text(config.model_dump_json())
    assert run("train", "--set", "steps=2", tmp_path / "run.yaml", "--set", f"output={tmp_path / 'two'}") == 0
    shown = capsys.readouterr().out
    assert '"steps": 2' in shown
    assert "step 2/2" in shown
    assert (tmp_path / "two" / "model" / "anytalker.json").is_file()


def test_footage_is_prepared_from_the_command_line(tmp_path, capsys) -> None:
    config = make_config(tmp_path)
    write_video(tmp_path / "a.mp4", np.full((9, 64, 96, 3), 90, np.uint8), 24)
    person = {"audio_path": None, "face_boxes": [[30, 16, 32, 32]]}
    record = {"video_path": "a.mp4", "n_frames": 9, "width": 96, "height": 64, "fps": 24, "persons": [person]}
    (tmp_path / "clips.jsonl").write_text(json.dumps(record))
    places = [tmp_path / "clips.jsonl", tmp_path / "shards", "--model", config.model, "--width", "96", "--height", "64"]
    assert run("train", "prepare", *places) == 0
    told = capsys.readouterr().out
    assert "Wrote 2 samples" in told
    assert "1 of the 1 windows have a pause" in told
    assert run("train", "prepare", *places[:-1], "60") == 2
    assert "--height is 60" in capsys.readouterr().err
    held_out = record | {"caption": "somebody else", "split": "test"}
    (tmp_path / "clips.jsonl").write_text("\n".join(map(json.dumps, (record | {"split": "train"}, held_out))))
    places[1] = tmp_path / "held out"
    assert run("train", "prepare", *places, "--split", "test") == 0
    assert "Wrote 2 samples" in capsys.readouterr().out
    assert run("train", "prepare", *places, "--split", "validation") == 2
    assert "2 of the 2 records belong to another" in capsys.readouterr().err
    assert run("train", "prepare", *places, "--split", "half") == 2
    assert "must be one of train, validation, test" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["gone.yaml"], "gone.yaml"),
        (["run.yaml", "--set", "stepz=3"], "stepz"),
        (["run.yaml", "--set", "model=nowhere"], "nowhere"),
        (["run.yaml", "--set", "data.single=[nowhere]"], "nowhere"),
        (["prepare", "gone.jsonl", "shards"], "gone.jsonl"),
        (["ablation", "run.yaml", "nowhere", "out"], "nowhere"),
    ],
)
def test_bad_training_input_is_named(tmp_path, monkeypatch, capsys, arguments, culprit) -> None:
    (tmp_path / "run.yaml").write_text(make_config(tmp_path).model_dump_json())
    monkeypatch.chdir(tmp_path)
    assert run("train", *arguments) == 2
    message = capsys.readouterr().err
    assert culprit in message
    assert "Traceback" not in message


def test_the_record_beside_a_picture_says_where_faces_are(tmp_path, drawn, write_wave, tone, capsys) -> None:
    people = ["--audio", write_wave(tone, "anna.wav"), "--preview", "--output", tmp_path / "talk.mp4"]
    boxes = boxes_of(drawn)
    assert run("generate", "--image", drawn, *people) == 0
    told = capsys.readouterr().err
    assert "two.json beside the picture holds" in told
    assert f"anna.wav → person 1 from the left (at {boxes[0]}); person 2 listens." in told
    copy = tmp_path / "two.png"
    copy.write_bytes(drawn.read_bytes())
    whole = json.loads(drawn.with_suffix(".json").read_text())
    for content, line in (
        ({"persons": [{"box_xywh": [9000, 10, 50, 50]}]}, "is not used: The face 9000,10,50,50 lies outside"),
        ('{"persons": [', "is not used: it is not JSON"),
        (whole | {"frames": 5, "width": 512, "height": 288, "fps": 24}, ""),
        ({"colour": "red"}, ""),
        ("notes", ""),
    ):
        copy.with_suffix(".json").write_text(content if isinstance(content, str) else json.dumps(content))
        run("generate", "--image", copy, *people)
        told = capsys.readouterr().err
        assert "beside the picture holds" not in told
        assert line in told
        assert ("is not used" in told) == bool(line)


def test_a_video_of_other_inputs_is_not_replaced(tmp_path, monkeypatch, drawn, write_wave, tone, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    people = ["generate", "--image", drawn, "--audio", write_wave(tone), *QUICK]
    for _ in range(2):
        assert run(*people) == 0
    assert sorted(path.name for path in tmp_path.glob("talk*")) == ["talk.json", "talk.mp4"]
    whole = Path("talk.mp4").read_bytes()
    assert run(*people, "--seed", "1", "--output", "talk.mp4") == 2
    assert "talk.mp4 is there already and was made from other inputs" in capsys.readouterr().err
    assert run(*people, "--seed", "1") == 0
    assert "goes to talk-2.mp4" in capsys.readouterr().err
    assert Path("talk.mp4").read_bytes() == whole
    Path("own.mp4").write_text("precious")
    for command in (people, ["demo"]):
        assert run(*command, "--output", "own.mp4") == 2
        assert "own.mp4 is there already and has no record" in capsys.readouterr().err
    assert Path("own.mp4").read_text() == "precious"
    assert run(*people, "--output", "own.mp4", "--force") == 0
    assert len(read_video("own.mp4")[0]) == 5


def test_demos_take_each_others_place_and_no_other(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo.mp4").write_text("precious")
    for seed in ("1", "2"):
        assert run("demo", "--seconds", "1", "--persons", "1", "--seed", seed) == 0
        assert " in all. How: demo-2.json" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo-2.json", "demo-2.mp4", "demo.mp4"]
    assert Path("demo.mp4").read_text() == "precious"


@pytest.mark.parametrize("seconds", [0.4, 1.0])
def test_the_sound_is_whole_in_the_file(tmp_path, drawn, write_wave, tone, seconds) -> None:
    voice = write_wave(tone[: int(seconds * 16000)])
    people = ["--audio", voice, "--steps", "1", *SMALL]
    assert run("generate", "--image", drawn, *people, "--output", tmp_path / "a.mp4") == 0
    with av.open(str(tmp_path / "a.mp4")) as container:
        for stream in (container.streams.video[0], container.streams.audio[0]):
            over = float(stream.duration * stream.time_base) - seconds
            assert -0.001 <= over < 4 / 24 + 1 / 48


def test_what_is_plainly_wrong_is_refused_before_torch_is_loaded(tmp_path, drawn, write_wave, tone) -> None:
    arguments = ["anytalker", "generate", "--image", str(drawn), "--audio", str(write_wave(tone))]
    wrong = [["--fps", "1000"], ["--size", "9x9"], ["--audio", "none", "--face", "1,2"], ["--audio", "gone.wav"]]
    program = f"""
import sys
from anytalker.cli import main
for options in {wrong!r}:
    sys.argv = {arguments!r} + options
    try: main()
    except SystemExit as ended: code = ended.code
    print(options, code, [m for m in ("torch", "diffusers", "cv2") if m in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert shown.stdout.splitlines() == [f"{options} 2 []" for options in wrong], shown.stderr


def test_logs_get_percentages_now_and_then_and_no_bars() -> None:
    from anytalker.cli.progress import StageLog

    lines: list[str] = []
    now = 0.0
    log = StageLog(lines.append, lambda: now)
    for done in range(101):
        log.report("Making", done, 100)
        now += 0.5
    assert lines[0] == "Making: 0%"
    assert lines[1] == "Making: 10%, about 45 s left"
    assert lines[-1] == "Making: 100%, took 50 s"
    assert len(lines) == 11
    now = 0.0
    log = StageLog(lines.append, lambda: now)
    for done in range(3):
        log.report("Slow", done, 100)
        now += 3000.0
    assert lines[-1] == "Slow: 2%, about 81 h 40 min left"


def test_loading_a_model_draws_no_bars(capfd) -> None:
    from transformers.utils import logging

    logging.enable_progress_bar()
    try:
        AnyTalkerPipeline.from_pretrained("tiny")
        assert logging.is_progress_bar_enabled()
    finally:
        logging.disable_progress_bar()
    assert "Loading" not in capfd.readouterr().err


def test_a_dry_run_says_what_a_run_takes_and_lacks(tmp_path, capsys, monkeypatch) -> None:
    config = make_config(tmp_path, groups=2, data={"joined": [tmp_path / "none"]}, batches={"join": [1, 2]})
    path = tmp_path / "run.yaml"
    path.write_text(config.model_dump_json())
    for weights in (tmp_path / "model").rglob("*.safetensors"):
        weights.unlink()
    assert run("train", path, "--dry-run", "--processes", "2") == 0
    said = capsys.readouterr().out
    for part in ("is valid", f"Missing: {tmp_path / 'none'}", "2, each holds everything", "gradient buckets", "400"):
        assert part in said
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run("train", path, "--dry-run") == 0
    assert capsys.readouterr().out == said
    assert not config.output.exists()


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (("--dry-run", "--processes", "3"), "3 processes"),
        (("--dry-run", "--processes", "0"), "--processes is 0"),
        (("--dry-run", "--tflops", "nan"), "--tflops"),
        (("--dry-run", "--set", "steps=0"), "steps"),
        (("--dry-run", "--set", "model=nowhere"), "--like"),
        (("--processes", "2"), "--dry-run"),
    ],
)
def test_a_dry_run_refuses_what_a_run_would(tmp_path, capsys, arguments, culprit) -> None:
    (tmp_path / "run.yaml").write_text(make_config(tmp_path).model_dump_json())
    assert run("train", tmp_path / "run.yaml", *arguments) == 2
    assert culprit in capsys.readouterr().err
