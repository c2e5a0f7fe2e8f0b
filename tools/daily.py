r"""Go through the days of a log: each is scored by the model of the days before it, and then trained on.

    torchrun --nproc-per-node 2 -m tools.daily configs/kuairand-pure.yaml configs/daily.yaml \
        run=runs/kuairand-daily data.path=data/kuairand-days daily.utc_offset=8

The first model is trained on `daily.base` days, as `train` says. Of every day after them new ids are given rows, all
rows are scored before any is trained on, then the model goes on with them. Days that are done are passed over; killed
anywhere, the same command goes on there and ends as if nothing had happened. Each day is a run of its own,
<run>/day-00007, which every other tool takes by its config.yaml:

    torchrun --nproc-per-node 2 -m tools.export RUN/day-00007/config.yaml
    python -m tools.delta RUN/day-00008/config.yaml --diff OLD_CHECKPOINT NEW_CHECKPOINT --out FOLDER

Proxies of new items, exports and the like come with a day as `daily.arrive` and `daily.follow`. What was found is in
<run>/daily.json: AUC of the day ahead, of its new and its old items' rows, and of rows held back from the first days,
by which is seen what is forgotten; beside a model that is never updated and, by `daily.anew`, one trained anew.
"""

import json

from recsys.daily import report
from recsys.daily.loop import daily
from recsys.distributed import process_group
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, go through the days, print what was found."""
    config = _cli.config_of(_cli.parser(__doc__).parse_intermixed_args(argv))
    with process_group() as ranks:
        path = daily(config, ranks)
        if ranks.is_first:
            print(report.markdown(json.loads(path.read_text())))
            print(f"results: {path}")


if __name__ == "__main__":
    _cli.run(main)
