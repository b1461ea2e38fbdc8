"""Who speaks when: error rates on conversations of drawn people whose voices nothing was tuned on, and on recordings.

    python benchmarks/diarization.py                          # 50 conversations of two to four people
    python benchmarks/diarization.py --count 10 --seed 200 --tuning
    python benchmarks/diarization.py --mix A.wav B.wav --mix C.wav D.wav

A conversation has 22 to 34 s for each person, turns with gaps, interruptions and replies at real rates, one noisy
room and microphone for all, and voices 4 dB apart. `--mix` adds recordings of one voice each together; the truth is
where each is loud. The diarisation error has no collar, and overlapped speech counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anytalker.conditioning.timeline import speaking_spans
from anytalker.diarization.diarize import assign_speakers, listen
from anytalker.diarization.turns import DiarizationError, Turn, diarization_error
from anytalker.media.recordings import SAMPLE_RATE, combine, load_audio, mix
from anytalker.miniature.voices.augmentation import augment
from anytalker.miniature.voices.conversation import random_conversation, random_speakers

FIRST_SEED = 7_000_000


@dataclass(frozen=True)
class Result:
    """One recording's errors, with the number of people known and found out."""

    people: int
    seconds: float
    overlapped: float
    known: DiarizationError
    unknown: DiarizationError
    found: int
    took: float


def drawn(seed: int, held_out: bool) -> tuple[np.ndarray, list[Turn]]:
    """A conversation's sound and truth."""
    rng = np.random.default_rng(seed)
    people = 2 + seed % 3
    speakers = random_speakers(rng, people, held_out)
    talk = random_conversation(rng, speakers, float(rng.uniform(22, 34)) * people)
    return augment(talk.streams.sum(axis=0), rng), truth_of(list(talk.streams))


def truth_of(streams: list[np.ndarray]) -> list[Turn]:
    """Where each stream is loud."""
    return [Turn(who, *span) for who, stream in enumerate(streams) for span in speaking_spans(stream)]


def overlapped(turns: list[Turn]) -> float:
    """Share of the time with speech in which two or more speak."""
    edges = np.unique([moment for turn in turns for moment in turn[1:]])
    count = sum(((edges[:-1] >= turn.start) & (edges[:-1] < turn.end)).astype(int) for turn in turns)
    lengths = np.diff(edges)
    return float(lengths[count > 1].sum() / lengths[count > 0].sum())


def judge(sound: np.ndarray, truth: list[Turn]) -> Result:
    """Diarise a recording twice."""
    people = len({turn.speaker for turn in truth})
    start = time.perf_counter()
    heard = listen(sound)
    unknown = assign_speakers(heard)
    took = time.perf_counter() - start
    known = assign_speakers(heard, num_speakers=people)
    errors = diarization_error(truth, known.turns), diarization_error(truth, unknown.turns)
    return Result(people, len(sound) / SAMPLE_RATE, overlapped(truth), *errors, unknown.num_speakers, took)


def row(name: str, results: list[Result]) -> str:
    """One line of the table; errors are weighted by the seconds of speech."""

    def mean(errors: list[DiarizationError]) -> str:
        weights = [error.seconds for error in errors]
        parts = [(e.rate, e.missed, e.false_alarm, e.confusion) for e in errors]
        return " | ".join(f"{100 * value:.1f}" for value in np.average(parts, axis=0, weights=weights))

    right = np.mean([result.found == result.people for result in results])
    speed = sum(result.seconds for result in results) / sum(result.took for result in results)
    share = np.mean([result.overlapped for result in results])
    known, unknown = mean([result.known for result in results]), mean([result.unknown for result in results])
    numbers = f"{100 * share:.1f} | {known} | {unknown} | {100 * right:.0f} | {speed:.0f}"
    return f"| {name} | {len(results)} | {numbers} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=FIRST_SEED)
    parser.add_argument("--tuning", action="store_true", help="voices of the half that thresholds were chosen on")
    parser.add_argument("--mix", nargs="+", type=Path, action="append", default=[], metavar="WAV")
    parser.add_argument("--each", action="store_true", help="a line for every recording")
    options = parser.parse_args()
    parts = ("DER", "missed", "false", "confused")
    columns = ["recordings", "", "overlap %", *(f"{p} %, known" for p in parts), *(f"{p} %, not" for p in parts)]
    print("| " + " | ".join([*columns, "number right %", "times real time"]) + " |")
    print("|---" * (len(columns) + 2) + "|")
    results: list[Result] = []
    for name, sound, truth in recordings(options):
        results.append(judge(sound, truth))
        if options.each or options.mix:
            last = results[-1]
            print(row(f"{name} ({last.people} people, {last.found} found)", [last]), flush=True)
    for people in sorted({result.people for result in results}):
        print(row(f"{people} people", [result for result in results if result.people == people]))
    print(row("all", results))


def recordings(options: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, list[Turn]]]:
    """Names, sounds and truths."""
    for files in options.mix:
        streams = [sound[:] for sound in combine([load_audio(file) for file in files], "pad")]
        yield " + ".join(file.stem for file in files), mix(streams), truth_of(streams)
    for seed in range(options.seed, options.seed + options.count) if not options.mix else ():
        yield str(seed), *drawn(seed, not options.tuning)


if __name__ == "__main__":
    main()
