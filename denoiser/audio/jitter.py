"""Buffer of samples between two sound devices that have different clocks."""

import threading
from dataclasses import dataclass

import numpy as np


@dataclass
class JitterBuffer:
    """Queue of samples ``[n]`` that adjusts its length, so that it stays as short as both devices allow.

    It gives silence until it holds ``block`` samples more than are asked for. Where samples are missing, it gives
    silence in their place, which makes the queue longer. If more than ``block`` samples were left at every call for
    ``window`` samples, the excess is dropped; if nothing is taken for ``window`` samples, all but ``block`` are
    dropped. ``lost`` counts the gaps and the drops.
    """

    block: int
    window: int
    lost: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._samples = np.zeros(0, np.float32)
        self._has_begun = False
        self._taken = 0
        self.least = 0  # samples that were left over each time

    def put(self, samples: np.ndarray) -> None:
        """Append samples."""
        with self._lock:
            self._samples = np.concatenate([self._samples, samples])
            if len(self._samples) > self.window + self.block:
                self._samples = self._samples[-self.block :]
                self.lost += 1

    def clear(self) -> None:
        """Drop all samples, and begin anew."""
        with self._lock:
            self._samples = self._samples[:0]
            self._has_begun = False
            self._taken = self.least = 0

    def take(self, count: int) -> np.ndarray:
        """Return the next ``[count]`` samples."""
        with self._lock:
            if not self._has_begun:
                if len(self._samples) < count + self.block:
                    return np.zeros(count, np.float32)
                self._has_begun = True
            taken, self._samples = self._samples[:count], self._samples[count:]
            left = len(self._samples)
            self.least = min(self.least, left) if self._taken else left
            self._taken += count
            if self._taken >= self.window:
                self._taken = 0
                if self.least > self.block:
                    self._samples = self._samples[self.least - self.block :]
                    self.lost += 1
            if len(taken) < count:
                self.lost += 1
                taken = np.pad(taken, (0, count - len(taken)))
            return taken
