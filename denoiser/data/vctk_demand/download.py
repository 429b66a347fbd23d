"""Download of one published ZIP archive, and its unpacking."""

import hashlib
import shutil
import sys
import time
import zipfile
from http.client import HTTPException, InvalidURL
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from denoiser.errors import CorpusError

ATTEMPTS = 6  # in a row without progress
WAIT = 1.0  # s before the second attempt, doubled before each further one
TIMEOUT = 60.0  # s without a byte
BLOCK = 1 << 20  # bytes in memory at once


class _TransientError(Exception):
    """A failure that may pass."""


def fetch_archive(url: str, path: Path, md5: str) -> None:
    """Download a file and compare its MD5 sum. Raises CorpusError if it is wrong or the server refuses."""
    if not path.is_file():
        download(url, path)
    if (found := md5_of(path)) != md5:
        path.unlink()
        problem = f"MD5 {found}, expected {md5}: not the published file"
        raise CorpusError(f"{url}: {problem}; try again, or name a mirror by url=")


def download(url: str, path: Path) -> None:
    """Download a file by GET. If ``<path>.part`` is there, from an earlier call, only the rest is requested."""
    part = Path(f"{path}.part")
    furthest, failures = _size(part), 0
    while True:
        try:
            _request_rest(url, part)
            part.replace(path)
            return
        except _TransientError as error:
            size = _size(part)
            failures = 1 if size > furthest else failures + 1
            furthest = max(furthest, size)
            if failures >= ATTEMPTS:
                kept = f"{size / 1e6:.1f} MB are kept, the same command continues from there"
                raise CorpusError(f"{url}: {failures} attempts in a row failed, the last: {error}; {kept}") from error
            wait = WAIT * 2 ** (failures - 1)
            print(f"{path.name}: {error}; next attempt in {wait:.0f} s", file=sys.stderr)
            time.sleep(wait)


def _request_rest(url: str, part: Path) -> None:
    """Complete the part by one request, or start it over."""
    start = _size(part)
    with _open(url, start) as response:
        content_range = response.headers.get("Content-Range", "")
        if response.status == 416 and content_range == f"bytes */{start}":
            return
        if response.status in (206, 416) and not content_range.startswith(f"bytes {start}-"):
            part.unlink()
            raise _TransientError(f"HTTP {response.status} does not continue the part, starting over")
        if response.headers.get_content_type() == "text/html":
            raise CorpusError(f"{url}: a web page (text/html) came instead of the file; name a mirror by url=")
        if response.status == 200:
            start = 0
        total = None if response.length is None else start + response.length
        with (
            open(part, "ab" if start else "wb") as file,
            tqdm(total=total, initial=start, desc=part.stem, unit="B", unit_scale=True, disable=None) as bar,
        ):
            while block := _receive(response):
                file.write(block)
                bar.update(len(block))
    if total not in (None, _size(part)):
        raise _TransientError(f"{_size(part)} of {total} bytes came")


def _open(url: str, start: int) -> Any:
    """Return the response to a GET of the file from byte ``start`` on, with status 200, 206 or 416."""
    headers = {"User-Agent": "denoiser", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        return urlopen(Request(url, headers=headers), timeout=TIMEOUT)  # noqa: S310, a person names the address
    except HTTPError as error:
        if error.code == 416:
            return error
        problem = f"HTTP {error.code} {error.reason}"
        # These client errors pass: timeout, too early, too many requests.
        if error.code >= 500 or error.code in (408, 425, 429):
            raise _TransientError(problem) from error
        raise CorpusError(f"{url}: {problem}; check the address, or name a mirror by url=") from error
    except (ValueError, OverflowError, InvalidURL) as error:
        raise CorpusError(f"{url}: cannot be requested ({error}); check the address") from error
    except (OSError, HTTPException) as error:
        raise _TransientError(str(error) or type(error).__name__) from error


def _receive(response: Any) -> bytes:
    """Return the next bytes of a response; an error of the connection is transient, unlike one of the disk."""
    try:
        return response.read1(BLOCK)
    except (OSError, HTTPException) as error:
        raise _TransientError(str(error) or type(error).__name__) from error


def unpack(path: Path, folder: Path, suffix: str) -> None:
    """Write the files of a ZIP archive whose names end in ``suffix`` side by side into ``folder``, or CorpusError."""
    try:
        with zipfile.ZipFile(path) as archive:
            for info in tqdm(archive.infolist(), f"unpacking {path.name}", leave=False, unit="file", disable=None):
                name = PurePosixPath(info.filename.replace("\\", "/"))
                if name.is_absolute() or ".." in name.parts or ":" in info.filename:
                    raise CorpusError(f"{path}: {info.filename!r} in it lies outside of the folder; refused")
                if is_wanted(name.name, suffix):
                    with archive.open(info) as source, open(folder / name.name, "xb") as target:
                        shutil.copyfileobj(source, target)
    except zipfile.BadZipFile as error:
        raise CorpusError(f"{path}: is damaged ({error})") from error


def is_wanted(name: str, suffix: str) -> bool:
    """Return True for a file of the corpus, False for other types and for the hidden files that macOS adds."""
    return name.lower().endswith(suffix) and not name.startswith(".")


def md5_of(path: Path) -> str:
    """Return the MD5 sum of a file, in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
