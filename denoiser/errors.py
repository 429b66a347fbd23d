"""Mistakes that a person can mend, each told in one line."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
MAX_LINE = 2000  # characters
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def shown(text: object) -> str:
    """Return a name or a message, which may hold any character, as one printable line."""
    line = CONTROL_CHARACTERS.sub(lambda match: ascii(match[0])[1:-1], str(text))
    half = MAX_LINE // 2 - 3
    return line if len(line) <= MAX_LINE else f"{line[:half]} ... {line[-half:]}"


def brief(error: BaseException | str) -> str:
    """Return the message of an error as one printable line of at most 200 characters: it may quote a whole file."""
    text = shown(" ".join(str(error).split()))
    return (text if len(text) <= 200 else f"{text[:197]}...") or type(error).__name__


class DenoiserError(Exception):
    """A mistake of a user, in one line: what was found, where, and what to do."""

    def __str__(self) -> str:
        return shown(super().__str__())


class AudioError(DenoiserError):
    """A file that cannot be read or written as audio."""


class ConfigError(DenoiserError):
    """A setting with a wrong value, or one that cannot be used here."""


class CheckpointError(DenoiserError):
    """A checkpoint that cannot be used."""


class CorpusError(DenoiserError):
    """A corpus that cannot be fetched, or trained on as it is."""


class DivergedError(DenoiserError):
    """A training whose loss is NaN or infinite."""


class PrunedError(DenoiserError):
    """A run of a sweep that was ended as hopeless; ``best`` is the score it had reached."""

    best: float


class UnfinishedError(DenoiserError):
    """Work of which a part failed; each failure was told in a line of its own already."""

    code = 1


class StopError(KeyboardInterrupt):
    """End by a signal, with the advice how to go on; ``code`` is 128 plus the signal's number, as in a shell."""

    def __init__(self, message: str = "", code: int = 130) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def building(kind: str, table: Mapping[str, T], name: str, arguments: Mapping[str, Any]) -> Iterator[T]:
    """Yield the entry ``name`` of ``table``; ConfigError where there is none, or it refuses ``arguments``."""
    if name not in table:
        raise ConfigError(f"{kind} '{name}' is unknown; there are: {', '.join(sorted(table))}")
    try:
        yield table[name]
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{key}={value}" for key, value in arguments.items())
        problem = str(error).replace(".__init__()", "")
        raise ConfigError(f"{kind} '{name}'{' of ' if given else ''}{given}: {problem}") from error
