"""Train in a process of its own and say what memory it took: `python -m recsys.bench.peak CONFIG`."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from recsys import settings
from recsys.config import Config
from recsys.distributed import one_thread, process_group
from recsys.errors import InputError
from recsys.train import train


def peak_of_training(config: Config) -> dict[str, int]:
    """The most `bytes` resident, and `rows` trained on, of `recsys.train.train` on one rank, from start to end.

    Raises:
        InputError: it failed; it has said why.
    """
    path = Path(config.run).with_suffix(".yaml")
    settings.dump(config, path)
    done = subprocess.run(
        [sys.executable, "-m", "recsys.bench.peak", str(path)], env=one_thread(), stdout=subprocess.PIPE
    )
    if done.returncode:
        raise InputError(f"{path}: training failed")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _peak() -> int:
    # Not getrusage's: that counts the process that started this one.
    told = Path(f"/proc/{os.getpid()}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", told)
    assert found
    return int(found[1]) * 1024


def _main(path: str) -> None:
    config = settings.load(path)
    with process_group() as ranks:
        progress = train(config, ranks)
        print(json.dumps({"bytes": _peak(), "rows": progress.step * config.train.batch_size}))


if __name__ == "__main__":
    _main(sys.argv[1])
