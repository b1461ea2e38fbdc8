"""Sharp borders and overlaps: a small network learns this recording's voices, alone and two at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations

import numpy as np
import torch
from scipy.ndimage import uniform_filter1d
from torch import nn

from anytalker.diarization.voice_activity import SAMPLE_RATE
from anytalker.media.sound import Samples

STEP = 0.02
"""Seconds of a frame whose speakers are told."""
_HOP, _WINDOW, _TRANSFORM, _BANDS, _HIDDEN = 320, 800, 1024, 64, 64
"""Of spectra: samples from one to the next, of a window, of the transform; mel bands, and channels of the network."""
_PIECE, _CONTEXT = 3000, 25
"""Frames that are told at a time, a minute, and those around them that the network sees."""
_SURE, _UNSURE, _APART, _LEAST_FRAMES = 0.9, 0.1, 10, 25
"""Of an example: least probability of its speaker, most of any other within so many frames; and fewest frames."""
_MOST_EXAMPLES = 3000
"""Frames of each speaker that the network learns from."""
_STEPS, _BATCH, _LENGTH, _RATE = 200, 24, 64, 6e-3
"""Of training: steps, examples a step, frames of an example, and the highest learning rate."""
_ALONE, _CHANGES = 0.45, 0.3
"""Shares of examples with one speaker, and with one after another; in the others, two speak at once."""
_PRIOR, _SWITCH, _SWITCH_IN_SILENCE = 0.5, 6.7, 0.8
"""Weight of what windows say of a frame, and what a change of speakers costs in speech and in silence, in nats."""
_QUIET = 1e-8
"""Added to power before its logarithm."""
_DOUBT, _DOUBT_FRAMES, _NEVER = -2.2, 15, -8.0
"""Logarithm of the odds, averaged over frames, from which on a second speaker may be there: a probability of 0.1; and
what stands for none."""


def sharpen(
    sound: np.ndarray | Samples,
    spans: list[tuple[float, float]],
    times: np.ndarray,
    belief: np.ndarray,
    clear: np.ndarray,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Who speaks in each frame, from what is believed of windows of more than a second.

    A convolutional network learns to tell the speakers of this one recording apart in half a second of its spectra.
    Its examples are frames in which one speaker is certain, and sums of two speakers' frames, in which both speak. The
    most likely sequence (Viterbi) of one or two speakers at a time, with few changes, is the answer. In loud noise the
    network isn't asked, and one speaks at a time.

    Args:
        sound: (samples,) at 16 kHz.
        spans: where there is speech, [start, end) in seconds.
        times: [start, end) in seconds of windows (W, 2).
        belief: probabilities (W, speakers).
        clear: which windows (W,) are free of loud noise.

    Yields:
        A first frame, whether each speaker speaks (speakers, frames) from there on, and who else may speak (frames,),
        −1 where nobody; pieces in order of time.
    """
    split = np.concatenate([belief * clear[:, None], belief * ~clear[:, None]], axis=1)
    pieces = [(first, *_evidence(first, last, spans, times, split)) for first, last in _pieces(spans)]
    examples = {speaker: _examples(pieces, speaker) for speaker in range(belief.shape[1])}
    heard = [speaker for speaker, runs in examples.items() if runs]
    network = _learn(sound, [examples[speaker] for speaker in heard]) if len(heard) > 1 else None
    for first, prior, speech, noisy in pieces:
        active, maybe = np.zeros(prior.shape, dtype=bool), np.full(len(speech), -1)
        if network is None:
            active[heard] = speech
        else:
            context = _spectra(sound, first - _CONTEXT, first + len(speech) + _CONTEXT)
            with torch.inference_mode():
                scores = network(context)[:, _CONTEXT:-_CONTEXT].numpy()
            second = np.where(speech & ~noisy, np.sort(scores, axis=0)[-2], _NEVER)
            doubtful = uniform_filter1d(np.maximum(second, _NEVER), _DOUBT_FRAMES) > _DOUBT
            likely = uniform_filter1d(scores, _DOUBT_FRAMES, axis=1)
            scores[:, noisy] = 0
            active[heard] = _decode(scores, prior[heard], speech)
            order = np.lexsort((likely, active[heard]), axis=0)
            maybe[doubtful] = np.array(heard)[order[-2]][doubtful]
        yield first, active, maybe


def _pieces(spans: list[tuple[float, float]]) -> Iterator[tuple[int, int]]:
    """Frames [first, last) that end in silence after about a minute."""
    first = round(spans[0][0] / STEP)
    for (_, end), following in zip(spans, [*spans[1:], None], strict=True):
        last = round(end / STEP)
        if following is None or round(following[1] / STEP) - first > _PIECE:
            yield first, last
            first = round(following[0] / STEP) if following else last


def _evidence(
    first: int, last: int, spans: list[tuple[float, float]], times: np.ndarray, split: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (speakers, T) by the windows around each frame, the nearest most; where there is speech, and noise.

    `split` holds probabilities of windows, those that are clear and those that aren't apart (W, 2 · speakers).
    """
    votes, speech = np.zeros((split.shape[1], last - first), np.float32), np.zeros(last - first, dtype=bool)
    for start, end in spans:
        speech[max(0, round(start / STEP) - first) : max(0, round(end / STEP) - first)] = True
    near = np.flatnonzero((times[:, 1] > first * STEP) & (times[:, 0] < last * STEP))
    for index in near:
        start, end = round(times[index, 0] / STEP), round(times[index, 1] / STEP)
        weight = 1.01 - np.abs(np.linspace(-1, 1, end - start))
        inside = slice(max(0, first - start), max(0, last - start))
        weight = weight[inside]
        begin = max(0, start - first)
        votes[:, begin : begin + len(weight)] += split[index][:, None] * weight
    clear, noisy = np.split(votes / np.maximum(votes.sum(axis=0), 1e-9), 2)
    return clear + noisy, speech, noisy.sum(axis=0) > clear.sum(axis=0)


class _Network(nn.Module):
    """Half a second of spectra to a score for each speaker."""

    def __init__(self, mean: torch.Tensor, deviation: torch.Tensor, speakers: int) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation
        layers: list[nn.Module] = []
        for channels, dilation in ((_BANDS, 1), (_HIDDEN, 2), (_HIDDEN, 4)):
            layers += [nn.Conv1d(channels, _HIDDEN, 5, padding=2 * dilation, dilation=dilation), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv1d(_HIDDEN, speakers, 1))

    def forward(self, power: torch.Tensor) -> torch.Tensor:
        """Scores (..., speakers, T) of mel power (..., T, 64)."""
        levels = ((power + _QUIET).log() - self.mean) / self.deviation
        return self.layers(levels.transpose(-1, -2))


def _learn(sound: np.ndarray | Samples, examples: list[list[tuple[int, int]]]) -> _Network:
    """Train on frames [first, last) of each speaker."""
    frames = [torch.cat([_spectra(sound, first, last) for first, last in runs]) for runs in examples]
    quiet = torch.cat(frames).quantile(0.02, dim=0)
    levels = (torch.cat(frames) + _QUIET).log()
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(0)
        rng = np.random.default_rng(0)
        network = _Network(levels.mean(dim=0), levels.std(dim=0) + 1e-3, len(frames))
        optimizer = torch.optim.Adam(network.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, _STEPS)
        for _ in range(_STEPS):
            power, active = _batch(rng, frames, quiet)
            loss = nn.functional.binary_cross_entropy_with_logits(network(power), active)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def _examples(pieces: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]], speaker: int) -> list[tuple[int, int]]:
    """Frames [first, last) in which one speaker is certain and no other near, or else likelier than others."""
    for sure in (True, False):
        runs: list[tuple[int, int]] = []
        for first, prior, speech, noisy in pieces:
            alone = speech & ~(noisy & sure) & (prior.argmax(axis=0) == speaker)
            if sure:
                others = speech & (np.delete(prior, speaker, axis=0).max(axis=0, initial=0) > _UNSURE)
                near = np.convolve(others, np.ones(2 * _APART + 1), "same")[: len(others)] > 0
                alone = alone & (prior[speaker] > _SURE) & ~near
            edges = first + np.flatnonzero(np.diff(np.concatenate([[False], alone, [False]]).astype(np.int8)))
            runs += list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
        if sum(last - first for first, last in runs) >= _LEAST_FRAMES:
            break
    parts = [(a, min(b, a + _LENGTH)) for first, b in runs for a in range(first, b, _LENGTH)]
    chosen = np.linspace(0, len(parts) - 1, min(len(parts), _MOST_EXAMPLES // _LENGTH)).astype(int)
    return [parts[index] for index in chosen]


def _batch(
    rng: np.random.Generator, frames: list[torch.Tensor], quiet: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mel power (B, T, 64) of one speaker, of one after another, or of two at once, and who speaks (B, speakers, T)."""
    moment = np.arange(_LENGTH)
    kind = rng.random(_BATCH)
    start = np.where(kind < _ALONE, _LENGTH, rng.integers(0, _LENGTH - 8, _BATCH))
    changes = (kind >= _ALONE) & (kind < _ALONE + _CHANGES)
    until = np.where(changes, np.clip(start + rng.normal(0, 12, _BATCH), 8, _LENGTH), _LENGTH).astype(int)
    length = np.where(changes, _LENGTH, rng.integers(8, _LENGTH, _BATCH))
    first = torch.from_numpy((moment < until[:, None]).astype(np.float32))
    second = torch.from_numpy(((moment >= start[:, None]) & (moment < (start + length)[:, None])).astype(np.float32))
    power, active = torch.empty(_BATCH, _LENGTH, _BANDS), torch.zeros(_BATCH, len(frames), _LENGTH)
    for row in range(_BATCH):
        one, other = rng.permutation(len(frames))[:2].tolist()
        gain = 10 ** (rng.normal(0, 3) / 10)
        silence = quiet * (1 - torch.maximum(first[row], second[row]))[:, None]
        voices = _crop(rng, frames[one]) * first[row, :, None] + gain * _crop(rng, frames[other]) * second[row, :, None]
        power[row] = (voices + silence) * 10 ** (rng.normal(0, 2) / 10)
        active[row, one], active[row, other] = first[row], second[row]
    return power, active


def _crop(rng: np.random.Generator, frames: torch.Tensor) -> torch.Tensor:
    start = int(rng.integers(max(1, len(frames) - _LENGTH)))
    return frames[(start + np.arange(_LENGTH)) % len(frames)]


def _decode(scores: np.ndarray, prior: np.ndarray, speech: np.ndarray) -> np.ndarray:
    """The most likely sequence of one or two speakers (speakers, T)."""
    yes, no = -np.logaddexp(0, -scores), -np.logaddexp(0, scores)
    known = np.log(prior + 0.02)
    speakers = range(len(scores))
    states = [*((one,) for one in speakers), *combinations(speakers, 2)]
    members = np.array([[speaker in state for speaker in speakers] for state in states], dtype=float)
    values = members @ yes + (1 - members) @ no + _PRIOR * (members / members.sum(axis=1, keepdims=True)) @ known
    values[:, ~speech] = 0
    cost = np.where(speech, _SWITCH, _SWITCH_IN_SILENCE)
    best, came = values[:, 0].copy(), np.zeros((len(speech), len(states)), np.int16)
    for t in range(1, len(speech)):
        top = int(best.argmax())
        moved = best[top] - cost[t]
        came[t] = np.where(best >= moved, np.arange(len(states)), top)
        best = np.maximum(best, moved) + values[:, t]
    state, active = int(best.argmax()), np.zeros(scores.shape, dtype=bool)
    for t in range(len(speech) - 1, -1, -1):
        active[list(states[state]), t] = speech[t]
        state = int(came[t, state])
    return active


def _spectra(sound: np.ndarray | Samples, first: int, last: int) -> torch.Tensor:
    """Mel power (last − first, 64) of frames, silence beyond both ends."""
    margin = (_TRANSFORM - _HOP) // 2
    start, stop = first * _HOP - margin, last * _HOP + margin
    samples = np.asarray(sound[max(0, start) : max(0, stop)], dtype=np.float32)
    samples = np.pad(samples, (max(0, -start), stop - max(0, start) - len(samples)))
    spectra = torch.stft(
        torch.from_numpy(samples),
        _TRANSFORM,
        _HOP,
        _WINDOW,
        torch.hann_window(_WINDOW),
        center=False,
        return_complex=True,
    )
    return spectra.abs().square().T @ _filters()


@cache
def _filters() -> torch.Tensor:
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(_TRANSFORM // 2 + 1, _BANDS, 60.0, 7600.0, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(np.asarray(bank, dtype=np.float32))
