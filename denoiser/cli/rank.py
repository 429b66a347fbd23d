"""The command ``python -m denoiser rank``, which compares training runs."""

from collections.abc import Sequence
from pathlib import Path

from denoiser import errors, settings
from denoiser.cli.arguments import choice, key_values

USAGE = """\
Rank training runs: python -m denoiser rank runs=FOLDER[,FOLDER...]

  runs=     folders, searched at any depth for run.json
  out=      the folder for ranking.csv, ranking.md and ranking.html (the first of runs)
  compare=  two configurations, A,B, to compare on the test files: by their places in the table, their names or
            the folders of their runs (the best by validation with each other)
  base=     a configuration, given likewise: write only ablation.md, the gain of each change from it; out= may then be
            a name that ends in .md
  page=     false: no ranking.html (true)
  sounds=   false: no clips to listen to on the page (true)"""


def main(arguments: Sequence[str]) -> None:
    defaults = {"runs": "", "out": "", "compare": "", "base": "", "page": "true", "sounds": "true"}
    given = key_values(defaults, USAGE, arguments)
    settings.require(given, "runs")
    flags = {key: choice(given, key, "true", "false") == "true" for key in ("page", "sounds")}
    pair = [settings.expanded(name) for name in given["compare"].split(",")] if given["compare"] else []
    if len(pair) not in (0, 2):
        raise errors.ConfigError(f"compare={given['compare']}: expected two configurations, A,B")
    several = [settings.expanded(folder) for folder in given["runs"].split(",")]
    folders = [given["runs"]] if Path(given["runs"]).is_dir() else several

    # Lightning takes seconds to import: a mistake in the settings is told before that.
    from denoiser.ranking.rank import rank

    rank(folders, given["out"], pair, flags["page"], flags["sounds"], given["base"])
