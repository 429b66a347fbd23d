"""The command ``python -m denoiser download``, which fetches VCTK-DEMAND."""

from collections.abc import Sequence
from pathlib import Path

from denoiser import console, settings
from denoiser.cli.arguments import choice, key_values
from denoiser.data.vctk_demand import ARCHIVES, URL, Archive, fetch
from denoiser.errors import ConfigError

HELP = f"""\
Download, verify and unpack VCTK-DEMAND: python -m denoiser download root=FOLDER

  root=           the folder for the corpus, created if needed
  speakers=       28 or 56: the training set (28)
  part=           all, or test: the test set alone (all)
  url=            a mirror of {URL}

                to download   on disk, at most   on disk, at the end
  28 speakers        5.3 GB             9.6 GB                7.0 GB
  56 speakers         10 GB              19 GB                 14 GB
  the test set       0.3 GB             0.6 GB                0.4 GB

After an interruption the same command continues; if the corpus is complete it does nothing. Each ZIP file is checked by
its MD5 and deleted when it is unpacked; ZIP files that are in root already are used and kept. The corpus is by
C. Valentini-Botinhao, CC BY 4.0, doi 10.7488/ds/2117."""


def main(arguments: Sequence[str], archives: Sequence[Archive] = ARCHIVES) -> None:
    """Run the command with these arguments; ``archives`` as in :func:`fetch`."""
    with console.one_line():
        defaults = {"root": "", "speakers": "28", "part": "all", "url": URL}
        given = key_values(defaults, HELP, arguments)
        settings.require(given, "root")
        if not given["url"].startswith(("http://", "https://")):
            raise ConfigError(f"url={given['url']}: expected an address that begins with https:// or http://")
        fetch(
            Path(given["root"]),
            speakers=int(choice(given, "speakers", "28", "56")),
            part=choice(given, "part", "all", "test"),
            url=given["url"],
            archives=archives,
        )
