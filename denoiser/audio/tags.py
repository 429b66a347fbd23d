"""Tags of a sound file: title, artist and others, as texts."""

from __future__ import annotations

from collections.abc import Mapping

TAGS = ("title", "artist", "album", "tracknumber", "date", "genre", "comment", "copyright", "license", "software")
MAX_BYTES = 2000  # of UTF-8; longer ones break a WAV


def select_tags(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the non-empty TAGS among ``texts``, each cut to the bytes that every format can hold."""
    cut = {name: texts.get(name, "").encode()[:MAX_BYTES].decode(errors="ignore") for name in TAGS}
    return {name: text for name, text in cut.items() if text}
