"""A real vLLM server on this machine, in the environment whose interpreter is VLLM_PYTHON."""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.request import urlopen

PYTHON = os.environ.get("VLLM_PYTHON")
TOKENS = 256
"""Of a prompt, at most."""
# In float32, so that answers differ by rounding alone. A block is the least that two prompts can share; 16 is refused.
OPTIONS = (
    f"--host 127.0.0.1 --dtype float32 --max-model-len {TOKENS} --max-num-seqs 32 --enforce-eager "
    "--enable-prefix-caching --block-size 32 --logprobs-mode processed_logprobs"
)
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "PYTHONPATH": "",
}


class Server:
    """One that starts when it is made."""

    def __init__(self, model: Path, log: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._command = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
        self._command += [*OPTIONS.split(), "--port", str(self.port), *options]
        self.start()

    def start(self) -> None:
        """Start it at its port; it takes a minute or two to be up."""
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, env=os.environ | ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> "Server":
        """Until it is up.

        Raises:
            RuntimeError: it ended instead; the message has the end of its log.
        """
        while True:
            try:
                with urlopen(f"{self.url}/health"):
                    return self
            except OSError:
                if self._process.poll() is not None:
                    raise RuntimeError(f"no vLLM server: {self._log.read_text()[-3000:]}") from None
                time.sleep(0.2)

    def kill(self) -> None:
        """kill -9 of all its processes."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def answered(self) -> int:
        """How many prompts it has answered since it started."""
        with urlopen(f"{self.url}/metrics") as told:
            counts = re.findall(r"^vllm:request_success_total\{.*\} (\S+)$", told.read().decode(), re.MULTILINE)
        return int(sum(map(float, counts)))
