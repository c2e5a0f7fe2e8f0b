"""Run the tools one after the other; what is done is not done again, what an input has changed for is.

PIPELINE says which tools run and with what switches (`configs/demo.yaml`, `configs/pipeline.yaml`). Config files and
keys behind it are given to every step. A step is done once it has run with these arguments, these values of the config
and these inputs, and its results are as it left them. A killed pipeline goes on where it was. Changed code is not seen:
say --from.

    python -m tools.pipeline configs/demo.yaml                      # or: make demo
    python -m tools.pipeline configs/pipeline.yaml configs/own-logs.yaml --dry-run
    python -m tools.pipeline configs/pipeline.yaml configs/own-logs.yaml run=runs/mine train.epochs=2 --until predict

What each step printed is in <run>/pipeline/<step>.log. Each step is also a command of its own, which --dry-run shows. A
step that an input has changed for begins anew: what it had made from the old one is removed, a trained run as well.
"""

import argparse

from recsys import settings
from recsys.config_pipeline import Pipeline
from recsys.pipeline import run, steps
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, do what has to be done."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="every key of a pipeline's file, with its default:\n" + "\n".join(settings.describe(Pipeline)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pipeline", metavar="PIPELINE", help="a YAML file such as configs/demo.yaml")
    parser.add_argument("words", nargs="*", metavar="CONFIG, key=value", help="given to every step")
    parser.add_argument("--from", dest="first", metavar="STEP", help="do this step and all after it again, done or not")
    parser.add_argument("--until", metavar="STEP", help="end after this step")
    parser.add_argument("--dry-run", action="store_true", help="say what is done, what would run, and why")
    parser.add_argument("--nproc", type=int, metavar="N", help="ranks, in place of the file's")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.nproc is not None and arguments.nproc < 1:
        parser.error("--nproc: expected 1 or more")
    folder, commands = steps.read(arguments.pipeline, arguments.words, arguments.nproc)
    act = run.show if arguments.dry_run else run.run
    act(folder, commands, arguments.first, arguments.until)


if __name__ == "__main__":
    _cli.run(main)
