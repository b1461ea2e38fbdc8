"""The transformer against the release's outputs, and the properties that make it scale to any number of people."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from anytalker import AnyTalkerTransformer3DModel, InputError
from anytalker.models.conversion import from_release
from anytalker.models.face_regions import FaceRegions
from anytalker.models.transformer import ConditionSkip
from tests.conftest import GOLDENS

CASES = {case["tag"]: case for case in json.loads((GOLDENS / "transformer.json").read_text())}


def small_model(**changes) -> AnyTalkerTransformer3DModel:
    config = {
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "text_dim": 8,
        "text_len": 6,
        "ffn_dim": 64,
        "num_layers": 2,
        "image_dim": 12,
        "audio_blocks": 1,
        "audio_channels": 10,
        "audio_hidden_dim": 16,
        "audio_tokens": 3,
    } | changes
    torch.manual_seed(1)
    return AnyTalkerTransformer3DModel(**config).eval()


def small_inputs(persons: int = 2, frames: int = 3, batch: int = 1, height: int = 4, width: int = 6) -> dict:
    torch.manual_seed(2)
    masks = torch.zeros(batch, persons, frames, height, width)
    for person in range(persons):
        left = person * width // max(persons, 1)
        masks[:, person, :, 1:3, left : left + 2] = torch.rand(batch, frames, 2, min(2, width - left))
    return {
        "hidden_states": torch.randn(batch, 36, frames, 2 * height, 2 * width),
        "timestep": torch.full((batch,), 500.0),
        "encoder_hidden_states": torch.randn(batch, 4, 8),
        "encoder_hidden_states_image": torch.randn(batch, 5, 12),
        "face_embeds": torch.randn(batch, persons, 5, 12),
        "audio_embeds": torch.randn(batch, persons, 4 * (frames - 1) + 1, 5, 1, 10),
        "face_masks": masks,
    }


def run(model: AnyTalkerTransformer3DModel, inputs: dict) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs, return_dict=False)[0]


@pytest.mark.parametrize("tag", CASES)
def test_equals_the_release(tag: str, recipe, error) -> None:
    case = CASES[tag]
    layout = "layout_b" if case["config"].get("legacy_audio_cross_attn") else "layout_a"
    shapes = json.loads((GOLDENS / "transformer_shapes.json").read_text())[layout]
    weights = {key: recipe.weight(key, shape, case["salt"]) for key, shape in shapes.items()}
    model = from_release(weights, case["config"])
    frames, height, width = (case["frames"] - 1) // 4 + 1, case["latent_height"], case["latent_width"]
    persons = case["persons"]

    def make(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return recipe.tensor(name, shape, case["salt"])

    masks = torch.zeros(persons, height // 2, width // 2)
    for i in range(persons):
        columns = slice(i * (width // 2) // persons, (i + 1) * (width // 2) // persons)
        soft = torch.sigmoid(make(f"face_mask.{i}", (height // 2, width // 2)))
        masks[i, 1:-1, columns] = soft[1:-1, columns]
    audio = torch.stack([make(f"audio_embeds.{i}", (case["frames"], 5, 12, 768)) for i in range(persons)])
    inputs = {
        "hidden_states": torch.cat(
            [make("latents", (16, frames, height, width)), make("condition", (20, frames, height, width))]
        )[None],
        "timestep": torch.tensor([case["timestep"]]),
        "encoder_hidden_states": make("prompt_embeds", (case["text_tokens"], 32))[None],
        "encoder_hidden_states_image": make("image_embeds", (1, 257, 1280)),
        "face_embeds": torch.cat([make(f"face_embeds.{i}", (1, 257, 1280)) for i in range(persons)])[None],
        "audio_embeds": audio[None] * (0 if case["null_audio"] else 1),
        "face_masks": masks[None, :, None].expand(-1, -1, frames, -1, -1),
    }
    golden = load_file(GOLDENS / "transformer.safetensors")[tag]
    for backend in ("dense", "sparse"):
        model.set_audio_face_backend(backend)
        assert error(run(model, inputs)[0], golden) <= 1e-5, backend


@pytest.mark.parametrize("layout", ["A", "B"])
@pytest.mark.parametrize("persons", [1, 2, 3, 5])
@pytest.mark.parametrize("frames", [1, 2, 4, 21])
def test_sparse_equals_dense_with_gradients(layout: str, persons: int, frames: int, error) -> None:
    inputs = small_inputs(persons, frames, batch=2)
    inputs["face_masks"][:, 0] = 0.3
    inputs["face_masks"][1, -1] = 0
    results = {}
    for backend in ("dense", "sparse"):
        model = small_model(audio_face_layout=layout, audio_dim=12)
        model.set_audio_face_backend(backend)
        velocity = model(**inputs, return_dict=False)[0]
        velocity.square().mean().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        results[backend] = (velocity.detach(), torch.cat([g.flatten() for g in gradients]))
    assert error(results["sparse"][0], results["dense"][0]) <= 1e-5
    assert error(results["sparse"][1], results["dense"][1]) <= 1e-5


@pytest.mark.parametrize("layout", ["A", "B"])
def test_a_context_made_once_gives_the_same_numbers(layout: str) -> None:
    model, inputs = small_model(audio_face_layout=layout), small_inputs(3, batch=2)
    moving = {key: inputs[key] for key in ("hidden_states", "timestep")}
    still = {key: value for key, value in inputs.items() if key not in moving}
    with torch.no_grad():
        context = model.make_context(**still)
    assert torch.equal(run(model, moving | {"context": context}), run(model, inputs))
    with pytest.raises(InputError, match="needs text"):
        run(model, moving)
    with pytest.raises(InputError, match="latent frames"):
        run(model, {"hidden_states": torch.randn(2, 36, 5, 8, 12), "timestep": moving["timestep"], "context": context})


@pytest.mark.parametrize("layout", ["A", "B"])
def test_few_face_tokens_and_soft_overlapping_masks(layout: str, error) -> None:
    model, inputs = small_model(audio_face_layout=layout, audio_tokens=8), small_inputs(2)
    torch.manual_seed(3)
    inputs["face_masks"] = torch.rand(1, 2, 3, 4, 6)
    sparse = run(model, inputs)
    model.set_audio_face_backend("dense")
    assert error(sparse, run(model, inputs)) <= 1e-5


@pytest.mark.parametrize("layout", ["A", "B"])
def test_permuting_people_changes_nothing(layout: str, error) -> None:
    model, inputs = small_model(audio_face_layout=layout), small_inputs(3)
    order = [2, 0, 1]
    permuted = inputs | {key: inputs[key][:, order] for key in ("face_embeds", "audio_embeds", "face_masks")}
    assert error(run(model, permuted), run(model, inputs)) <= 1e-6


@pytest.mark.parametrize("layout", ["A", "B"])
def test_a_person_with_an_empty_mask_changes_nothing_at_all(layout: str) -> None:
    model, inputs = small_model(audio_face_layout=layout), small_inputs(2)
    more = small_inputs(3)
    extended = dict(inputs)
    for key in ("face_embeds", "audio_embeds", "face_masks"):
        extended[key] = torch.cat(
            [inputs[key], torch.zeros_like(more[key][:, :1]) if "mask" in key else more[key][:, :1]], 1
        )
    assert torch.equal(run(model, extended), run(model, inputs))


@pytest.mark.parametrize("layout", ["A", "B"])
def test_a_voice_reaches_only_its_own_mask_within_a_block(layout: str) -> None:
    model, inputs = small_model(num_layers=1, audio_face_layout=layout), small_inputs(2)
    changed = inputs | {"audio_embeds": inputs["audio_embeds"].clone()}
    changed["audio_embeds"][:, 1] += 1.0
    difference = (run(model, changed) - run(model, inputs)).abs().amax(dim=1)
    reach = torch.nn.functional.interpolate((inputs["face_masks"][:, 1] > 0).float(), scale_factor=2)
    assert difference[reach == 1].min() > 0
    assert difference[reach == 0].max() == 0


def test_a_later_frame_hears_only_its_own_four_video_frames() -> None:
    model, inputs = small_model(num_layers=1), small_inputs(1, frames=4)
    changed = inputs | {"audio_embeds": inputs["audio_embeds"].clone()}
    changed["audio_embeds"][:, :, 5:9] += 1.0
    difference = (run(model, changed) - run(model, inputs)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[0] > 0
    assert difference[2] > 0
    assert difference[1] == 0
    assert difference[3] == 0


def test_a_batch_equals_its_samples(error) -> None:
    model, inputs = small_model(), small_inputs(2, batch=3)
    together = run(model, inputs)
    for index in range(3):
        alone = run(model, {key: value[index : index + 1] for key, value in inputs.items()})
        assert error(alone[0], together[index]) <= 1e-5


def test_gradient_checkpointing_gives_the_same_gradients(error) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = small_model().train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        model(**small_inputs(), return_dict=False)[0].square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert error(gradients[1], gradients[0]) <= 1e-6


def test_training_computes_the_same_as_inference(error) -> None:
    model, inputs = small_model(), small_inputs()
    given = run(model, inputs)
    assert error(run(model.train(), inputs), given) <= 1e-6


def test_faces_of_many_sizes_have_few_shapes_in_training() -> None:
    def places(side: int, multiple: int) -> tuple[int, ...]:
        masks = torch.zeros(1, 1, 2, 9, 9)
        masks[..., :side, :side] = 1
        regions = FaceRegions(masks, multiple)
        states = torch.zeros(1, 2 * 81, 4)
        added = regions.add_(states, torch.ones_like(regions.gather(states, 0)), 0)
        assert torch.equal(added[..., 0].view(2, 9, 9), masks[0, 0])
        return tuple(regions.gather(states, 0).shape)

    assert len({places(side, 1) for side in range(1, 10)}) == 9
    assert sorted(places(side, 32)[2] for side in range(1, 10)) == [32] * 5 + [64] * 3 + [81]


def test_saved_and_loaded_is_the_same(tmp_path) -> None:
    model, inputs = small_model(), small_inputs()
    model.save_pretrained(tmp_path)
    loaded = AnyTalkerTransformer3DModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(run(loaded, inputs), run(model, inputs), rtol=1e-5, atol=1e-5)


def test_audio_of_the_wrong_length_is_refused() -> None:
    inputs = small_inputs()
    inputs["audio_embeds"] = inputs["audio_embeds"][:, :, :-1]
    with pytest.raises(InputError, match=r"8 video frames.*3 latent frames need 9"):
        run(small_model(), inputs)


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(InputError, match="dense, sparse"):
        small_model().set_audio_face_backend("fast")


def test_a_model_of_deviations_leaves_a_perfect_picture_alone() -> None:
    inputs = small_inputs(batch=2)
    condition = inputs["hidden_states"][:, -16:]
    deviation, noise, sigma = 0.3 * torch.randn_like(condition), torch.randn_like(condition), torch.tensor([0.2, 0.9])
    level = sigma.view(-1, 1, 1, 1, 1)
    noisy = (1 - level) * (condition + deviation) + level * noise
    states = torch.cat([noisy, inputs["hidden_states"][:, 16:]], dim=1)
    skip = ConditionSkip(states, 1000 * sigma, 16, 0.3)
    assert skip.hidden_states[:, :16].std() == pytest.approx(1.0, abs=0.1)
    torch.testing.assert_close(skip.hidden_states[:, 16:], inputs["hidden_states"][:, 16:])
    ideal = (noise - deviation - skip.share * skip.noisy) / skip.scale
    assert ideal.std() == pytest.approx(1.0, abs=0.1)
    torch.testing.assert_close(skip.velocity(ideal), noise - condition - deviation, atol=1e-5, rtol=1e-5)
    plain, deviating = small_model(), small_model(condition_skip=0.3)
    deviating.load_state_dict(plain.state_dict())
    assert not torch.allclose(run(plain, inputs), run(deviating, inputs))
