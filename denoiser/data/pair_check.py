"""Check of some pairs before training: can clean be learned from noisy?"""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import median

import numpy as np
import torch
from torch import Tensor

from denoiser.audio.lag import LONGEST_LAG, find_lag
from denoiser.data.store import Store, to_float
from denoiser.errors import CorpusError

LOOKED_AT = 16  # pairs of a corpus
SECONDS = 10.0  # of each, from its middle
LATE = 0.0005  # seconds that a lag has to have to be told
TOO_LATE = 0.016  # seconds; half a window of the spectra: nothing of clean stands where it does in noisy
CLEANER = 3.0  # dB by which the pauses of noisy lie deeper than those of clean, if the two are exchanged
GAIN = 2.0  # dB by which the speech in noisy differs from clean, to be told
SHORTEST = 0.5  # seconds of a pair that tells anything
MOST = 0.75  # share of the pairs that makes a finding one of the corpus


def find_faults(store: Store, names: Sequence[str], place: str) -> str:
    """Return a line on faults in some of the pairs ``names``, empty if there are none; ``place`` is named in it.

    Raises CorpusError where most of them cannot be learned: noisy and clean exchanged, equal, or apart in time.
    """
    chosen = names[:: -(-len(names) // LOOKED_AT)]
    rate = store.sample_rate
    odd: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for name in chosen:
        row = store.rows[name]
        length = min(int(store.lengths[row]), round(SECONDS * rate))
        offset = np.array([(store.lengths[row] - length) // 2])
        noisy, clean = to_float(store.gather([row], offset, length)[:, 0])
        kind, value = _finding(noisy, clean, rate)
        if kind:
            odd[kind].append((name, value))
    if not odd:
        return ""
    late, gain = [median([value for _, value in odd.get(kind, [])] or [0.0]) for kind in ("apart", "gain")]
    words = {
        "exchanged": "noisy has less noise than clean, as if the two were exchanged",
        "equal": "noisy and clean are the same sound",
        "apart": f"clean is {1000 * abs(late):.1f} ms {'late' if late > 0 else 'early'}",
        "inverted": "clean has the opposite polarity of noisy",
        "gain": f"the speech in noisy is {abs(gain):.1f} dB {'louder' if gain > 0 else 'softer'} than clean",
        "unlike": "clean is not heard in noisy, as if the wrong files were paired",
    }
    told = [f"in {len(found)} of {len(chosen)} {words[kind]} ({found[0][0]})" for kind, found in odd.items()]
    line = f"{place}, of the pairs looked at: {'; '.join(told)}"
    fatal = ["exchanged", "equal"] + ["apart"] * (abs(late) > TOO_LATE)
    if any(len(odd.get(kind, ())) >= MOST * len(chosen) for kind in fatal):
        raise CorpusError(f"{line}; that cannot be learned: mend the corpus")
    return line


def _finding(noisy: Tensor, clean: Tensor, rate: int) -> tuple[str, float]:
    """Return a word for the fault of a pair, or none; and the seconds by which clean is late, or its gain in dB."""
    if len(clean) < SHORTEST * rate:
        return "", 0.0
    if torch.equal(noisy, clean):
        return "equal" if clean.any() else "", 0.0
    lag = find_lag(clean, noisy, min(round(LONGEST_LAG * rate), len(clean) // 2))
    seconds = lag.samples / rate
    if not lag.is_certain:
        # A speech under a loud noise is not heard either: silence in clean says nothing.
        return "unlike" if clean.any() and abs(lag.similarity) < 0.05 else "", 0.0
    if _pauses(noisy, rate) < _pauses(clean, rate) - CLEANER:
        return "exchanged", 0.0
    if abs(seconds) > LATE:
        return "apart", seconds
    if lag.similarity < 0:
        return "inverted", 0.0
    decibels = 20 * math.log10(lag.gain)
    return "gain" if abs(decibels) > GAIN else "", decibels


def _pauses(waveform: Tensor, rate: int) -> float:
    """Return the power of the softest tenth of the frames of 20 ms against that of the loudest, in dB."""
    frames = waveform.unfold(0, rate // 50, rate // 50).square().mean(-1)
    low, high = torch.quantile(frames, torch.tensor([0.1, 0.9]))
    # The last of 16 bits is 90 dB below full scale.
    return float(10 * torch.log10((low + 1e-9) / (high + 1e-9)))
