"""A server as a process of its own, for tests and the bench."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys import settings
from recsys.config import Config


@contextmanager
def started(config: Config) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`tools.serve` of a config whose port is 0, and the `host:port` where it listens; it ends with the block.

    Raises:
        RuntimeError: it does not start; it has said why.
    """
    path = Path(config.run) / "serve.yaml"
    settings.dump(config, path)
    command = [sys.executable, "-m", "tools.serve", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline() if process.stdout else ""
            if not said.startswith("serving: http://"):
                raise RuntimeError(f"the server did not start: {said}")
            yield process, said.strip().removeprefix("serving: http://")
        finally:
            process.terminate()
