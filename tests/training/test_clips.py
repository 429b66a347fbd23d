"""Clips that a finished run leaves for listening."""

from conftest import TINY, train_here
from denoiser import audio
from denoiser.training import clips


def test_clips_are_spread_over_noises_and_levels():
    facts = {f"f{i:02}": {"noise_type": ("bus", "fan")[i % 2], "snr_db": (2.5, 17.5)[i // 2 % 2]} for i in range(12)}
    chosen = clips.choose(facts, 4)
    assert {(facts[name]["noise_type"], facts[name]["snr_db"]) for name in chosen} == {
        ("bus", 2.5), ("bus", 17.5), ("fan", 2.5), ("fan", 17.5),
    }  # fmt: skip
    assert clips.choose(dict(reversed(facts.items())), 4) == chosen
    assert clips.choose({f"f{i}": {} for i in range(8)}, 4) == ["f1", "f3", "f5", "f7"]
    assert clips.choose({"a": {}}, 4) == ["a"]


def test_a_finished_run_leaves_its_validation_clips(vctk, tmp_path):
    options = [*TINY, f"data.root={vctk}", f"data.cache={tmp_path}/cache", "metrics=[si_sdr]", "test=false"]
    train_here(tmp_path / "run", *options, "trainer.max_epochs=1", "callbacks.clips=null", "logger=csv", "clips=2")
    found = clips.read(tmp_path / "run")
    assert len(found) == 2
    for clip in found:
        sounds = {kind: audio.read(clip[kind]) for kind in clips.KINDS}
        assert {rate for _, rate in sounds.values()} == {16_000}
        assert len({sound.shape[-1] for sound, _ in sounds.values()}) == 1
    train_here(tmp_path / "none", *options, "trainer.max_epochs=1", "callbacks.clips=null", "logger=csv", "clips=0")
    assert not (tmp_path / "none/clips").exists()
