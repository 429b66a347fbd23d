"""Campaign of damaged and hostile files.

    python -m tests.campaigns fuzz [inputs=20000] [seed=0] [kinds=wav,ckpt-tree] [only=wav:123] [out=fuzz.txt]

Files of every kind that the program reads are damaged, made to lie or made hostile, and given to it. Allowed is a right
result, or a DenoiserError of one line. Counted as failures: any other exception, a crash of the process, more than 10 s
of computing or 30 s of waiting, more than 1 GB of further memory, anything half-written, an exit code of 0 for a file
that failed. Inputs follow from the seed: ``only=KIND:NUMBER`` tries one again and shows the result.
"""

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from denoiser import errors
from denoiser.cli.arguments import key_values, whole
from denoiser.evaluation import tables
from tests.campaigns.fuzzing import worker
from tests.campaigns.fuzzing.kinds import KINDS

SERVE = worker.serve
COMPUTING, WAITING = 10.0, 30.0  # seconds that an input may take
STARTING = 300.0  # seconds for imports and for what a kind makes first


class Worker:
    """Process that tries inputs, started anew when one has ended it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder  # for its files, which are left there when it dies
        self._start()

    def _start(self) -> None:
        os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HYDRA_FULL_ERROR": "0"}
        processes = get_context("spawn")
        self.pipe, its_end = processes.Pipe()
        self.process = processes.Process(target=SERVE, args=(its_end, self.folder))
        self.process.start()
        its_end.close()
        self.ready: set[str] = set()

    def try_(self, seed: int, kind: str, number: int) -> dict[str, Any]:
        """Return the result of one input, see :mod:`tests.campaigns.fuzzing.worker`."""
        if not self.process.is_alive():
            self.close()
            self._start()
        allowed = (COMPUTING, WAITING) if kind in self.ready else (STARTING, STARTING)
        begin, computed = time.monotonic(), self._computed()
        self.pipe.send((seed, kind, number))
        while not self.pipe.poll(0.5):
            waited, busy = time.monotonic() - begin, self._computed() - computed
            if busy > allowed[0] or waited > allowed[1]:
                self.close()
                return {"result": "failed", "detail": f"a hang: {busy:.0f} s of computing, {waited:.0f} s in all"}
        try:
            answer: dict[str, Any] = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            cause = f"{'signal' if code < 0 else 'exit code'} {abs(code)}"
            return {"result": "failed", "detail": f"the process died: {cause}"}
        self.ready.add(kind)
        return answer

    def _computed(self) -> float:
        """Return the seconds of CPU time so far, with those of its children that have ended."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.pipe.close()
        # It ends where it waits for the next input.
        self.process.join(2.0)
        self.process.kill()
        self.process.join()


@dataclass
class Tally:
    """Results of the inputs of one kind."""

    results: Counter[str] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0  # of CPU time, the most that one took
    grown: int = 0  # bytes, the most that one took

    def add(self, number: int, answer: Mapping[str, Any]) -> None:
        self.results[answer["result"]] += 1
        if answer["result"] == "failed":
            self.failures[number] = str(answer["detail"])
        self.seconds = max(self.seconds, answer.get("seconds", COMPUTING))
        self.grown = max(self.grown, answer.get("grown", 0))


ROUNDS = 20  # each of a part of every kind, so that a campaign that is stopped has tried them all


def campaign(inputs: int, seed: int = 0, kinds: list[str] | None = None) -> Iterator[dict[str, Tally]]:
    """Try about so many inputs, shared out over the kinds; yields the results so far after each round."""
    chosen = kinds or list(KINDS)
    shares = sum(KINDS[kind].share for kind in chosen)
    counts = {kind: max(1, round(inputs * KINDS[kind].share / shares)) for kind in chosen}
    tallies = {kind: Tally() for kind in chosen}
    with working() as process, tqdm(total=sum(counts.values()), unit="input", disable=None) as bar:
        for round_ in range(ROUNDS):
            for kind, count in counts.items():
                for number in range(count * round_ // ROUNDS, count * (round_ + 1) // ROUNDS):
                    tallies[kind].add(number, process.try_(seed, kind, number))
                    bar.update()
                bar.set_postfix(kind=kind, failures=sum(len(t.failures) for t in tallies.values()))
            yield tallies


@contextmanager
def working() -> Iterator[Worker]:
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as folder,
        closing(Worker(folder)) as process,
    ):
        yield process


def table(tallies: Mapping[str, Tally]) -> str:
    rows = []
    for kind, tally in tallies.items():
        counts = [tally.results[key] for key in ("accepted", "refused", "failed")]
        cells = [kind, str(sum(counts)), *map(str, counts), f"{tally.seconds:.1f}", f"{tally.grown / 2**20:.0f}"]
        rows.append(cells)
    totals = [str(sum(int(row[i]) for row in rows)) for i in range(1, 5)]
    most = [f"{max(t.seconds for t in tallies.values()):.1f}", f"{max(t.grown for t in tallies.values()) / 2**20:.0f}"]
    header = ["kind", "inputs", "accepted", "refused", "failures", "CPU-s at most", "MB at most"]
    text = tables.table(header, [*rows, ["all", *totals, *most]])
    for kind, tally in tallies.items():
        text += "".join(f"\nonly={kind}:{number}  {detail}" for number, detail in tally.failures.items())
    return text


def main(arguments: list[str]) -> int:
    defaults = {"inputs": "20000", "seed": "0", "kinds": "", "only": "", "out": ""}
    given = key_values(defaults, str(__doc__), arguments)
    inputs, seed = whole(given, "inputs", 1, 10**9), whole(given, "seed", 0, 10**9)
    if given["only"]:
        kind, _, number = given["only"].partition(":")
        with working() as process:
            answer = process.try_(seed, kind, int(number))
        print(json.dumps(answer, indent=1))
        return int(answer["result"] == "failed")
    kinds = given["kinds"].split(",") if given["kinds"] else list(KINDS)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise errors.ConfigError(f"kinds={unknown[0]}: expected some of {','.join(KINDS)}")
    begin, tallies = time.monotonic(), {}
    for tallies in campaign(inputs, seed, kinds):
        if given["out"]:
            Path(given["out"]).write_text(f"seed {seed}, {time.monotonic() - begin:.0f} s\n{table(tallies)}\n")
    print(f"seed {seed}, {time.monotonic() - begin:.0f} s\n{table(tallies)}")
    return int(any(tally.failures for tally in tallies.values()))
