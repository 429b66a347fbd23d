"""One file over HTTP, however often the connection breaks.

httpx brings connections, TLS, redirects, proxies and timeouts; going on with a broken body by Range, backing off and
judging what came are written here, since no library does them: pooch starts over, urllib3 retries up to the headers.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
from tqdm import tqdm

from denoiser import __version__
from denoiser.errors import DownloadError

PROGRESS = 1 << 20  # bytes more than ever before that make an attempt a success, however it ends
BUSY = (408, 425, 429)  # of the client errors, those that pass


@dataclass(frozen=True)
class Patience:
    """How long a server is tried.

    Args:
        attempts: that end early without progress, in a row, before giving up.
        wait: seconds before the second attempt, doubled before each further one.
        longest: seconds that a server's Retry-After may ask for.
        timeout: seconds without a byte.
    """

    attempts: int = 6
    wait: float = 1.0
    longest: float = 300.0
    timeout: float = 60.0


class _AgainError(Exception):
    """An attempt that may go better next time, ``wait`` seconds from now at the earliest."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def transfer(url: str, path: Path, limit: int, magic: bytes = b"", patience: Patience = Patience()) -> None:
    """Download ``url`` to ``path``, which appears only when whole; a part left by an earlier call is gone on with.

    Only GET is used. The part lies beside, in ``<path>.part``; ``<path>.part.json`` knows which version it is of.

    Args:
        url: what is fetched; redirects are followed.
        path: in a folder that is there.
        limit: bytes; more are refused.
        magic: the bytes that the file begins with.
        patience: with a server that fails.

    Raises:
        DownloadError: the server refuses, gives up or sends something else, or the disk has no room.
        OSError: the disk cannot be written; what came is kept.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)  # else every request is a line where Hydra logs
    part = Path(f"{path}.part")
    furthest, failures = _size(part), 0
    try:
        client = httpx.Client(
            follow_redirects=True,
            timeout=patience.timeout,
            headers={"User-Agent": f"denoiser/{__version__}", "Accept-Encoding": "identity"},
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise DownloadError(f"the proxy that the environment names cannot be used ({error})") from error
    with client:
        while True:
            try:
                _attempt(client, url, part, limit, magic)
                break
            except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL, ValueError) as error:
                raise DownloadError(f"{url}: cannot be fetched ({error}); check the address") from error
            except (httpx.TransportError, _AgainError) as error:
                reason = str(error) or type(error).__name__
                size = _size(part)
                failures += 1
                if size >= furthest + PROGRESS:
                    furthest, failures = size, 1
                kept = f"; {size / 1e6:.1f} MB are kept, the same command goes on from there" if size else ""
                if failures >= patience.attempts:
                    raise DownloadError(
                        f"{url}: {failures} attempts in a row failed, the last: {reason}{kept}"
                    ) from error
                asked = error.wait if isinstance(error, _AgainError) else 0.0
                if asked > patience.longest:
                    raise DownloadError(f"{url}: {reason}, to be tried again in {asked:.0f} s{kept}") from error
                wait = max(asked, patience.wait * 2 ** (failures - 1))
                print(f"{path.name}: {reason}; again in {wait:.0f} s", file=sys.stderr)
                time.sleep(wait)
    part.replace(path)
    _version(part).unlink(missing_ok=True)


def _attempt(client: httpx.Client, url: str, part: Path, limit: int, magic: bytes) -> None:
    """One request: append to the part, or start it over; returns when it is whole."""
    have, (validator, total) = _size(part), _read_version(part)
    if have and have == total:
        return
    headers = {}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:  # else only the sum of the whole file can tell that it has changed
            headers["If-Range"] = validator
    with client.stream("GET", url, headers=headers) as response:
        status = response.status_code
        sent = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
        first, whole = sent.groups() if sent else (None, None)
        if status == 416 and have and whole == str(have):  # its length was not known when it came
            return
        if status == 416 or (status == 206 and (first != str(have) or (total and whole not in (str(total), "*")))):
            _start_over(part, None, None)
            raise _AgainError(f"HTTP {status} does not go on where the part ends, starting over")
        phrase = f"HTTP {status} {response.reason_phrase}".strip()
        if status >= 500 or status in BUSY:
            raise _AgainError(phrase, _retry_after(response.headers.get("Retry-After", "")))
        if status not in (200, 206):
            raise DownloadError(f"{url}: {phrase}; check the address, or name a mirror")
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise DownloadError(
                f"{url}: a web page (text/html) came instead of the file; the site may be down or have moved, "
                "open it in a browser, or name a mirror"
            )
        if status == 200:
            length = response.headers.get("Content-Length", "")
            have, total = 0, int(length) if length.isdecimal() else None
            _start_over(part, _validator(response.headers), total)
        elif whole and whole.isdecimal():
            total = int(whole)
        if (total or 0) > limit:
            raise _another(part, f"{url}: is {total} bytes, expected at most {limit}")
        if (missing := (total or 0) - have) > (free := shutil.disk_usage(part.parent).free):
            raise DownloadError(
                f"{part.parent}: {missing / 1e9:.2f} GB are still to come and {free / 1e9:.2f} GB are free; free some"
            )
        with (
            open(part, "ab") as file,
            tqdm(total=total, initial=have, desc=part.stem, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for chunk in response.iter_raw():
                if have < len(magic) and not chunk.startswith(magic[have : have + len(chunk)]):
                    raise _another(part, f"{url}: begins with {chunk[:16]!r}, expected {magic!r}")
                have += len(chunk)
                if have > limit:
                    raise _another(part, f"{url}: more than {limit} bytes came")
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and have != total:
        raise _AgainError(f"{have} of {total} bytes came")


def _another(part: Path, found: str) -> DownloadError:
    """The error for what is not the file, which is thrown away."""
    for path in (part, _version(part)):
        path.unlink(missing_ok=True)
    return DownloadError(f"{found}; this is another file, or an error page: check the address, or name a mirror")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _version(part: Path) -> Path:
    return Path(f"{part}.json")


def _read_version(part: Path) -> tuple[str | None, int | None]:
    """Validator and length of the file that the part is of, as far as known."""
    try:
        found = json.loads(_version(part).read_text())
        return found["validator"], found["total"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def _start_over(part: Path, validator: str | None, total: int | None) -> None:
    """Empty the part, then say what will be in it: in this order, so that no byte is ever taken for another's."""
    part.write_bytes(b"")
    _version(part).write_text(json.dumps({"validator": validator, "total": total}))


def _validator(headers: httpx.Headers) -> str | None:
    """What If-Range may be asked with: a strong ETag, else the date (RFC 9110, 13.1.5)."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified")


def _retry_after(text: str) -> float:
    """Seconds, from seconds or a date (RFC 9110, 10.2.3); 0 where it is neither."""
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
