"""One line and an exit code where a person would get a traceback."""

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

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from denoiser import distributed
from denoiser.errors import ConfigError, DenoiserError, StopError, UnfinishedError, shown

# Errors of the system that a person can mend: no room, no right, no such file, a failing disk, an impossible name.
SYSTEM_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.EIO,
    errno.EFBIG,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}
# Processes that Lightning starts inherit the variable as run() has set it for Hydra.
TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1" and distributed.local_rank() == 0

# Settings that have another form now, and the advice for who still types the old one.
RENAMED = {
    "fresh": "is new_sweep= now",
    "scorers": "is metric_workers= now",
    "mode": "is no setting: it follows from monitor=",
    "model.bins": "is no setting: it follows from spectral=",
    "loss.name": "is no setting: choose a loss by loss=NAME, or a class by loss._target_=",
    "optimizer.name": "is no setting: choose one by optimizer=NAME, or a class by optimizer._target_=",
    "scheduler.name": "is no setting: choose one by scheduler=NAME, or a class by scheduler._target_=",
}


@contextmanager
def one_line() -> Iterator[None]:
    """Turn a person's mistake into one line on stderr and exit code 2; ``HYDRA_FULL_ERROR=1`` shows the traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name with a character that the terminal's encoding lacks must not end the program.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except (DenoiserError, HydraException, OmegaConfBaseException) as error:
        if TRACEBACK:
            raise
        _leave(f"error: {_explain(error)}", error.code if isinstance(error, UnfinishedError) else 2)
    except OSError as error:
        if TRACEBACK or error.errno not in SYSTEM_ERRORS:
            raise
        _leave(f"error: {shown(error.filename or 'the disk')}: {error.strerror}", 2)
    except KeyboardInterrupt as error:
        if TRACEBACK:
            raise
        _leave(str(error) or "interrupted", error.code if isinstance(error, StopError) else 130)


def run(main: Callable[[], Any], read: Callable[[Sequence[str]], list[str]]) -> None:
    """Run a Hydra entry point; Hydra's own complaints, about a wrong override for example, become one line too.

    ``read`` turns the typed arguments into those for Hydra. SIGTERM ends the program as Ctrl-C does, by an exception,
    so that half-written files are removed; a second SIGTERM ends it at once.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        # A shell ignores SIGINT for jobs in the background: that stays.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and leaving with 1.
    with one_line():
        sys.argv[1:] = read(sys.argv[1:])
        try:
            main()
        except ValueError as error:
            # Hydra raises a plain ValueError for some overrides, for example scheduler=null.
            if _raised_in(error).startswith("hydra."):
                raise ConfigError(f"{error}, in: {' '.join(sys.argv[1:])}") from error
            raise


def stop(number: int, frame: FrameType | None) -> None:
    """Handle a signal: end the program by an exception, and at once if the signal comes again."""
    signal.signal(number, signal.SIG_DFL)
    raise StopError("", 128 + number)


def _leave(line: str, code: int) -> None:
    if distributed.local_rank() == 0:
        print(line, file=sys.stderr)
    sys.exit(code)


def _explain(error: BaseException) -> str:
    """Return the message of an error as one line, with the advice that Hydra's own lacks."""
    cause = error.__cause__
    if isinstance(error, DenoiserError):
        return str(error)
    if isinstance(cause, DenoiserError):
        return str(cause)  # raised by a constructor that Hydra called
    if isinstance(error, MissingConfigException):
        return _explain_missing(error)
    if isinstance(error, OverrideParseException):
        return f"{' '.join(error.override.split())}: cannot be read as a setting; settings are key=value"
    for problem in (cause, error):
        if isinstance(problem, ConfigAttributeError | ConfigKeyError) and problem.full_key:
            return _explain_unknown(problem.full_key)
        if isinstance(problem, ValidationError) and problem.full_key and problem.msg:
            reason = problem.msg.splitlines()[0]
            return f"{problem.full_key}={problem.value}: {reason[:1].lower()}{reason[1:]}"
    return " ".join(str(error).split())


def _explain_missing(error: MissingConfigException) -> str:
    """Name the options of a group, or the plugin, that an override asked for."""
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    if group in ("hydra/sweeper", "hydra/launcher"):
        return f'{group}={option} is not there; it needs a plugin: pip install "denoiser[sweep]"'
    if error.options:
        return f"{group}={option}: no such option; expected {', '.join(error.options)}"
    return " ".join(str(error).split())


def _explain_unknown(key: str) -> str:
    """Name the settings that a mistyped one may have meant."""
    if key in RENAMED:
        return f"{key}: {RENAMED[key]}"
    near = difflib.get_close_matches(key, _keys(), n=3, cutoff=0.5)
    near = [other for other in near if other != key]
    text = f"{key}: no such setting" + (f"; did you mean {' or '.join(near)}?" if near else ".")
    if key.startswith("loss.terms."):
        text += f" (another loss is added as +{key}.weight=1 +{key}.loss._target_=denoiser.losses.MSE)"
    if not {"-m", "--multirun"}.isdisjoint(sys.argv):
        text += f" (in a sweep of which only some have it, or not the first: ++{key}=)"
    return f"{text} All settings: --cfg job"


def _keys() -> list[str]:
    """Return every setting of the entry point that runs, with the groups that were chosen, as dotted keys."""
    GlobalHydra.instance().clear()
    script = Path(sys.argv[0]).resolve()
    # Groups are chosen without a dot in the key; a setting of a group has one.
    chosen = [word for word in sys.argv[1:] if re.fullmatch(r"[\w/]+=\w+", word)]
    try:
        with initialize_config_dir(str(script.parent / "conf"), version_base="1.3"):
            cfg = OmegaConf.to_container(compose(script.stem, chosen), resolve=False)
    except Exception:
        return []  # A suggestion is not worth a second error.
    return _dotted(cfg)


def _dotted(tree: Any, prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in tree.items() if isinstance(tree, dict) else ():
        found += [f"{prefix}{key}", *_dotted(value, f"{prefix}{key}.")]
    return found


def _raised_in(error: BaseException) -> str:
    """Return the name of the module whose code raised this."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")) if frames else ""
