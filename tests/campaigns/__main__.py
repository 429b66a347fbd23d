"""Long tests that are run by hand, from the root of the repository:

    python -m tests.campaigns fuzz  [inputs=20000] [seed=0] [kinds=wav,ckpt-tree] [only=wav:123] [out=fuzz.txt]
    python -m tests.campaigns kills [kills=50] [seed=0] [folder=FOLDER]
    python -m tests.campaigns load  [threads=16] [minutes=10] [ckpt=small] [only=api,page]

``fuzz`` feeds damaged and hostile files to everything that reads files, ``kills`` ends trainings, sweeps and folders of
files with kill -9 at random moments and starts them again, and ``load`` lets many threads enhance at once. Each prints
a table and exits 1 where something is wrong. ``--help`` behind a name says more. Linux only: memory and processor time
are read from /proc.

``make test`` leaves this folder out. ``pytest tests/campaigns/test_campaigns.py`` runs each campaign in small.
"""

import importlib
import os
import sys

CAMPAIGNS = ("fuzz", "kills", "load")


def main() -> int:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in CAMPAIGNS:
        print(__doc__)
        return 0 if set(arguments) & {"--help", "-h"} else 2
    # Read once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from denoiser import console

    campaign = importlib.import_module(f"tests.campaigns.{arguments[0]}")
    with console.one_line():
        return int(campaign.main(arguments[1:]))
    raise AssertionError("one_line() ends the process")


if __name__ == "__main__":
    sys.exit(main())
