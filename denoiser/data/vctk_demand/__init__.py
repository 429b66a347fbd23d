"""The VCTK-DEMAND corpus: download, verification and unpacking.

C. Valentini-Botinhao, "Noisy speech database for training speech enhancement algorithms and TTS models",
Edinburgh DataShare, doi 10.7488/ds/2117, CC BY 4.0. The MD5 sums are those published there.
"""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from denoiser import filesystem
from denoiser.data.vctk_demand import download
from denoiser.errors import CorpusError

URL = "https://datashare.ed.ac.uk/bitstream/handle/10283/2791"


@dataclass(frozen=True)
class Archive:
    """A published ZIP file ``<name>.zip`` and the folder ``<name>`` it is unpacked to."""

    name: str
    md5: str  # of the ZIP file, in hexadecimal
    size: int  # of the ZIP file, bytes, about
    unpacked: int  # size of its files, bytes, about
    files: int | None  # number of files, None if it is not known
    suffix: str = ".wav"  # of their names


# Unpacked: hours x 3600 s x 48 kHz x 2 bytes; 18.7 h for 56 speakers, from the mean length of the others.
ARCHIVES = (
    Archive("logfiles", "0d16f5b6afe12d64238d1e4a0e6ff6e8", 1_000_000, 5_000_000, None, ".txt"),
    Archive("clean_testset_wav", "34eb1c0ba7ef667e9b966866c542fc16", 147_000_000, 200_000_000, 824),
    Archive("noisy_testset_wav", "fb1b86caa31e8ba5b506c0c64da9aab5", 163_000_000, 200_000_000, 824),
    Archive("noisy_trainset_28spk_wav", "1fca9e8bafb8cd069f6653c6d92f9e9c", 2_640_000_000, 3_300_000_000, 11_572),
    Archive("clean_trainset_28spk_wav", "d2d5a45ec32f8fcbf201bde0447e20ba", 2_320_000_000, 3_300_000_000, 11_572),
    Archive("noisy_trainset_56spk_wav", "b26382542716642b8f2845880af69cf0", 5_240_000_000, 6_600_000_000, 23_075),
    Archive("clean_trainset_56spk_wav", "c351cbc9db30e41686c988c19f0e1475", 4_440_000_000, 6_600_000_000, 23_075),
)


def select(speakers: int, part: str, archives: Sequence[Archive] = ARCHIVES) -> list[Archive]:
    """Return the archives of a training set and a part; arguments as in :func:`fetch`."""
    sets = ["logfiles", "testset"] if part == "test" else ["logfiles", "testset", f"trainset_{speakers}spk"]
    return [archive for archive in archives if any(name in archive.name for name in sets)]


def is_complete(root: Path, archive: Archive) -> bool:
    """Return True if the folder of the archive holds as many files as the archive, False if there is no such folder.

    Raises CorpusError if the folder holds something else. It may be a person's, and is never replaced.
    """
    folder = root / archive.name
    if not folder.exists():
        return False
    count = sum(download.is_wanted(path.name, archive.suffix) and path.stat().st_size > 0 for path in folder.iterdir())
    if count == 0 or archive.files not in (None, count):
        found = f"holds {count} {archive.suffix} files that are not empty, expected {archive.files or 'some'}"
        raise CorpusError(f"{folder}: {found}; move it away to download it, or train on it without data.download")
    return True


def fetch(
    root: Path, *, speakers: int = 28, part: str = "all", url: str = URL, archives: Sequence[Archive] = ARCHIVES
) -> None:
    """Download, verify and unpack what ``root`` lacks of the corpus; a complete corpus needs no connection.

    This may be killed at any moment and called again; a second process waits for the first. ZIP files in ``root`` are
    used, and stay. ``speakers`` are those of the training set, 28 or 56; ``part`` is ``all``, or ``test`` for the test
    set alone; ``url`` the folder of the ``archives`` on their server.

    Raises CorpusError if a folder holds other files, an archive cannot be had or is another one, or the disk fails.
    """
    root = root.expanduser()
    work, lock = root / ".download", root / ".download.lock"
    wanted = select(speakers, part, archives)
    try:
        if work.exists() or not all(is_complete(root, archive) for archive in wanted):
            with filesystem.locked(lock, wait=True):
                work.mkdir(exist_ok=True)
                _fetch_missing(root, work, wanted, url)
                # The lock stays: of two processes, one could wait for the deleted file while another locks a new one.
                # Parts of other archives stay, too.
                with suppress(OSError):
                    work.rmdir()
    except OSError as error:
        remedy = "what was downloaded is kept, and the same command continues from there"
        raise CorpusError(f"{root}: cannot be used ({error.strerror or error}); {remedy}") from error
    print(f"{root}: complete: {', '.join(archive.name for archive in wanted)}")


def _fetch_missing(root: Path, work: Path, archives: Sequence[Archive], url: str) -> None:
    missing = [archive for archive in archives if not is_complete(root, archive)]
    largest = max((archive.size for archive in missing), default=0)
    present = sum(path.stat().st_size for path in work.iterdir())
    needed = largest + sum(archive.unpacked for archive in missing) - present
    free = shutil.disk_usage(root).free
    if needed > free:
        raise CorpusError(f"{root}: about {needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free")
    for archive in archives:
        name = f"{archive.name}.zip"
        source, downloaded = root / name, work / name
        if archive in missing:
            if not source.is_file() or download.md5_of(source) != archive.md5:
                print(f"{name}: downloading, about {archive.size / 1e6:.0f} MB", flush=True)
                download.fetch_archive(f"{url.rstrip('/')}/{name}", downloaded, archive.md5)
                source = downloaded
            with filesystem.atomic_folder(root / archive.name) as folder:
                download.unpack(source, folder, archive.suffix)
                folder.rename(root / archive.name)
            print(f"{root / archive.name}: verified and unpacked")
        downloaded.unlink(missing_ok=True)
