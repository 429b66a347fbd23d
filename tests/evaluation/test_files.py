"""Scores of files: references, workers, bad files."""

import math
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from conftest import SHARED, make_noise, make_voice, needs_recordings
from denoiser import audio
from denoiser.audio.lag import advance
from denoiser.errors import AudioError, ConfigError
from denoiser.evaluation import files, metrics
from denoiser.evaluation.files import Triple, evaluate, match_references, score_files

QUICK = ("si_sdr", "seg_snr")


def write_triple(folder: Path, name: str, seconds: float = 1.0, rate: int = 16_000, seed: int = 0) -> Triple:
    voice, noise = make_voice(seconds, rate, seed), make_noise(seconds, rate, seed)
    triple = Triple(name, folder / f"noisy/{name}.wav", folder / f"enhanced/{name}.wav", folder / f"clean/{name}.wav")
    audio.write(triple.reference, voice, rate, subtype="FLOAT")
    audio.write(triple.noisy, voice + 0.5 * noise, rate, subtype="FLOAT")
    audio.write(triple.enhanced, voice + 0.1 * noise, rate, subtype="FLOAT")
    return triple


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@needs_recordings
def test_the_noisy_test_files_have_their_known_scores():
    noisy = SHARED / "vctk_demand_mini/noisy_testset_wav"
    jobs = [(path, path) for path in sorted(noisy.glob("*.wav"))]
    triples, problems = match_references(jobs, noisy.with_name("clean_testset_wav"), noisy)
    rows, failed = score_files(triples, workers=1, names=("pesq", "stoi", "estoi", "si_sdr"))
    assert (len(rows), problems, failed) == (24, [], [])
    assert {row["speaker"] for row in rows} == {"p232", "p257"}
    mean = metrics.mean([row["noisy"] for row in rows])
    assert mean == pytest.approx(metrics.mean([row["enhanced"] for row in rows]), abs=1e-6)
    assert mean["pesq"] == pytest.approx(1.66, abs=0.01)
    assert mean["stoi"] == pytest.approx(0.876, abs=0.001)
    assert mean["estoi"] == pytest.approx(0.696, abs=0.001)
    assert mean["si_sdr"] == pytest.approx(4.55, abs=0.01)


def test_a_reference_is_found_by_path_then_by_name_in_any_format(tmp_path):
    noisy, clean = tmp_path / "noisy", tmp_path / "clean"
    files = [noisy / name for name in ("a/x.wav", "b/x.wav", "c/y.mp3", "z.wav", "none.wav", "twice.wav")]
    for name in ("a/x.flac", "b/x.wav", "elsewhere/y.wav", "z.ogg", "z.wav", "d/twice.wav", "e/twice.wav"):
        touch(clean / name)
    triples, problems = match_references([(file, Path("out", file.name)) for file in files], clean, noisy)
    assert [(t.name, t.reference.relative_to(clean).as_posix()) for t in triples] == [
        ("a/x", "a/x.flac"), ("b/x", "b/x.wav"), ("c/y", "elsewhere/y.wav"), ("z", "z.wav")
    ]  # fmt: skip
    assert triples[2].enhanced == Path("out/y.mp3")
    assert len(problems) == 2
    assert "none.wav: no reference of this name in" in problems[0]
    assert "2 references of this name" in problems[1]


def test_a_reference_may_be_one_file(tmp_path):
    noisy, clean = touch(tmp_path / "talk (1).wav"), touch(tmp_path / "other name.flac")
    triples, problems = match_references([(noisy, tmp_path / "out.wav")], clean)
    assert ([(t.name, t.reference) for t in triples], problems) == ([("talk (1)", clean)], [])
    for reference in (noisy, tmp_path):
        assert "its own reference" in match_references([(noisy, noisy)], reference)[1][0]


def test_references_that_cannot_be_are_refused(tmp_path):
    noisy, clean = touch(tmp_path / "talk.wav"), touch(tmp_path / "clean.wav")
    with pytest.raises(ConfigError, match="one file for 2 inputs"):
        match_references([(noisy, noisy), (clean, clean)], clean)
    with pytest.raises(AudioError, match="no such file or folder"):
        match_references([(noisy, noisy)], tmp_path / "nowhere")
    with pytest.raises(AudioError, match="no sound files"):
        match_references([(noisy, noisy)], touch(tmp_path / "empty/readme.txt").parent)


def test_names_of_rows_are_all_different(tmp_path):
    files = [(touch(tmp_path / "noisy" / name), Path("out")) for name in ("a/talk.wav", "a/talk.flac", "b/talk.wav")]
    for noisy, _ in files:
        touch(tmp_path / "clean" / noisy.relative_to(tmp_path / "noisy"))
    triples, _ = match_references(files, tmp_path / "clean", tmp_path / "noisy")
    assert [t.name for t in triples] == [noisy.as_posix() for noisy, _ in files]


def test_scores_are_those_of_the_metrics_at_16_khz(tmp_path):
    triple = write_triple(tmp_path, "a", seconds=2.0, rate=48_000)
    # Without DNSMOS, which takes long and may not be installed.
    names = files.NAMES[:10]
    (row,), problems = score_files([triple], names=names)
    clean, noisy, enhanced = (
        audio.resample(audio.read(path)[0], 48_000, 16_000)[0]
        for path in (triple.reference, triple.noisy, triple.enhanced)
    )
    assert not problems
    assert row["noisy"] == pytest.approx(metrics.score(clean, noisy, 16_000, names))
    assert row["enhanced"] == pytest.approx(metrics.score(clean, enhanced, 16_000, names))
    assert row["enhanced"]["pesq"] > row["noisy"]["pesq"]


class Deadly:
    """Stand-in for a path: the process that receives it ends."""

    def __reduce__(self):
        return os._exit, (1,)


class Slow:
    """Stand-in for a path: the process that receives it interrupts its parent, and at its own end leaves a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return _interrupt, (self.file,)


def _interrupt(file: Path) -> None:
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(20)
    file.touch()


def test_neither_order_nor_workers_change_a_score(tmp_path):
    triples = [write_triple(tmp_path, f"p{i}_1", seed=i) for i in range(3)]
    names = ("estoi", "si_sdr")  # noise for the one is drawn from the global generator
    one, _ = score_files(triples, workers=1, names=names)
    two, problems = score_files(triples[::-1], 2, names)
    assert ([row["name"] for row in two], problems) == (["p2_1", "p1_1", "p0_1"], [])
    for row, other in zip(one, two[::-1], strict=True):
        assert row["enhanced"] == pytest.approx(other["enhanced"], abs=1e-6)


def test_a_process_that_dies_names_the_files_it_leaves(tmp_path):
    deadly = Triple("x", Path("x.wav"), Path("x.wav"), Deadly())
    rows, problems = score_files([write_triple(tmp_path, "a"), deadly], 2, QUICK)
    assert len(rows) + len(problems) == 2
    assert "x.wav: its process died: no memory left" in problems[-1]


def test_an_interruption_waits_for_no_score(tmp_path):
    slow = Triple("x", Path("x.wav"), Path("x.wav"), Slow(tmp_path / "waited"))
    # Tests that run in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            score_files([slow, write_triple(tmp_path, "a")], 2, QUICK)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not (tmp_path / "waited").exists()


def test_a_bad_file_costs_only_itself_and_one_a_little_longer_is_cut(tmp_path):
    names = ("good", "longer", "gone", "long", "channels", "text", "silent")
    bad = {name: write_triple(tmp_path, name) for name in names}
    longer = torch.cat([audio.read(bad["good"].reference)[0], torch.ones(1, 1_000)], dim=1)
    audio.write(bad["longer"].reference, longer, 16_000, subtype="FLOAT")
    bad["gone"].reference.unlink()
    bad["text"].enhanced.write_text("not sound")
    audio.write(bad["long"].reference, make_voice(1.2, 16_000), 16_000)
    audio.write(bad["channels"].reference, make_voice(1.0, 16_000).repeat(2, 1), 16_000)
    audio.write(bad["silent"].reference, torch.zeros(1, 16_000), 16_000)
    rows, problems = score_files(list(bad.values()), names=QUICK)
    assert [row["name"] for row in rows] == ["good", "longer", "silent"]
    assert rows[1]["enhanced"] == pytest.approx(rows[0]["enhanced"], abs=1e-6)
    assert all(math.isnan(value) for value in rows[2]["noisy"].values())
    expected = ("gone.wav: no such file", "1.20 s long", "2 channels", "text.wav: not readable")
    assert all(part in problem for part, problem in zip(expected, problems, strict=True))


def test_channels_are_averaged_and_one_reference_serves_all(tmp_path):
    triples = [write_triple(tmp_path, name, seed=seed) for seed, name in enumerate("ab")]
    rows, _ = score_files(triples, names=QUICK)
    both = write_triple(tmp_path, "both")
    for kind in ("noisy", "enhanced", "reference"):
        waveform = torch.cat([audio.read(getattr(triple, kind))[0] for triple in triples])
        audio.write(getattr(both, kind), waveform, 16_000, subtype="FLOAT")
    (row,), _ = score_files([both], names=QUICK)
    assert row["noisy"] == pytest.approx(metrics.mean([row["noisy"] for row in rows]))
    audio.write(both.reference, audio.read(triples[0].reference)[0], 16_000, subtype="FLOAT")
    (row,), _ = score_files([both], names=QUICK)
    # The other channel has another voice.
    assert row["noisy"]["si_sdr"] < rows[0]["noisy"]["si_sdr"]


def test_noise_type_and_snr_come_from_a_log_near_the_noisy_files(tmp_path):
    triples = [write_triple(tmp_path, f"p{speaker}_00{i}", seed=i) for speaker in (1, 2) for i in (1, 2)]
    (tmp_path / "log_testset.txt").write_text("p1_001 bus 2.5\np2_002 cafe 7.5\nnonsense\n")
    rows, _ = score_files(triples, names=("si_sdr",))
    del rows[0]["noisy"], rows[0]["enhanced"]
    assert rows[0] == {"name": "p1_001", "noise_type": "bus", "snr_db": 2.5, "speaker": "p1"}
    assert "noise_type" not in rows[1]


@pytest.mark.parametrize(("late", "word"), [(20, "20.0 ms late"), (-7.3, "7.3 ms early"), (400, "400.0 ms late")])
def test_a_reference_apart_in_time_is_told_and_scored_aligned_on_request(tmp_path, capsys, monkeypatch, late, word):
    monkeypatch.setattr(files, "NAMES", QUICK)
    triple = write_triple(tmp_path, "a", seconds=3)
    moved = triple._replace(reference=tmp_path / "moved.wav")
    audio.write(moved.reference, advance(audio.read(triple.reference)[0], -16 * late), 16_000)
    found = {}
    for align in (False, True):
        (row,), problems = score_files([moved], names=["si_sdr"], align=align)
        assert not problems
        assert row["lag_ms"] == pytest.approx(late, abs=0.05)
        found[align] = row["enhanced"]["si_sdr"]
    (right,), _ = score_files([triple], names=["si_sdr"])
    assert "lag_ms" not in right
    assert found[False] < right["enhanced"]["si_sdr"] - 10
    assert found[True] == pytest.approx(right["enhanced"]["si_sdr"], abs=1)
    gains = {(triple.noisy, triple.enhanced): 1.0}
    evaluate(gains, reference=moved.reference)
    assert f"by up to {word} (a): the scores are too low; align=true" in capsys.readouterr().err
    evaluate(gains, reference=triple.reference)
    assert not capsys.readouterr().err


def test_results_whose_level_was_changed_are_told_where_a_reference_compares_levels(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(files, "NAMES", QUICK)
    triple = write_triple(tmp_path, "a", seconds=3)
    evaluate({(triple.noisy, triple.enhanced): 0.5}, reference=triple.reference)
    assert "1 of 1 results have another level" in capsys.readouterr().err
