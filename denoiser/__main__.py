"""The program ``denoiser``, also ``python -m denoiser``: recordings to denoise, or one of its commands."""

import difflib
import os
import sys
from importlib import import_module

from denoiser import startup

COMMANDS = {
    "infer": "denoise recordings, as without a command",
    "train": "train a network, or several with -m",
    "download": "fetch, verify and unpack the VCTK-DEMAND corpus",
    "rank": "compare training runs: tables and a page to listen to",
    "export": "write a model as an ONNX file, or the weights of a run alone",
    "live": "denoise the sound of a microphone while it comes in",
    "demo": "serve a page to denoise clips on, for a browser on this machine",
}
USAGE = """\
denoiser RECORDING ...           writes RECORDING_enhanced into the current folder
denoiser COMMAND key=value ...   COMMAND --help shows its settings
"""


def main(command: str = "") -> None:
    """Run the ``command``, by default the one that was typed first, with the arguments that follow it."""
    startup.prepare("hydra", "torch")
    # Imported here: it needs Hydra, which may have been missing.
    from denoiser.console import one_line

    arguments = sys.argv[1:]
    with one_line():
        if arguments == ["--version"]:
            print("denoiser", import_module("denoiser").__version__)
            return
        if not command:
            command, arguments = _split(arguments)
        if not command:
            print(USAGE)
            print("\n".join(f"  {name:10}{purpose}" for name, purpose in COMMANDS.items()))
            return
        # Each command loads what it needs alone: torch takes seconds.
        with startup.importing():
            module = import_module(f"denoiser.cli.{command}")
        module.main(arguments)


def _split(typed: list[str]) -> tuple[str, list[str]]:
    """Return the command and its arguments; no command where the help on all is asked for."""
    first, *others = typed or ["--help"]
    if first in ("--help", "-h"):
        return "", []
    if first in COMMANDS:
        return first, others
    # The first argument of the processes that Lightning starts, see cli/train.py.
    if first == "--config-name=train":
        return "train", others
    if first in ("-sc", "--shell-completion") and "COMP_LINE" in os.environ:
        return _to_complete(), typed
    near = difflib.get_close_matches(first, COMMANDS, n=1)
    if near and first.isalpha() and not os.path.lexists(first):
        from denoiser.errors import ConfigError

        raise ConfigError(f"{first}: no such file and no such command; did you mean {near[0]}?")
    return "infer", typed


def _to_complete() -> str:
    """Return the command whose settings a shell asks for; Hydra is left a line without the words it would refuse."""
    program, *words = os.environ["COMP_LINE"].split(" ")
    command = words[0] if words[0] in COMMANDS and words[1:] else "infer"
    if command not in ("infer", "train"):
        sys.exit()
    os.environ["COMP_LINE"] = " ".join([program, *(word for word in words[:-1] if "=" in word), words[-1]])
    return command


if __name__ == "__main__":
    main()
