"""Names of the folder of a training run and of the files in it. This module loads no torch, so it is fast."""

from datetime import datetime
from pathlib import Path

CHECKPOINTS = "checkpoints"
SPLIT = "split.json"  # who trains, who validates, who tests
LOCK = ".lock"  # also in the folder of a sweep: held by the process that works there


def run_folder(parent: str, ckpt_path: str | None, seed: int | None = None) -> str:
    """Return the folder for a run below ``parent``: that of the checkpoint it resumes, else a new one of time and seed.

    ``last`` is the run that was last at work, even if it had no checkpoint yet; one without a split never began.
    A checkpoint may be given as the folder of its run.
    """
    if ckpt_path == "last":
        signs = [sign for name in (f"{CHECKPOINTS}/last.ckpt", SPLIT) for sign in Path(parent).glob(f"*/{name}")]
        if signs:
            newest = max(signs, key=lambda sign: sign.stat().st_mtime)
            return str(Path(parent, newest.relative_to(parent).parts[0]))
    elif ckpt_path and Path(ckpt_path, CHECKPOINTS).is_dir():
        return str(Path(ckpt_path))
    elif ckpt_path and (folder := Path(str(ckpt_path)).parent).name == CHECKPOINTS:
        return str(folder.parent)
    # To the microsecond, as a loop of a shell starts several runs within one second.
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    stamp = Path(parent, now + ("" if seed is None else f"_seed{seed}"))
    number, folder = 1, stamp
    while folder.exists():
        number += 1
        folder = stamp.with_name(f"{stamp.name}_{number}")
    return str(folder)
