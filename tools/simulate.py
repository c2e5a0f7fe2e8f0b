"""Let a language model play the users, and the rows of cold items learn from it (ColdLLM, LLM-InS).

The ranker of the config must be trained and its test rows scored (tools.predict). Cold items are those without a row in
split=train.

torchrun --nproc-per-node 2 -m tools.simulate configs/movielens-1m.yaml
python -m tools.simulate configs/movielens-1m.yaml simulator.funnel.items=60 simulator.funnel.candidates=20

That is four stages, each of which can be asked for by name, and resumes where it was killed:

python -m tools.simulate tune CONFIG      # LoRA: the judge learns of the training interactions
python -m tools.simulate filter CONFIG    # vectors of users and items, to find an item's candidates by
python -m tools.simulate users CONFIG     # who would take each cold item, by the judge; asks nothing twice
python -m tools.simulate update CONFIG    # rows learned from that, test rows scored by them, a delta into the run

What the judge knows of cold items, and what of that is taste; and how true a simulation is, by the rows held out:

python -m tools.simulate gauge CONFIG
python -m tools.simulate quality CONFIG
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from recsys.config import Config
from recsys.distributed import Ranks, process_group
from simulator import gauge, quality, simulated, stages
from tools import _cli

_WORDS = (*stages.STAGES, "gauge", "quality")


def main(argv: list[str] | None = None) -> None:
    """Parse, do what the leading word says, tell what came of it."""
    argv = sys.argv[1:] if argv is None else argv
    word = argv[0] if argv and argv[0] in _WORDS else ""
    parser = _cli.parser(__doc__)
    if word:
        parser.prog += f" {word}"
    config = _cli.config_of(parser.parse_intermixed_args(argv[1:] if word else argv))
    if word == "quality":
        _quality(config)
        return
    with process_group() as ranks:
        if word == "gauge":
            gauge.gauge(config, ranks)
        else:
            _stages(config, word, ranks)


def _stages(config: Config, word: str, ranks: Ranks) -> None:
    asked = [stage for stage in stages.STAGES if word in ("", stage)]
    for told in stages.run(config, asked, ranks):
        if ranks.is_first:
            print(told, flush=True)


def _quality(config: Config) -> None:
    options = config.evaluate
    found = quality.measure(simulated.folder_of(config), Path(config.data.path), options.replicates, options.seed)
    print(json.dumps(asdict(found), indent=1))


if __name__ == "__main__":
    _cli.run(main)
