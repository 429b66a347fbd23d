"""A look at the pairs before training."""

import pytest
import torch

from conftest import make_noise, make_voice, train_here
from denoiser import audio
from denoiser.audio.lag import advance, find_lag
from denoiser.errors import CorpusError

RATE = 16_000


def write_pairs(root, change, pairs=5):
    """Write pairs of a voice and noise, each changed by ``change(noisy, clean)``."""
    for i in range(pairs):
        clean = make_voice(2, RATE, i)
        noisy, clean = change(clean + 0.3 * make_noise(2, RATE, i), clean)
        audio.write(root / f"noisy/p{i}.wav", noisy, RATE)
        audio.write(root / f"clean/p{i}.wav", clean, RATE)


def late(sound, milliseconds):
    return advance(sound, -milliseconds / 1000 * RATE)


def start(root):
    """Begin a training of no steps."""
    train_here(
        root / "run", "data=folders", f"data.root={root}", f"data.cache={root}/cache", "model.depth=2", "model.width=4",
        "trainer.gpus=0", "trainer.max_epochs=0", "test=false", "callbacks=none", "logger=csv",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda noisy, clean: (noisy, late(clean, 30)), "clean is 30.0 ms late"),
        (lambda noisy, clean: (late(noisy, 250), clean), "clean is 250.0 ms early"),
        (lambda noisy, clean: (clean, noisy), "noisy has less noise than clean"),
        (lambda noisy, clean: (clean, clean), "noisy and clean are the same sound"),
    ],
)
def test_a_corpus_that_cannot_be_learned_is_refused_in_one_line(tmp_path, change, line):
    write_pairs(tmp_path, change)
    with pytest.raises(CorpusError, match=rf"{tmp_path}.*in 3 of 3 {line}"):
        start(tmp_path)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda noisy, clean: (noisy, late(clean, 4)), "in 3 of 3 clean is 4.0 ms late"),
        (lambda noisy, clean: (noisy, -clean), "in 3 of 3 clean has the opposite polarity"),
        (lambda noisy, clean: (0.5 * noisy, clean), "in 3 of 3 the speech in noisy is 6.0 dB softer than clean"),
        (lambda noisy, clean: (noisy, make_noise(2, RATE, 99)), "in 3 of 3 clean is not heard in noisy"),
        (lambda noisy, clean: (noisy, clean), ""),
    ],
)
def test_an_odd_corpus_is_told_in_one_line_and_a_good_one_in_none(tmp_path, change, line, capsys):
    write_pairs(tmp_path, change)
    start(tmp_path)
    told = [text for text in capsys.readouterr().out.splitlines() if text.startswith("warning:")]
    assert len(told) == bool(line)
    assert line in "".join(told)


@pytest.mark.parametrize("samples", [0, 320, -7.5, 4000.3, -15_000])
def test_a_lag_is_found_in_noise_and_taken_back(samples):
    clean = make_voice(4, RATE)
    noisy, moved = clean + make_noise(4, RATE), advance(clean, -samples)
    lag = find_lag(moved, noisy, RATE)
    assert lag.is_certain
    assert lag.samples == pytest.approx(samples, abs=0.2)
    middle = slice(RATE, 3 * RATE)
    back = advance(moved, samples)[:, middle]
    assert torch.allclose(back, clean[:, middle], atol=0.02)
    assert not find_lag(make_noise(4, RATE, 1), make_noise(4, RATE, 2), RATE).is_certain
    assert find_lag(torch.zeros(1, RATE), clean, RATE).samples == 0
