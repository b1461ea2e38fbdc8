"""Where people's faces are among the video tokens: what sparse Audio-Face Cross Attention reads and writes."""

from __future__ import annotations

import copy
import math

import torch


def people_present(face_masks: torch.Tensor) -> list[int]:
    """Indices of the people whose mask (B, N, f, h, w) is not empty; the others take no part in anything."""
    return (face_masks != 0).flatten(2).any(dim=2).any(dim=0).nonzero().flatten().tolist()


class FaceRegions:
    """For every person the places of the token grid that the face mask reaches in any frame, found once a window.

    Finding them waits for the device; using them doesn't.

    Args:
        face_masks: (B, N, f, h, w) in [0, 1], none of them empty.
        multiple: numbers of places are rounded up to multiples of it, or to the whole grid, by places where the mask is
            zero: batches whose faces differ in size then have the same few shapes, which compiled blocks need.
        present: which people of a larger number these are; None: all.
    """

    def __init__(self, face_masks: torch.Tensor, multiple: int = 1, present: list[int] | None = None) -> None:
        self.face_masks = face_masks
        self.present = list(range(face_masks.shape[1])) if present is None else present
        weights = face_masks.flatten(3)
        reached = (weights != 0).any(dim=2)
        order = reached.int().argsort(dim=-1, descending=True, stable=True)
        self._places: list[torch.Tensor] = []
        self._weights: list[torch.Tensor] = []
        for person, needed in enumerate(reached.sum(dim=-1).amax(dim=0).tolist()):
            count = min(multiple * math.ceil(needed / multiple), weights.shape[-1])
            places = order[:, person, None, :count].expand(-1, weights.shape[2], -1)
            self._weights.append(weights[:, person].gather(2, places)[..., None])
            self._places.append(places[..., None])

    @property
    def people(self) -> range:
        """Indices of the people."""
        return range(len(self._places))

    def without_data(self) -> FaceRegions:
        """The same places on the meta device, where tensors have shapes and nothing more."""
        regions = copy.copy(self)
        regions._places = [places.to("meta") for places in self._places]
        regions._weights = [weights.to("meta") for weights in self._weights]
        return regions

    def gather(self, states: torch.Tensor, person: int) -> torch.Tensor:
        """A person's places of (B, f·h·w, dim): (B, f, places, dim)."""
        places = self._places[person]
        return states.unflatten(1, (places.shape[1], -1)).gather(2, places.expand(-1, -1, -1, states.shape[-1]))

    def add_(
        self, states: torch.Tensor, update: torch.Tensor, person: int, weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Add, in place, `update` times the person's mask to those places of `states`.

        Args:
            states: (B, f·h·w, dim), changed and returned.
            update: (B, f, places, dim).
            person: index.
            weight: a matrix (dim, dim) that the masked update goes through first, as in a linear layer.
        """
        places = self._places[person]
        update = update * self._weights[person].to(update)
        if weight is not None:
            update = torch.nn.functional.linear(update, weight)
        grid = states.unflatten(1, (places.shape[1], -1))
        grid.scatter_add_(2, places.expand(-1, -1, -1, states.shape[-1]), update.to(states.dtype))
        return states
