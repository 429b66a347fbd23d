import re
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from conftest import NAMES, composed, run_command
from denoiser import console
from denoiser.cli.arguments import as_typed
from denoiser.errors import ConfigError

INFER = ("ckpt", "input", "output", "reference")
TRAIN = ("data.root", "ckpt_path", "init_from")

# Any text that an operating system passes, much of it of what some grammar reads in its own way.
names = st.text(
    st.sampled_from("\\'\"${}[]():=,#~% \t\n-a1.") | st.characters(exclude_characters="\0", exclude_categories=["Cs"])
)


def infer(*arguments: str) -> list[str]:
    return as_typed(arguments, INFER, inputs="input")


def train(*arguments: str) -> list[str]:
    return as_typed(arguments, TRAIN)


def read(override: str) -> object:
    """What becomes of an override: Hydra's parser, then OmegaConf's interpolation."""
    parsed = OverridesParser.create().parse_override(override)
    return OmegaConf.to_container(OmegaConf.create({"value": parsed.value()}), resolve=True)["value"]


def in_quotes(name: str) -> bool:
    return len(name) > 1 and name[0] == name[-1] and name[0] in "'\""


@settings(max_examples=150)
@given(names)
@example("\\${x}\\")
@example("'\\")
def test_any_name_comes_through_as_it_was_typed(tmp_path_factory, name):
    assume(not in_quotes(name))
    for given_as in infer(f"output={name}") + infer(f"input={name}") + train(f"+data.root={name}"):
        if given_as == f"+data.root={name}":  # null or a list
            assert name == "null" or (name[0], name[-1]) == ("[", "]")
            continue
        assert read(given_as) == name
        # a sweep takes the setting apart and puts it together again
        parsed = OverridesParser.create().parse_override(given_as)
        assert read(f"x={parsed.get_value_element_as_str()}") == name
        assert train(given_as) == [given_as]  # as DDP starts the script again, with what was made of its arguments


@settings(max_examples=100)
@given(st.lists(names, min_size=2, max_size=4))
def test_any_names_after_two_dashes_are_inputs(names):
    (given_as,) = infer("--", *names)
    assert read(given_as) == names


def test_names_come_through_the_composition():
    for ckpt, output in zip(NAMES[::2], NAMES[1::2], strict=True):
        cfg = composed(*infer(f"ckpt={ckpt}", f"output={output}", "--", *NAMES), config="infer")
        assert (cfg.ckpt, cfg.output, list(cfg.input)) == (ckpt, output, NAMES)
    cfg = composed(*train("ckpt_path=${x}/a b.ckpt", "data.root=(1)"))
    assert (cfg.ckpt_path, cfg.data.root) == ("${x}/a b.ckpt", "(1)")


def test_quotes_of_its_own_are_taken_off_a_name_unless_it_has_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for typed, name in (('"my talk (1).wav"', "my talk (1).wav"), (r"'it\'s'", "it's"), ("'a' 'b'", "'a' 'b'")):
        assert read(*infer(f"input={typed}")) == read(*train(f"data.root={typed}")) == name
    (tmp_path / '"a".wav"').touch()
    (tmp_path / "'b'").touch()
    assert read(*infer('input="a".wav"')) == '"a".wav"'
    assert read(*infer("input='b'")) == "'b'"


def test_what_has_no_key_is_an_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a=b.wav", "output=c.wav", "-d.wav", "dry=1"):
        (tmp_path / name).touch()
    overrides = infer(
        "ckpt=m", "talk.wav", "input=x y.wav", "takes/*.flac", "a=b.wav", "-d.wav", "dry=1", "phase_iters=4"
    )
    assert overrides[:2] == ["ckpt='m'", "phase_iters=4"]
    assert read(overrides[2]) == ["talk.wav", "x y.wav", "takes/*.flac", "a=b.wav", "-d.wav", "dry=1"]
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


def test_training_keeps_null_lists_and_sweeps_where_there_is_no_such_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train("init_from=null", "model=unet6") == ["init_from=null", "model=unet6"]
    assert train("init_from=a.ckpt,b.ckpt", "-m") == ["init_from=a.ckpt,b.ckpt", "-m"]
    assert train("init_from=a.ckpt,b.ckpt") == ["init_from='a.ckpt,b.ckpt'"]
    assert train("data.root=[a,'b c']") == ["data.root=[a,'b c']"]
    assert train("data.root=[a (1)") == ["data.root='[a (1)'"]
    assert train("init_from=a (1).ckpt", "-m") == ["init_from='a (1).ckpt'", "-m"]
    for name in ("null", "a.ckpt,b.ckpt"):
        (tmp_path / name).touch()
    assert train("init_from=null", "ckpt_path=a.ckpt,b.ckpt", "-m") == [
        "init_from='null'",
        "ckpt_path='a.ckpt,b.ckpt'",
        "-m",
    ]


def test_a_name_that_no_file_can_have_is_one_line(capsys):
    with pytest.raises(SystemExit) as caught, console.one_line():
        Path("x" * 300).read_bytes()
    assert caught.value.code == 2
    assert re.fullmatch("error: x{300}: File name too long\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.gpus=1"],
        ["model=unet99"],
        ["model.depht=3"],
        ["scheduler=null"],
        ["loss.terms={mse: {weight: 1}}", "loss=sum"],
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(vctk, tmp_path, overrides):
    result = run_command("train.py", f"data.root={vctk}", *overrides, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert overrides[0].split("=")[0].split(".")[-1] in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    if overrides == ["model.depht=3"]:
        assert "did you mean model.depth" in result.stderr
    if "loss=sum" in overrides:  # what is not there lies within what was given
        assert "loss.terms.mse: no such setting" in result.stderr
        assert "+loss.terms.mse.weight=1 +loss.terms.mse.loss._target_=" in result.stderr
