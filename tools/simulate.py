"""Let a language model play the users, and the rows of cold items learn from it (ColdLLM, LLM-InS).

The ranker of the config must be trained and its test rows scored (tools.predict). Cold items are those without a row in
split=train.

torchrun --nproc-per-node 2 -m tools.simulate configs/movielens-1m.yaml
python -m tools.simulate configs/movielens-1m.yaml simulator.funnel.items=60 simulator.funnel.candidates=20

That is four stages, each of which can be asked for by name, and resumes where it was killed:

python -m tools.simulate tune CONFIG      # LoRA: the judge learns of the training interactions
python -m tools.simulate filter CONFIG    # vectors of users and items, by which an item's candidates are found
python -m tools.simulate users CONFIG     # who would take each cold item, by the judge; asks nothing twice
python -m tools.simulate update CONFIG    # rows learned from that, test rows scored by them, a delta into the run

What the judge knows of cold items, and what of that is taste; and how true a simulation is, by the rows held out:

python -m tools.simulate gauge CONFIG
python -m tools.simulate quality CONFIG

For vLLM servers, the tuned model in a folder of its own; then simulator.judge.backend=vllm simulator.judge.name=DIR:

python -m tools.simulate merge CONFIG --to DIR
"""

import sys
from pathlib import Path

from recsys.config import Config
from recsys.distributed import Ranks, process_group
from simulator import adapters, finetune, gauge, quality, stages
from tools import _cli

_WORDS = (*stages.STAGES, "gauge", "quality", "merge")


def main(argv: list[str] | None = None) -> None:
    """Parse, do what the leading word says, tell what came of it."""
    argv = sys.argv[1:] if argv is None else argv
    word = argv[0] if argv and argv[0] in _WORDS else ""
    parser = _cli.parser(__doc__)
    if word:
        parser.prog += f" {word}"
    if word == "merge":
        parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")
    arguments = parser.parse_intermixed_args(argv[1:] if word else argv)
    config = _cli.config_of(arguments)
    if word == "quality":
        print(f"quality: {quality.write(config)}")
    elif word == "merge":
        adapters.save_merged(finetune.tuned(config).simulator.judge, arguments.to)
        print(f"model: {arguments.to}")
    else:
        with process_group() as ranks:
            _run(config, word, ranks)


def _run(config: Config, word: str, ranks: Ranks) -> None:
    if word == "gauge":
        gauge.gauge(config, ranks)
        return
    asked = [stage for stage in stages.STAGES if word in ("", stage)]
    for told in stages.run(config, asked, ranks):
        if ranks.is_first:
            print(told, flush=True)


if __name__ == "__main__":
    _cli.run(main)
