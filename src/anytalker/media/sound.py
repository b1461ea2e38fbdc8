"""Recordings of any length that take little memory: long ones lie in a temporary file, read where it is needed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np

IN_MEMORY = 2**20
"""Samples up to which a recording is kept in memory: a minute."""
_AT_ONCE = 2**20


@runtime_checkable
class Samples(Protocol):
    """What is encoded part by part: samples (samples,) or (samples, channels) that are read in slices."""

    dtype: np.dtype
    ndim: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples,) or (samples, channels)."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice) -> np.ndarray: ...


class Sound:
    """A recording placed on a clock, with silence around it; can be sliced and converted like an array.

    Args:
        samples: float32 (samples,).
        in_memory: samples up to which they are not put on disk.
    """

    dtype, ndim = np.dtype(np.float32), 1

    def __init__(self, samples: np.ndarray, in_memory: int = IN_MEMORY) -> None:
        self._count, self._start, self._length = len(samples), 0, len(samples)
        self._samples: np.ndarray | None = samples
        self._file: IO[bytes] | None = None
        self._reading: Lock | None = None
        if len(samples) > in_memory:
            self._reading = Lock()
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it has no name and goes with the last reference
            samples.tofile(self._file)
            self._samples = None

    @classmethod
    def of(cls, samples: np.ndarray | Sound) -> Sound:
        """`samples` as a sound, or itself."""
        return samples if isinstance(samples, Sound) else cls(samples)

    @classmethod
    def joined(cls, parts: Iterable[np.ndarray], in_memory: int = IN_MEMORY) -> Sound:
        """Parts (samples,) one after another, never all in memory if they are more than `in_memory` samples."""
        file, count = tempfile.TemporaryFile(), 0  # noqa: SIM115 - it has no name and goes with the last reference
        for part in parts:
            file.write(np.ascontiguousarray(part, np.float32).data)
            count += len(part)
        sound = cls(np.zeros(0, np.float32))
        sound._samples, sound._file, sound._count, sound._length = None, file, count, count
        sound._reading = Lock()
        return cls(sound[:]) if count <= in_memory else sound

    def placed(self, start: int, length: int) -> Sound:
        """The same recording, beginning at sample `start` of `length` samples; what is beyond them is cut off."""
        sound = object.__new__(Sound)
        sound._samples, sound._file, sound._count = self._samples, self._file, self._count
        sound._reading = self._reading
        sound._start, sound._length = self._start + start, length
        return sound

    @property
    def start(self) -> int:
        """At which sample the recording begins."""
        return self._start

    @property
    def recording(self) -> Sound:
        """The recording itself, from its first sample to its last, wherever it was placed."""
        return self.placed(-self._start, self._count)

    def __len__(self) -> int:
        return self._length

    @property
    def shape(self) -> tuple[int]:
        """(samples,)."""
        return (self._length,)

    def __getitem__(self, part: slice) -> np.ndarray:
        """A part without a step, float32 (samples,); a copy."""
        start, stop, _ = part.indices(self._length)
        samples = np.zeros(max(0, stop - start), dtype=np.float32)
        first, last = max(start, self._start), min(stop, self._start + self._count)
        if first < last:
            samples[first - start : last - start] = self._read(first - self._start, last - self._start)
        return samples

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def _read(self, start: int, stop: int) -> np.ndarray:
        if self._file is None:
            assert self._samples is not None
            return self._samples[start:stop]
        assert self._reading is not None
        with self._reading:  # a thread that encodes reads what another one listens to
            self._file.seek(4 * start)
            data = self._file.read(4 * (stop - start))
        return np.frombuffer(data, dtype=np.float32)


class Mixture:
    """All voices together, made quieter only where they would clip; computed for the parts that are asked for.

    Args:
        streams: float32 (samples,), all of the same length.
    """

    dtype, ndim = np.dtype(np.float32), 1

    def __init__(self, streams: Sequence[np.ndarray | Sound]) -> None:
        self.streams = streams
        starts = range(0, len(self), _AT_ONCE)
        peaks = [float(np.abs(self._sum(slice(start, start + _AT_ONCE))).max(initial=0.0)) for start in starts]
        self._scale = max([1.0, *peaks])

    def __len__(self) -> int:
        return len(self.streams[0])

    @property
    def shape(self) -> tuple[int]:
        """(samples,)."""
        return (len(self),)

    def __getitem__(self, part: slice) -> np.ndarray:
        """The mix of a part, float32 (samples,)."""
        return (self._sum(part) / self._scale).astype(np.float32)

    def _sum(self, part: slice) -> np.ndarray:
        summed = np.array(self.streams[0][part])
        for stream in self.streams[1:]:
            summed += stream[part]
        return summed
