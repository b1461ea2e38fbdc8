"""Who is the same person in other clips and files, and the split that keeps everybody in one part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from anytalker.curation.config import SplitConfig
from anytalker.curation.export import KeptClip
from anytalker.data.records import Split
from anytalker.hashing import short_digest

SAME_VOICE = 0.82
"""Cosine of two voices' embeddings above which they are taken for one person's."""

_ROWS = 256
"""Voices that are compared with all before them at a time."""
_COARSE = 1e-4
"""More than a cosine in float32 is wrong by."""


class _Groups:
    """Things that turn out to be the same (union-find)."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def find(self, one: str) -> str:
        while (parent := self._parents.setdefault(one, one)) != one:
            self._parents[one] = self._parents[parent]  # half the way for the next search
            one = parent
        return one

    def join(self, one: str, other: str) -> None:
        first, second = sorted((self.find(one), self.find(other)))
        self._parents[second] = first


def name_identities(clips: Sequence[KeptClip], voices: Mapping[str, np.ndarray]) -> dict[tuple[str, int], str]:
    """An identity for everybody who speaks, by (clip, index); voices of different files that are alike are one's.

    Who is silent has none: without a network for faces, which no package brings, looks don't tell people apart.

    Args:
        clips: all kept clips.
        voices: embeddings (V, d) of each file's voices, by the file's path.
    """
    paths = sorted(path for path in voices if len(voices[path]))
    keys = [f"{path}#{number}" for path in paths for number in range(len(voices[path]))]
    names: dict[str, str] = {}
    if keys:
        files = np.repeat(np.arange(len(paths)), [len(voices[path]) for path in paths])
        groups = _alike(np.concatenate([voices[path] for path in paths]), files)
        first: dict[int, str] = {}  # of a group, by which it is named
        for key, group in sorted(zip(keys, groups.tolist(), strict=True)):
            names[key] = first.setdefault(group, key)
    return {
        (clip.name, index): short_digest(names.get(key, key))[:12]
        for clip in clips
        for index, person in enumerate(clip.persons)
        if person.voice is not None
        for key in [f"{clip.source.path}#{person.voice}"]
    }


def _alike(voices: np.ndarray, files: np.ndarray) -> np.ndarray:
    """The group (n,) of each of the voices (n, d) of the files (n,); those of one person are in the same one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    unit = voices / np.maximum(np.linalg.norm(voices, axis=1, keepdims=True), 1e-9)
    coarse = unit.astype(np.float32)  # twice as fast; only those that are near the border are computed again
    count = len(voices)
    groups = np.arange(count)
    for start in range(0, count, _ROWS):
        rows = slice(start, start + _ROWS)
        cosines = coarse[rows] @ coarse[: rows.stop].T
        near = (cosines > SAME_VOICE - _COARSE) & (files[rows, None] != files[: rows.stop])
        one, other = np.nonzero(near)
        unsure = np.flatnonzero(cosines[one, other] < SAME_VOICE + _COARSE)
        same = np.ones(len(one), dtype=bool)
        same[unsure] = np.einsum("pd,pd->p", unit[start + one[unsure]], unit[other[unsure]]) > SAME_VOICE
        # With all that are known to be alike, each as one edge: memory doesn't grow with the pairs.
        ends = np.concatenate([start + one[same], np.arange(count)]), np.concatenate([other[same], groups])
        joined = coo_array((np.ones(len(ends[0]), dtype=bool), ends), (count, count))
        labels = connected_components(joined, directed=False)[1]
        groups = np.unique(labels, return_index=True)[1][labels]
    return groups


def split_people(
    clips: Sequence[KeptClip], identities: Mapping[tuple[str, int], str], config: SplitConfig
) -> dict[str, Split]:
    """The part of the dataset that each clip goes to, by name: "train", "validation" or "test".

    People who are seen together, and all that they are seen with, go to the same part. Somebody silent may be anybody
    of the file, so all people of such a file go together. Groups are taken in an order that the seed decides; the
    largest one always trains.
    """
    groups = _Groups()
    unknown = {clip.source.path for clip in clips for person in clip.persons if person.voice is None}
    keys: dict[str, str] = {}
    for clip in clips:
        names = [identities[clip.name, index] for index in range(len(clip.persons)) if (clip.name, index) in identities]
        if clip.source.path in unknown:
            names.append(f"file {clip.source.path}")
        for name in names[1:]:
            groups.join(names[0], name)
        keys[clip.name] = names[0]
    members: dict[str, list[KeptClip]] = defaultdict(list)
    for clip in clips:
        members[groups.find(keys[clip.name])].append(clip)
    seconds = {group: sum(clip.n_frames for clip in inside) for group, inside in members.items()}
    every = sum(seconds.values())
    wanted: dict[Split, float] = {"validation": config.validation * every, "test": config.test * every}
    parts: dict[str, Split] = dict.fromkeys(members, "train")
    largest = max(seconds, key=lambda group: (seconds[group], group), default="")
    for group in sorted(members, key=lambda name: short_digest(f"{config.seed} {name}")):
        for part, room in wanted.items():
            if group != largest and room > 0 and seconds[group] <= 1.5 * room:
                parts[group], wanted[part] = part, room - seconds[group]
                break
    return {clip.name: parts[group] for group, inside in members.items() for clip in inside}
