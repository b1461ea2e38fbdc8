"""After the first step of a window nothing waits for the device: no value is read, nothing is copied."""

from __future__ import annotations

import pytest
import torch

from anytalker.denoising.denoiser import Conditioning, Denoiser
from anytalker.denoising.guidance import Guidance
from anytalker.loading.scheduler import make_scheduler
from tests.models.test_transformer import small_inputs, small_model
from tests.pipelines.waits import Waits

GUIDANCE = Guidance(3.0, 2.0, strengths=(0.5, 1.5), interval=(0.0, 0.7))


@pytest.mark.parametrize(
    ("layout", "changes"),
    [
        ("A", {}),
        ("B", {}),
        ("A", {"keep_contexts": False}),
        ("B", {"context_budget": 0}),
        ("A", {"guidance": Guidance(2.0, batched=True)}),
        ("B", {"guidance": Guidance(2.0, batched=True)}),
    ],
    ids=["kept-A", "kept-B", "streamed-A", "no room-B", "batched-A", "batched-B"],
)
def test_no_step_waits_after_the_first(layout: str, changes: dict) -> None:
    whole = {name: value.to("meta") for name, value in small_inputs(2, 5, height=4, width=4).items()}
    text = whole["encoder_hidden_states"]
    conditioning = Conditioning(
        condition=whole["hidden_states"][:, 16:],
        prompt_embeds=text,
        negative_prompt_embeds=text[:, :2],
        image_embeds=whole["encoder_hidden_states_image"],
        face_embeds=whole["face_embeds"],
        audio_embeds=whole["audio_embeds"],
        face_masks=whole["face_masks"],
    )
    settings = {"guidance": GUIDANCE, "window": 3, "window_overlap": 1} | changes
    denoiser = Denoiser(
        small_model(audio_face_layout=layout, num_layers=1).to("meta"), make_scheduler(3.0), 4, **settings
    )
    run = denoiser.begin(lambda start, stop: torch.empty(1, 16, stop - start, 8, 8, device="meta"), conditioning)
    waited: dict[tuple[int, int], dict[str, int]] = {}
    while run.done < run.total:
        place = run.wavefront.next_step()
        with Waits() as waits:
            run.advance()
        waited[place] = dict(waits.seen)
    windows = len(run.wavefront.windows)
    assert windows > 1
    assert all(waited[number, 0] for number in range(windows))  # faces are found, so the counter counts
    assert not any(seen for (_, step), seen in waited.items() if step not in (0, 3))  # at 3 guidance ends
