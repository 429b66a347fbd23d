"""What a person gets instead of a traceback: one line, and exit code 2."""

from __future__ import annotations

import difflib
import errno
import io
import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
# What a person can mend: no room, no right, no such file, a disk that fails, a name that is none.
DISK = (
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EIO, errno.EFBIG,
    errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip
FULL = os.environ.get("HYDRA_FULL_ERROR") == "1"


LONGEST = 2000  # characters of a line


def shown(text: object) -> str:
    """A name or a message as one line of characters that can be printed: a file may be called, and hold, anything."""
    line = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda match: ascii(match[0])[1:-1], str(text))
    half = LONGEST // 2 - 3
    return line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half:]}"


class DenoiserError(Exception):
    """A mistake in what was given, in one line: what was found, where, what was expected, what to do."""

    def __str__(self) -> str:
        return shown(super().__str__())


class AudioError(DenoiserError):
    """A file that cannot be read or written as audio."""


class ConfigError(DenoiserError):
    """A setting that has no meaning, or none here."""


class CheckpointError(DenoiserError):
    """A checkpoint that cannot be used."""


class CorpusError(DenoiserError):
    """A corpus that cannot be trained on as it is."""


class DownloadError(DenoiserError):
    """What cannot be fetched, or is not what was published."""


class DivergedError(DenoiserError):
    """A training whose loss is no number any more."""


class PrunedError(DenoiserError):
    """A run of a sweep that was ended as hopeless; ``best`` is what it had reached."""

    def __init__(self, message: str, best: float) -> None:
        super().__init__(message, best)  # both, or it could not be sent from one process to another
        self.best = best

    def __str__(self) -> str:
        return shown(self.args[0])


class UnfinishedError(DenoiserError):
    """Work of which a part failed, each with its own line already."""

    code = 1


class StopError(KeyboardInterrupt):
    """What a signal ended, and how to go on; ``code`` is 128 and the signal's number, as a shell says it."""

    def __init__(self, message: str = "", code: int = 130) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def building(kind: str, table: Mapping[str, T], name: str, arguments: Mapping[str, Any]) -> Iterator[T]:
    """Yield what ``table`` calls ``name``; ConfigError where there is none, or it refuses ``arguments``."""
    if name not in table:
        raise ConfigError(f"{kind} '{name}' is unknown; there are: {', '.join(sorted(table))}")
    try:
        yield table[name]
    except (TypeError, ValueError) as error:
        given = f" of {', '.join(f'{key}={value}' for key, value in arguments.items())}" if arguments else ""
        raise ConfigError(f"{kind} '{name}'{given}: {str(error).replace('.__init__()', '')}") from error


@contextmanager
def one_line() -> Iterator[None]:
    """Turn a person's mistake into one line on stderr and exit code 2; ``HYDRA_FULL_ERROR=1`` shows the traceback."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from denoiser.ranks import speaks

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no failure
    try:
        yield
    except (DenoiserError, HydraException, OmegaConfBaseException) as error:
        if FULL:
            raise
        if speaks():
            print(f"error: {_explain(error)}", file=sys.stderr)
        sys.exit(error.code if isinstance(error, UnfinishedError) else 2)
    except OSError as error:
        if FULL or error.errno not in DISK:
            raise
        if speaks():
            print(f"error: {shown(error.filename or 'the disk')}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as error:
        if FULL:
            raise
        if speaks():
            print(str(error) or "interrupted", file=sys.stderr)
        sys.exit(error.code if isinstance(error, StopError) else 130)


def run(main: Callable[[], Any], read: Callable[[Sequence[str]], list[str]]) -> None:
    """Run a Hydra entry point so that Hydra's own complaints, of a wrong override say, are one line too.

    ``read`` makes Hydra's arguments of those that were typed. SIGTERM ends it as Ctrl-C does, by an exception, so that
    what is half-written is cleared away; a second of them ends it at once.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:  # as in a job that a shell runs in the background
            signal.signal(number, _stop)
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


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise StopError("", 128 + number)


def check_environment(*packages: str) -> None:
    """Leave with one line where these cannot be imported: most likely the environment is not active."""
    if missing := [package for package in packages if find_spec(package) is None]:
        print(
            f"error: no {', '.join(missing)} in {sys.executable}; run: make install, then: source .venv/bin/activate",
            file=sys.stderr,
        )
        sys.exit(2)


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


def check_booleans(cfg: Any, *keys: str) -> None:
    """Raise ConfigError where one of these settings is neither true nor false: ``no`` is a text here, and so true."""
    from omegaconf import OmegaConf

    for key in keys:
        if not isinstance(value := OmegaConf.select(cfg, key), bool):
            raise ConfigError(f"{key}={value}: expected true or false")


def check_number(
    cfg: Any, key: str, low: float = -math.inf, high: float = math.inf, *, whole: bool = False, other: Any = ...
) -> None:
    """Raise ConfigError where this setting is no number from ``low`` to ``high``, nor the ``other`` that it may be."""
    from omegaconf import OmegaConf

    value = OmegaConf.select(cfg, key)
    if value == other and type(value) is type(other):
        return
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
        expected = "a whole number" if whole else "a number"
        expected += f", {low:g} or more" if low > -math.inf and high == math.inf else ""
        expected += f" from {low:g} to {high:g}" if high < math.inf else ""
        instead = "" if other is ... else f", or {'null' if other is None else other}"
        raise ConfigError(f"{key}={value}: expected {expected}{instead}")


def check_shard(cfg: Any) -> None:
    """Raise ConfigError unless ``shards`` is 1 or more, and ``shard`` says which of several."""
    check_number(cfg, "shards", 1, whole=True)
    if cfg.shards > 1 and cfg.shard is None:
        raise ConfigError(
            f"shards={cfg.shards}: which? shard=0 to {cfg.shards - 1}, or all: -m 'shard=range({cfg.shards})'"
        )
    if cfg.shards == 1 and cfg.shard not in (None, 0):
        raise ConfigError(f"shard={cfg.shard}: of how many? Give it with shards=")
    check_number(cfg, "shard", 0, cfg.shards - 1, whole=True, other=None)


def require(cfg: Any, *keys: str) -> None:
    """Raise ConfigError naming those of these settings that were not given."""
    if missing := [key for key in keys if cfg.get(key, None) in (None, "")]:
        raise ConfigError(f"{', '.join(missing)} missing; give it as {' '.join(f'{key}=...' for key in missing)}")
