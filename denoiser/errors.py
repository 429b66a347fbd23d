"""What a person gets instead of a traceback: one line, and exit code 2."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


LONGEST = 2000  # characters of a line


def shown(text: object) -> str:
    """A name or a message as one line of characters that can be printed: a file may be called, and hold, anything."""
    line = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda match: ascii(match[0])[1:-1], str(text))
    half = LONGEST // 2 - 3
    return line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half:]}"


def brief(error: BaseException | str) -> str:
    """What an error says, in one printable line: its text may quote the file."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    return (text if len(text) <= 200 else f"{text[:197]}...") or type(error).__name__


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
