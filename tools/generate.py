"""Generate a log of any size: Zipf users and items, interests that drift, new items every day, texts, known chances.

    python -m tools.generate configs/generate.yaml
    python -m tools.generate configs/generate.yaml days=8 users=1000000 items=100000 rows_a_day=5000000

Days that are there stay as they are, so days=9 afterwards adds one. configs/generated.yaml reads the log.
"""

from pathlib import Path

from recsys import settings
from recsys.config_generate import Generate
from recsys.generate.truth import bayes_auc
from recsys.generate.write import generate
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, generate, say where the log is and how well anybody could do on its last day."""
    arguments = _cli.parser(__doc__, Generate).parse_intermixed_args(argv)
    config = settings.load_as(Generate, arguments.config, arguments.overrides)
    made = generate(config)
    best = bayes_auc(Path(config.path), config.days - 1)
    print(f"{config.days} days of {config.rows_a_day:,} rows, {made} of them made now")
    print(f"AUC of the last day's own chances: {best.value:.4f}")
    print(f"log: {config.path}")


if __name__ == "__main__":
    _cli.run(main)
