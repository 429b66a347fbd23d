"""Synthetic noises, of the corpus and for mixtures."""

import numpy as np
import pytest

pytest.importorskip("espeakng_loader")

from denoiser import audio
from denoiser.data.synthesis import generated
from denoiser.data.synthesis.generated import KINDS, ORDER, write_noises
from denoiser.data.synthesis.noises import NOISES

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Noises that are shorter, and as few as may be."""
    assert min(generated.COUNTS.values()) >= len(ORDER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated, "COUNTS", dict.fromkeys(generated.COUNTS, len(ORDER)))
        patch.setattr(generated, "SECONDS", 3.0)
        return write_noises(tmp_path_factory.mktemp("cache"), RATE)


def test_each_part_has_every_kind_and_no_file_of_another(folder):
    sounds = set()
    for part in ("train", "val", "test"):
        assert {path.name for path in (folder / part).iterdir()} == set(KINDS) == set(ORDER)
        sounds |= {path.read_bytes() for path in (folder / part).rglob("*.wav")}
    assert len(sounds) == len(list(folder.rglob("*.wav")))


EVERY = {**NOISES["train"], **NOISES["test"], **KINDS}


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("rate", [8_000, 48_000])
def test_each_kind_is_sound_at_any_rate(kind, rate):
    first, again, other = (EVERY[kind](np.random.default_rng(seed), rate // 2, rate) for seed in (0, 0, 1))
    assert first.shape == (rate // 2,)
    assert np.isfinite(first).all()
    assert np.mean(first**2) > 0
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("kind", "below"), [("rumble", 200), ("crowd", 1000)])
def test_rumble_and_crowds_lie_low(folder, kind, below):
    for path in sorted((folder / "train" / kind).iterdir()):
        sound = audio.read(path)[0][0].numpy()
        power = np.abs(np.fft.rfft(sound)) ** 2
        low = np.fft.rfftfreq(len(sound), 1 / RATE) < below
        assert power[low].sum() > 0.6 * power.sum()
        assert 1e-5 * power.sum() < power[~low].sum()  # but not all of it


def test_noises_are_written_once(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")}
    assert write_noises(folder.parent, RATE) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")} == before
