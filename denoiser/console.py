"""One line and an exit code where a person would get a traceback."""

from __future__ import annotations

import difflib
import errno
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from denoiser import distributed
from denoiser.errors import ConfigError, DenoiserError, StopError, UnfinishedError, shown

# What a person can mend: no room, no right, no such file, a disk that fails, a name that is none.
DISK = (
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EIO, errno.EFBIG,
    errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip


FULL = os.environ.get("HYDRA_FULL_ERROR") == "1"


@contextmanager
def one_line() -> Iterator[None]:
    """Turn a person's mistake into one line on stderr and exit code 2; ``HYDRA_FULL_ERROR=1`` shows the traceback."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no failure
    try:
        yield
    except (DenoiserError, HydraException, OmegaConfBaseException) as error:
        if FULL:
            raise
        if distributed.local_rank() == 0:
            print(f"error: {_explain(error)}", file=sys.stderr)
        sys.exit(error.code if isinstance(error, UnfinishedError) else 2)
    except OSError as error:
        if FULL or error.errno not in DISK:
            raise
        if distributed.local_rank() == 0:
            print(f"error: {shown(error.filename or 'the disk')}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as error:
        if FULL:
            raise
        if distributed.local_rank() == 0:
            print(str(error) or "interrupted", file=sys.stderr)
        sys.exit(error.code if isinstance(error, StopError) else 130)


def run(main: Callable[[], Any], read: Callable[[Sequence[str]], list[str]]) -> None:
    """Run a Hydra entry point so that Hydra's own complaints, of a wrong override say, are one line too.

    ``read`` makes Hydra's arguments of those that were typed. SIGTERM ends it as Ctrl-C does, by an exception, so that
    what is half-written is cleared away; a second of them ends it at once.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:  # as in a job that a shell runs in the background
            signal.signal(number, stop)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and leaving with 1
    with one_line():
        sys.argv[1:] = read(sys.argv[1:])
        try:
            main()
        except ValueError as error:  # scheduler=null, say: no HydraException, though Hydra raises it
            if _raised_in(error).startswith("hydra."):
                raise ConfigError(f"{error}, in: {' '.join(sys.argv[1:])}") from error
            if str(error) == "No trials are completed yet.":  # Optuna looks for the best at the end
                raise DenoiserError(
                    "no run of this sweep finished; each says why, above and in its run.json"
                ) from error
            raise


def stop(number: int, frame: FrameType | None) -> None:
    """Handle a signal: end the program by an exception, and at once if the signal comes again."""
    signal.signal(number, signal.SIG_DFL)
    raise StopError("", 128 + number)


def _explain(error: BaseException) -> str:
    """What an error says, in one line: without the wrapping that Hydra adds, with the advice it lacks."""
    if not isinstance(error, DenoiserError) and isinstance(error.__cause__, DenoiserError):
        error = error.__cause__  # raised in a constructor that Hydra called
    text = " ".join(str(error).partition("Config search path")[0].split())
    if unknown := re.match(r"Could not override '([^']+)'", text):
        full = re.search(r"full_key: (\S+)", str(error.__cause__))
        key = full[1] if full else unknown[1]  # the one that is not there may lie within the one that was given
        near = [other for other in difflib.get_close_matches(key, _keys(), n=4, cutoff=0.5) if other != key][:3]
        text = f"{key}: no such setting" + (f"; did you mean {' or '.join(near)}?" if near else ".")
        if key.startswith("trainer."):
            text += f" (another argument of Lightning's Trainer is added as +{key}=)"
        if key.startswith("loss.terms."):
            text += f" (another loss is added as +{key}={{weight: 1}})"
        if not {"-m", "--multirun"}.isdisjoint(sys.argv):
            text += f" (in a sweep of which only some have it, or not the first: ++{key}=)"
        return f"{text} All settings: --cfg job"
    if plugin := re.search(r"Could not (?:find|load) '?hydra/(sweeper|launcher)/(\w+)", text):
        return f'hydra/{plugin[1]}={plugin[2]} is not there; it needs a plugin: pip install "denoiser[sweep]"'
    if "parsing override" in text:
        text = text.partition(" See https")[0]
        text += "; settings are key=value"
    return text


def _keys() -> list[str]:
    """Every setting of the entry point that runs, of the groups that were chosen, as dotted keys."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    GlobalHydra.instance().clear()
    script = Path(sys.argv[0]).resolve()
    try:
        with initialize_config_dir(str(script.parent / "conf"), version_base="1.3"):
            chosen = [word for word in sys.argv[1:] if re.fullmatch(r"[\w/]+=\w+", word)]  # groups; settings have a dot
            cfg = OmegaConf.to_container(compose(script.stem, chosen), resolve=False)
    except Exception:  # a suggestion is not worth a second error
        return []
    found: list[str] = []

    def walk(node: Any, prefix: str) -> None:
        for key, value in node.items() if isinstance(node, dict) else ():
            found.append(f"{prefix}{key}")
            walk(value, f"{prefix}{key}.")

    walk(cfg, "")
    return found


def _raised_in(error: BaseException) -> str:
    """Name of the module whose code raised this."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")) if frames else ""
