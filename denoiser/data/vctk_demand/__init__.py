"""VCTK-DEMAND in one command: ``python -m denoiser download root=FOLDER`` downloads, verifies and unpacks it.

The corpus: C. Valentini-Botinhao, "Noisy speech database for training speech enhancement algorithms and TTS models",
Edinburgh DataShare, doi 10.7488/ds/2117, CC BY 4.0; the MD5 sums are those published there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from denoiser.data.vctk_demand.corpus import Archive, complete
from denoiser.errors import ConfigError

URL = "https://datashare.ed.ac.uk/bitstream/handle/10283/2791"


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


def select(speakers: int, part: str, archives: Sequence[Archive]) -> list[Archive]:
    """Those of the archives that are asked for; arguments and ConfigError as in :func:`fetch`."""
    if speakers not in (28, 56) or part not in ("all", "test"):
        raise ConfigError(f"speakers={speakers} part={part}: expected 28 or 56, and all or test")
    sets = ["logfiles", "testset", *([f"trainset_{speakers}spk"] if part == "all" else [])]
    return [archive for archive in archives if any(name in archive.name for name in sets)]


def fetch(
    root: Path,
    *,
    speakers: int = 28,
    part: str = "all",
    keep_archives: bool = False,
    url: str | None = None,
    archives: Sequence[Archive] | None = None,
) -> None:
    """Make ``root`` hold the corpus, verified, as :func:`~denoiser.data.vctk_demand.corpus.complete` does.

    Args:
        root: folder of the corpus.
        speakers: of the training set, 28 or 56.
        part: ``all``, or ``test`` for the test set alone.
        keep_archives: keep the ZIP files, in ``root``.
        url: the folder of the archives on their server, by default :data:`URL`.
        archives: what is published; by default :data:`ARCHIVES`.

    Raises ConfigError for a setting that has no meaning, CorpusError and DownloadError as ``complete`` does.
    """
    wanted = select(speakers, part, ARCHIVES if archives is None else archives)
    complete(Path(root).expanduser(), wanted, url or URL, keep_archives)
