r"""Draw what a run has shown: one HTML page that needs no network, and every figure as a PNG.

    python -m tools.report configs/movielens-1m.yaml
    python -m tools.report runs/demo/config.yaml --scores idproxy=runs/demo-idproxy/scores/test

Judge the run first (tools.evaluate). Figures whose inputs are not there are left out, and named with the command that
makes them.
"""

import shlex
from pathlib import Path

from recsys.evaluate import systems
from recsys.report.write import write
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, draw, say where the page is."""
    parser = _cli.parser(__doc__)
    parser.add_argument(
        "--scores", action="append", default=[], metavar="NAME=PATH", help="predictions that lie outside the run"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: <run>/report")
    arguments = parser.parse_intermixed_args(argv)
    words = shlex.join([arguments.config, *arguments.overrides])
    print(f"report: {write(_cli.config_of(arguments), words, systems.named(arguments.scores), arguments.out)}")


if __name__ == "__main__":
    _cli.run(main)
