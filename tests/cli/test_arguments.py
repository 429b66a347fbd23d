import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from conftest import ROOT, composed, run_command
from denoiser.cli.arguments import as_typed, key_values
from denoiser.errors import ConfigError

# Any text that an operating system passes, much of it of what some grammar reads in its own way.
names = st.text(
    st.sampled_from("\\'\"${}[]():=,#~% \t\n-a1.") | st.characters(exclude_characters="\0", exclude_categories=["Cs"])
)


def infer(*arguments: str) -> list[str]:
    return as_typed(arguments, ("ckpt", "input", "output", "reference"), inputs="input")


def train(*arguments: str) -> list[str]:
    return as_typed(arguments, ("data.root", "ckpt_path", "init_from"))


def read(override: str) -> object:
    """Return the value of an override, by Hydra's parser and OmegaConf's interpolation."""
    parsed = OverridesParser.create().parse_override(override)
    return OmegaConf.to_container(OmegaConf.create({"value": parsed.value()}), resolve=True)["value"]


@settings(max_examples=150)
@given(names)
def test_any_name_comes_through_as_it_was_typed(name):
    # Null, a list and quotes keep Hydra's meaning; a backslash before ${ would need an escape of its own.
    # A home folder is put in the place of ~.
    assume(name[:1] != "~" and "[~" not in name)
    assume(name != "null" and name[:1] + name[-1:] not in ("[]", "''", '""') and "\\${" not in name)
    for given_as in infer(f"output={name}") + infer(f"input={name}") + train(f"+data.root={name}"):
        assert read(given_as) == name
        # A sweep takes the setting apart and puts it together again.
        parsed = OverridesParser.create().parse_override(given_as)
        assert read(f"x={parsed.get_value_element_as_str()}") == name
        assert train(given_as) == [given_as]  # as DDP starts the script again, with what was made of its arguments


def test_names_come_through_the_composition():
    cfg = composed(*train("ckpt_path=${x}/a b.ckpt", "data.root=(1)"))
    assert (cfg.ckpt_path, cfg.data.root) == ("${x}/a b.ckpt", "(1)")


def test_quotes_of_its_own_are_taken_off_a_name_unless_it_has_them(here):
    for typed, name in (('"my talk (1).wav"', "my talk (1).wav"), (r"'it\'s'", "it's"), ("'a' 'b'", "'a' 'b'")):
        assert read(*infer(f"input={typed}")) == read(*train(f"data.root={typed}")) == name
    Path("'b'").touch()
    assert read(*infer("input='b'")) == "'b'"


def test_a_home_folder_is_found_in_every_setting_unless_a_file_has_the_very_name(here, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert (
        read(*infer("output=~/out/clean.wav")) == read(*infer("output='~/out/clean.wav'")) == "/home/me/out/clean.wav"
    )
    assert read(*infer("~/takes/*.wav")) == "/home/me/takes/*.wav"
    assert read(*infer("a.wav", "~/b.wav")) == ["a.wav", "/home/me/b.wav"]
    for key in ("data.root", "init_from", "+data.root", "logger.folder", "hydra.run.dir"):
        assert read(*train(f"{key}=~/x")) == "/home/me/x"
    assert read(*train("data.root=[~/a,'~/b c']")) == ["/home/me/a", "/home/me/b c"]
    assert train("init_from=~/a,~/b", "-m") == ["init_from=/home/me/a,/home/me/b", "-m"]
    assert key_values({"out": ""}, "", ["out=~/x.onnx"]) == {"out": "/home/me/x.onnx"}
    Path("~").mkdir()
    Path("~/x.wav").touch()
    assert read(*infer("~/x.wav")) == "~/x.wav"


def test_what_has_no_key_is_an_input(here):
    for name in ("a=b.wav", "output=c.wav", "-d.wav", "dry=1"):
        Path(name).touch()
    inputs = ["talk.wav", "input=x y.wav", "takes/*.flac", "a=b.wav", "-d.wav", "dry=1"]
    ckpt, setting, found = infer("ckpt=m", *inputs, "phase_iters=4")
    assert (ckpt, setting) == ("ckpt='m'", "phase_iters=4")
    assert read(found) == ["talk.wav", "x y.wav", *inputs[2:]]
    assert infer("output=c.wav") == ["output='c.wav'"]  # a name's own key is a setting, whatever files there are
    assert infer("-") == ["input='-'"]
    assert infer("inptu=x.wav", "+new.key=1", "hydra/launcher=x") == ["inptu=x.wav", "+new.key=1", "hydra/launcher=x"]


def test_options_of_hydra_stay_options():
    assert infer("--cfg", "job", "-m", "a.wav", "dry=0,1") == ["dry=0,1", "input='a.wav'", "--cfg", "job", "-m"]
    assert infer("--help", "--cfg=job") == ["--help", "--cfg=job"]
    assert infer("-cn", "infer", "--", "-m") == ["input='-m'", "-cn", "infer"]
    with pytest.raises(ConfigError, match="--input: no such option; settings are key=value"):
        infer("--input", "a.wav")
    with pytest.raises(ConfigError, match="no such option"):
        train("--epochs=3")


def test_null_lists_and_sweeps_keep_their_meaning_where_there_is_no_such_file(here):
    assert train("init_from=null", "model=unet6") == ["init_from=null", "model=unet6"]
    assert train("init_from=a.ckpt,b.ckpt", "-m") == ["init_from=a.ckpt,b.ckpt", "-m"]
    assert train("init_from=a.ckpt,b.ckpt") == ["init_from='a.ckpt,b.ckpt'"]
    assert train("data.root=[a,'b c']") == ["data.root=[a,'b c']"]
    assert train("data.root=[a (1)") == ["data.root='[a (1)'"]
    for name in ("null", "a.ckpt,b.ckpt"):
        Path(name).touch()
        assert train(f"init_from={name}", "-m") == [f"init_from='{name}'", "-m"]


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path):
    # A setting that is not there is looked for below the given one.
    result = run_command("train.py", "data.root=corpus", "loss.terms={mse: {weight: 1}}", "loss=sum", cwd=tmp_path)
    assert result.returncode == 2
    assert re.fullmatch(r"error: .*loss\.terms\.mse: no such setting.*\n", result.stderr)


@pytest.mark.parametrize(
    ("arguments", "streams"),
    [(["infer.py", "--help"], ["stdout", "stderr"]), (["train.py", "--cfg", "job"], ["stdout"]),
     (["-m", "denoiser"], ["stdout", "stderr"]), (["-m", "denoiser", "rank", "--help"], ["stdout"])],
)  # fmt: skip
def test_output_that_nobody_reads_ends_the_program_without_a_word(tmp_path, arguments, streams):
    reading, writing = os.pipe()
    os.close(reading)
    script = [str(ROOT / arguments[0])] if arguments[0] != "-m" else ["-m"]
    outputs = {"stdout": writing, "stderr": subprocess.PIPE, **dict.fromkeys(streams, writing)}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *script, *arguments[1:]], cwd=tmp_path, env=environment, text=True, **outputs
    )
    os.close(writing)
    assert done.returncode == 128 + signal.SIGPIPE
    assert not done.stderr
