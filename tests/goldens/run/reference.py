"""A whole run in the release's order of steps, at a small size, written from what the release does.

Read it as the documentation of that order (the release at commit e5490b6, float32 throughout). It uses the published
building blocks (torch, transformers, diffusers) and this package's transformer, which is compared with the release's
own outputs elsewhere; nothing of `anytalker.pipelines` or `anytalker.conditioning`, which are compared with what it
writes. All weights and inputs are made by `tests/goldens/recipe.py`.

    PYTHONPATH=src python tests/goldens/run/reference.py tests/goldens/run      # writes run.safetensors and run.json
"""

from __future__ import annotations

import html
import json
import math
import sys
import wave
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import interpolate, pad
from transformers import (
    ByT5Tokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

sys.path[:0] = [str(Path(__file__).parents[3])]
from anytalker import AnyTalkerTransformer3DModel  # noqa: E402
from tests.goldens.recipe import tensor, weight  # noqa: E402

SALT = "run"
RATE, FPS, AREA, STEPS, SHIFT, GUIDANCE = 16000, 24, 64 * 96, 3, 3.0, 4.5
TEXT_LEN, IMAGE_SIZE = 1300, 28
PICTURE = (237, 158)
"""Width and height, far from the video's, so that it matters what is done before the picture is resized and what after."""
FACES = [(6, 41, 52, 61), (88, 3, 47, 40), (171, 60, 66, 55)]
"""What a face detector found, x, y, width and height: one that leaves the picture once it is square, one odd, one even."""
SECONDS = [0.5, 0.31, 0.27]
PROMPT = "  Three  people &amp; a cat talk: “hello”\n"
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CASES = {f"{mode}-{people}": (mode, people) for mode in ("pad", "concat") for people in (1, 2, 3)}
LAYOUTS = {"pad": "A", "concat": "B"}
"""Both layouts of the transformer, that of the 1.3B and that of the 14B."""


# What a run is made of


def fill(model: torch.nn.Module) -> Any:
    """The same weights every time."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            shape = value.shape[:1] if name.endswith("gamma") else value.shape
            values = weight(name.replace("gamma", "weight"), shape, f"{SALT}/{type(model).__name__}")
            value.copy_(values.reshape(value.shape))
    return model.eval()


def small_parts(layout: str) -> dict[str, Any]:
    """Every part of a full-size model, small."""
    return {
        "transformer": fill(
            AnyTalkerTransformer3DModel(
                num_attention_heads=2,
                attention_head_dim=24,
                text_dim=16,
                text_len=TEXT_LEN,
                ffn_dim=64,
                num_layers=2,
                image_dim=160,
                audio_blocks=2,
                audio_channels=16,
                audio_hidden_dim=16,
                audio_tokens=3,
                audio_face_layout=layout,
            )
        ),
        "vae": fill(AutoencoderKLWan(base_dim=8)),
        "text_encoder": fill(
            UMT5EncoderModel(UMT5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2))
        ),
        "tokenizer": ByT5Tokenizer(),
        "image_encoder": fill(
            CLIPVisionModel(
                CLIPVisionConfig(
                    hidden_size=160,
                    intermediate_size=64,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    image_size=IMAGE_SIZE,
                    patch_size=14,
                    hidden_act="gelu",
                )
            )
        ),
        "wav2vec2": fill(
            Wav2Vec2Model(
                Wav2Vec2Config(
                    hidden_size=16,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    intermediate_size=24,
                    conv_dim=(8,) * 7,
                    num_conv_pos_embeddings=16,
                    num_conv_pos_embedding_groups=2,
                    vocab_size=8,
                )
            )
        ),
    }


def write_inputs(folder: Path) -> tuple[Path, list[Path]]:
    """The picture and the voices, as files."""
    width, height = PICTURE
    values = tensor("picture", (height, width, 3), SALT).mul(60).add(128).clamp(0, 255)
    Image.fromarray(values.numpy().astype(np.uint8)).save(folder / "picture.png")
    voices = []
    for person, seconds in enumerate(SECONDS):
        samples = tensor(f"voice.{person}", (int(seconds * RATE),), SALT).mul(3000 + 2000 * person).add(300)
        voices.append(folder / f"voice{person}.wav")
        with wave.open(str(voices[-1]), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(samples.clamp(-32767, 32767).numpy().astype("<i2").tobytes())
    return folder / "picture.png", voices


def read_wave(path: Path) -> np.ndarray:
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


# 1. How long and how large the video is


def frame_count(voices: list[np.ndarray], mode: str) -> int:
    """From the recordings' durations: the longest, or all of them; the frames they touch, down to 4n + 1."""
    durations = [len(voice) / RATE for voice in voices]
    seconds = sum(durations) if mode == "concat" else max(durations)
    return (math.ceil(seconds * FPS) - 1) // 4 * 4 + 1


def video_size(height: int, width: int) -> tuple[int, int]:
    """About the area in the picture's shape: first in multiples of 16, then, of two ways to 32, the nearer one."""
    ratio = height / width
    tall = round(np.sqrt(AREA * ratio) // 8 // 2 * 2) * 8
    wide = round(np.sqrt(AREA / ratio) // 8 // 2 * 2) * 8
    ratio = tall / wide
    by_width = max(32, wide // 32 * 32)
    first = (max(32, int(by_width * ratio) // 32 * 32), by_width)
    by_height = max(32, tall // 32 * 32)
    second = (by_height, max(32, int(by_height / ratio) // 32 * 32))
    distance = [abs(one[0] - tall) + abs(one[1] - wide) for one in (first, second)]
    return first if distance[0] <= distance[1] else second


# 2. Text


def encode_text(parts: dict[str, Any], text: str) -> torch.Tensor:
    """Cleaned, padded to the full length, encoded with a mask, and the padding cut off again."""
    cleaned = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    cleaned = " ".join(cleaned.split())
    tokens = parts["tokenizer"](
        [cleaned], padding="max_length", truncation=True, max_length=TEXT_LEN, return_tensors="pt"
    )
    states = parts["text_encoder"](tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    return states[:, : int(tokens.attention_mask.sum())]


# 3. Picture and faces, all at the size of the picture as it was given


def encode_image(parts: dict[str, Any], pixels: torch.Tensor) -> torch.Tensor:
    """CLIP's states before the last layer, of pixels (3, H, W) in [-1, 1] squashed to its square."""
    square = interpolate(pixels[None], (IMAGE_SIZE, IMAGE_SIZE), mode="bicubic", align_corners=False)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    normal = (square * 0.5 + 0.5 - mean) / deviation
    return parts["image_encoder"](normal, output_hidden_states=True).hidden_states[-2]


def square(face: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a square about a face, moved into the picture; whole pixels by cutting off."""
    x, y, width, height = face
    side = max(width, height)
    edges = []
    for start, length, limit in ((x, width, size[0]), (y, height, size[1])):
        low, high = start + length / 2 - side / 2, start + length / 2 + side / 2
        if low < 0:
            low, high = 0, side
        if high > limit:
            low, high = limit - side, limit
        edges.append((int(max(0, low)), int(min(limit, high))))
    return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


def grown_mask(box: tuple[int, int, int, int], size: tuple[int, int]) -> torch.Tensor:
    """A face's square times 1.2 wide and 1.1 high; measured between first and last pixel, both of which belong to it."""
    mask = torch.zeros(size[1], size[0])
    ends = []
    for low, high, limit, factor in ((box[0], box[2] - 1, size[0], 1.2), (box[1], box[3] - 1, size[1], 1.1)):
        center, grown = (low + high) / 2, int((high - low + 1) * factor)
        ends.append((max(0, int(center - grown / 2)), min(limit - 1, int(center + grown / 2)) + 1))
    mask[ends[1][0] : ends[1][1], ends[0][0] : ends[0][1]] = 1
    return mask


def resized(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return interpolate(mask[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]


def repaint_mask(masks: list[torch.Tensor], frames: int, height: int, width: int) -> torch.Tensor:
    """Frame 0 is all ones and counts four times, later ones have the sum of the faces; four frames to a latent frame."""
    video = resized(sum(masks), height, width).repeat(frames, 1, 1)
    video[0] = 1
    video = torch.cat([video[:1].repeat(4, 1, 1), video[1:]])
    return video.view(-1, 4, height, width).transpose(0, 1)


def encode_picture(parts: dict[str, Any], pixels: torch.Tensor, frames: int, size: tuple[int, int]) -> torch.Tensor:
    """Normalised latents of the picture, bicubic and not antialiased, and grey frames after it."""
    first = interpolate(pixels[None], size, mode="bicubic").transpose(0, 1)
    video = torch.cat([first, torch.zeros(3, frames - 1, *size)], dim=1)
    latents = parts["vae"].encode(video[None]).latent_dist.mode()[0]
    mean, deviation = statistics(parts["vae"])
    return (latents - mean) / deviation


def statistics(vae: Any) -> tuple[torch.Tensor, torch.Tensor]:
    mean, deviation = torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)
    return mean[:, None, None, None], deviation[:, None, None, None]


# 4. Voices (after vocal separation, which is compared elsewhere)


def hear(parts: dict[str, Any], voice: np.ndarray, frames: int | None) -> torch.Tensor:
    """Windows of wav2vec2's layers, one a video frame, of one recording by itself.

    It is normalised first. `frames`, in mode "pad": silence follows, until there are a whole multiple of that many
    frames; each missing one takes a whole number of samples, rounded down.
    """
    samples = torch.from_numpy((voice - voice.mean()) / np.sqrt(voice.var() + 1e-7))
    count = math.ceil(len(samples) / RATE * FPS)
    if frames is not None and count % frames:
        missing = frames - count % frames
        samples = pad(samples, (0, missing * (RATE // FPS)))
        count += missing
    model = parts["wav2vec2"]
    features = interpolate(model.feature_extractor(samples[None]), size=count, align_corners=True, mode="linear")
    states = model.feature_projection(features.transpose(1, 2))[0]
    states = model.encoder.layer_norm(states + model.encoder.pos_conv_embed(states))
    layers = []
    for layer in model.encoder.layers:
        output = layer(states)
        states = output[0] if isinstance(output, tuple) else output
        layers.append(states[0])
    rows = torch.stack(layers, dim=1)
    return torch.stack([torch.stack([rows[min(max(i + j, 0), count - 1)] for j in range(-2, 3)]) for i in range(count)])


def hear_all(parts: dict[str, Any], voices: list[np.ndarray], frames: int, mode: str) -> torch.Tensor:
    """Mode "pad": the first frames of each. Mode "concat": each in the frames after the one before it, zeros around."""
    if mode == "pad":
        return torch.stack([hear(parts, voice, frames)[:frames] for voice in voices])
    heard, start = [], 0
    for voice in voices:
        own = hear(parts, voice, None)
        windows = own.new_zeros(frames, *own.shape[1:])
        stop = min(start + len(own), frames)
        windows[start:stop] = own[: stop - start]
        heard.append(windows)
        start += len(own)
    return torch.stack(heard)


# 5. Sampling


def make_sampler() -> UniPCMultistepScheduler:
    """Noise levels fall evenly from the largest of shift 5, with which the sampler is built, and are then shifted by 3."""
    largest = 1 - 1 / 1000
    largest = 5 * largest / (1 + 4 * largest)
    sampler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT, solver_order=2
    )
    sampler.set_timesteps(STEPS, sigmas=np.linspace(largest, 0, STEPS + 1)[:-1])
    return sampler


@torch.no_grad()
def run(
    parts: dict[str, Any], picture: Path, recordings: list[Path], faces: list[Any], mode: str, negative_prompt: str
) -> dict[str, torch.Tensor]:
    """All intermediates of a run, in the order in which the release makes them."""
    image = Image.open(picture).convert("RGB")
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    pixels = (pixels - 0.5) / 0.5
    voices = [read_wave(path) for path in recordings]
    frames = frame_count(voices, mode)
    height, width = video_size(image.height, image.width)
    latent = ((frames - 1) // 4 + 1, height // 8, width // 8)
    noise = tensor("noise", (16, *latent), SALT)
    made = {"prompt_embeds": encode_text(parts, PROMPT), "negative_prompt_embeds": encode_text(parts, negative_prompt)}
    made["image_embeds"] = encode_image(parts, pixels)
    condition = encode_picture(parts, pixels, frames, (height, width))
    boxes = [square(face, image.size) for face in faces]
    masks = [grown_mask(box, image.size) for box in boxes]
    made["condition"] = torch.cat([repaint_mask(masks, frames, *latent[1:]), condition])[None]
    tokens = torch.stack([resized(mask, latent[1] // 2, latent[2] // 2) for mask in masks])
    made["face_masks"] = tokens[None, :, None].repeat(1, 1, latent[0], 1, 1)
    crops = [pixels[:, top:bottom, left:right] for left, top, right, bottom in boxes]
    made["face_embeds"] = torch.stack([encode_image(parts, crop)[0] for crop in crops])[None]
    made["audio_embeds"] = hear_all(parts, voices, frames, mode)[None]
    sampler, latents = make_sampler(), noise[None]
    for step, timestep in enumerate(sampler.timesteps):

        def velocity(text: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
            return parts["transformer"](
                torch.cat([latents, made["condition"]], dim=1),  # noqa: B023
                timestep[None].float(),  # noqa: B023
                text,
                made["image_embeds"],
                made["face_embeds"],
                audio,
                made["face_masks"],
                return_dict=False,
            )[0]

        given = velocity(made["prompt_embeds"], made["audio_embeds"])
        null = velocity(made["negative_prompt_embeds"], torch.zeros_like(made["audio_embeds"]))
        guided = null + GUIDANCE * (given - null)
        latents = sampler.step(guided, timestep, latents, return_dict=False)[0]
        made[f"latents.{step}"] = latents
    mean, deviation = statistics(parts["vae"])
    decoded = parts["vae"].decode((latents[0] * deviation + mean)[None]).sample.clamp(-1, 1)
    made["frames"] = (decoded[0] + 1) / 2
    return made


def main(folder: Path, negative_prompt: str) -> None:
    written: dict[str, torch.Tensor] = {}
    facts: dict[str, Any] = {}
    picture, recordings = write_inputs(folder)
    try:
        for name, (mode, people) in CASES.items():
            parts = small_parts(LAYOUTS[mode])
            made = run(parts, picture, recordings[:people], FACES[:people], mode, negative_prompt)
            made["frames"] = made["frames"].mul(255).round().to(torch.uint8)
            shape = made["frames"].shape
            facts[name] = {"mode": mode, "people": people, "frames": shape[1], "height": shape[2], "width": shape[3]}
            for key, value in made.items():
                shared = f"all.{key}"
                if key in ("prompt_embeds", "negative_prompt_embeds", "image_embeds"):
                    written.setdefault(shared, value.contiguous())
                    assert torch.equal(written[shared], value)
                else:
                    written[f"{name}.{key}"] = value.contiguous()
    finally:
        for path in (picture, *recordings):
            path.unlink()
    save_file(written, folder / "run.safetensors")
    (folder / "run.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    prompt = Path(__file__).with_name("negative_prompt.txt").read_text(encoding="utf-8").rstrip("\n")
    main(Path(sys.argv[1]), prompt)
