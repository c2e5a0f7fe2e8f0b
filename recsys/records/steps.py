"""Commands of a record, run one after the other and not again once they are done.

    <folder>/done.jsonl         one line for each finished command: the command, its seconds, its config's digest
    <folder>/<record>.log       what the commands printed

Commands are written as a user types them. A finished one is passed over as long as it, the commands before it and the
config files that they name are the same; changed code is not seen, which is what `again` is for: it removes the run
folders that the record trains in and runs every command. An interrupted command is started anew, and resumes by itself
where it can.
"""

import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from recsys import journal, settings
from recsys.files import remove
from recsys.pipeline.launch import launch


class Steps:
    """What has been done below `folder`, and the doing of the rest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "done.jsonl"

    def run(self, record: str, commands: Sequence[str], again: bool = False) -> float:
        """Run those commands that are not done, all of them with `again`; returns the seconds that all of them took.

        Raises:
            InputError: a command failed; its log is named.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if again:
            for folder in {_run_of(command) for command in commands if _trains(command)}:
                remove(folder)
        done = {} if again else self._done()
        total, key = 0.0, ""
        for number, command in enumerate(commands, 1):
            key = _key(command, key)
            if key not in done:
                print(f"{record} {number}/{len(commands)}: {command}", flush=True)
                done[key] = self._launch(record, command)
                self._note(key, command, done[key])
            total += done[key]
        return total

    def _launch(self, record: str, command: str) -> float:
        return launch(command, self.folder / f"{record}.log")

    def _done(self) -> dict[str, float]:
        """Seconds by key."""
        whole = (entry for entry in journal.entries(self.journal) if {"key", "seconds"} <= entry.keys())
        return {entry["key"]: float(entry["seconds"]) for entry in whole}

    def _note(self, key: str, command: str, seconds: float) -> None:
        journal.append(self.journal, {"key": key, "command": command, "seconds": round(seconds, 1)})


def _trains(command: str) -> bool:
    return any(f" tools.{tool} " in command for tool in ("train", "rivals", "daily"))


def _run_of(command: str) -> Path:
    """The run folder of a command's config with its overrides."""
    words = shlex.split(command)
    config = next(word for word in words if word.endswith(".yaml"))
    after = words[words.index(config) + 1 :]
    given = [word for k, word in enumerate(after) if not after[k - 1].startswith("--")]
    overrides = [word for word in given if "=" in word or word.endswith(".yaml")]
    return Path(settings.load(config, overrides).run)


def _key(command: str, before: str) -> str:
    """Digest of the command, of the config files that it names, and of the commands before it."""
    digest = hashlib.sha256(f"{before} {command}".encode())
    for word in shlex.split(command):
        if word.endswith(".yaml") and Path(word).is_file():
            digest.update(Path(word).read_bytes())
    return digest.hexdigest()[:16]
