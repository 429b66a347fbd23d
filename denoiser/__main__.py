"""The small commands: ``python -m denoiser download|rank|export|demo``."""

import sys
from importlib import import_module

from denoiser.console import one_line
from denoiser.errors import ConfigError

COMMANDS = {
    "download": "fetch, verify and unpack the VCTK-DEMAND corpus",
    "rank": "training runs against each other: tables and a page to listen to",
    "export": "a network as an ONNX file, or the weights of a run alone",
    "demo": "a page in the browser, on this machine alone",
}


def main() -> None:
    """Run the command that was named first, with the settings that follow it."""
    name, *arguments = sys.argv[1:] or ["--help"]
    with one_line():
        if name in ("--help", "-h"):
            print("python -m denoiser COMMAND key=value ...; COMMAND --help shows its settings\n")
            print("\n".join(f"  {command:10}{purpose}" for command, purpose in COMMANDS.items()))
            return
        if name not in COMMANDS:
            raise ConfigError(f"{name}: no such command; expected {', '.join(COMMANDS)}")
        # Each command loads what it needs alone: torch takes seconds.
        import_module(f"denoiser.cli.{name}").main(arguments)


if __name__ == "__main__":
    main()
