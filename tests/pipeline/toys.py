"""Steps that write what they have read: a script in place of the tools, and contracts between its calls."""

from pathlib import Path

from recsys.pipeline.contract import Contract
from recsys.pipeline.steps import Command

SCRIPT = """
import os, signal, sys
from pathlib import Path

name, value, reads, writes = sys.argv[1], sys.argv[2], sys.argv[3].split(","), sys.argv[4].split(",")
with open("told", "a") as told:
    told.write(f"{name}\\n")
if Path(f"fail-{name}").exists():
    sys.exit(f"{name} has no heart for it")
text = name + value + "".join(Path(path).read_text() for path in reads if path and Path(path).exists())
for path in writes:
    before = Path(path).read_text() if path == "log" and Path(path).exists() else ""
    Path(path).write_text(before + text)
    if Path(f"kill-{name}").exists():
        Path(f"kill-{name}").unlink()
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()  # the pipeline's end ends this
    if Path(f"state-{name}").exists():
        assert Path(f"state-{name}").read_text() == value, "begun with another value"
    Path(f"state-{name}").write_text(value)
print(f"{name} has said its last")
"""


def step(name: str, reads: str, writes: str, value: str = "", anew: str = "") -> Command:
    """A call of the script; paths are separated by commas. It refuses to go on with what another value has begun.

    anew: paths that are removed, besides, before it begins with other inputs.
    """
    command = f"python toy.py {name} {value or '-'} {reads} {writes}"
    begins = dict.fromkeys([f"state-{name}", *filter(None, anew.split(","))], ())
    agreed = Contract(reads=tuple(reads.split(",")), writes=tuple(writes.split(",")), begins=begins)
    return Command(name, command, {"value": value or "-"}, "", agreed)


def write() -> None:
    """The script and the raw input, into the working directory."""
    Path("toy.py").write_text(SCRIPT)
    Path("raw").write_text("raw")


def told() -> list[str]:
    """The steps that have begun since this was last asked."""
    path = Path("told")
    names = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return names
