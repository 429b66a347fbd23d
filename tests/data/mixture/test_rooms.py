"""Simulated and measured room impulse responses."""

import numpy as np
import pytest
import torch

from conftest import make_noise
from denoiser import audio
from denoiser.data.mixture import rooms
from denoiser.errors import CorpusError


def decay(response: np.ndarray, rate: int) -> float:
    """Return the RT60 in seconds, from -5 to -25 dB of Schroeder's backward integral."""
    energy = np.cumsum((response**2)[::-1])[::-1]
    fall = -10 * np.log10(energy / energy[0] + 1e-12)
    start, end = np.searchsorted(fall, (5, 25))
    return 3 * (end - start) / rate


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_simulated_rooms_decay_in_the_time_they_were_drawn_with(rate, monkeypatch):
    for rt60 in (0.2, 0.4, 0.6):
        monkeypatch.setattr(rooms, "RT60", (rt60, rt60))
        found = [decay(rooms.simulate(np.random.default_rng([seed, 1]), rate), rate) for seed in range(8)]
        assert np.mean(found) == pytest.approx(rt60, rel=0.1)
        assert np.std(found) < 0.1 * rt60


def test_a_simulated_room_begins_with_its_direct_sound():
    for seed in range(5):
        response = rooms.simulate(np.random.default_rng([seed, 1]), 16_000)
        assert len(response) == 8_000
        assert response[0] == pytest.approx(1, abs=0.05)  # reflections' sincs reach back to it
        assert np.abs(response[:16]).argmax() == 0  # what is nearest by has gone 30 cm further


def test_measured_responses_begin_with_the_direct_sound(tmp_path):
    response = torch.zeros(2, 24_000)
    response[0, 480], response[0, 2_400] = 0.5, 0.25  # the direct sound after 10 ms, an echo 40 ms later
    response[1, 4_800] = -0.5
    audio.write(tmp_path / "deep/room.wav", response, 48_000)
    found, bandwidths = rooms.measured([tmp_path / "deep/room.wav"], 16_000)
    assert found.shape == (2, 8_000)
    assert bandwidths == [8_000, 8_000]
    for row, sign in zip(found, (1, -1), strict=True):
        assert int(row.abs().argmax()) <= 1  # a resampled pulse is two samples wide
        assert float(row[row.abs().argmax()]) * sign > 0
        assert float(rooms.target_part(row, "early", 16_000).norm()) == pytest.approx(1, abs=1e-4)
    echo = found[0, 400:].abs().argmax() + 400
    assert abs(int(echo) - 640) <= 1


def test_files_that_are_no_responses_are_refused_in_one_line(tmp_path):
    audio.write(tmp_path / "silent.wav", torch.zeros(1, 100), 16_000)
    (tmp_path / "text.wav").write_text("not sound")
    with pytest.raises(CorpusError, match=r"2 problems.*silent\.wav: silent.*text\.wav: not readable") as caught:
        rooms.measured([tmp_path / "silent.wav", tmp_path / "text.wav"], 16_000)
    assert len(str(caught.value).splitlines()) == 1


def test_a_target_keeps_the_part_of_a_response_that_it_names():
    bank = make_noise(0.5, 16_000)
    direct, early, everything = (rooms.target_part(bank, target, 16_000) for target in ("direct", "early", "all"))
    assert torch.equal(everything, bank)
    for kept, end in ((direct, 40), (early, 800)):
        assert torch.equal(kept[:, : round(0.89 * end)], bank[:, : round(0.89 * end)])
        assert not kept[:, end:].any()
