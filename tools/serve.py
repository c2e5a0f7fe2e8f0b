"""Serve a run's bundle over HTTP: scores, readiness and metrics. Deltas of the run's log are served as they come.

python -m tools.serve configs/movielens-1m.yaml
python -m tools.serve configs/movielens-1m.yaml serving.store.kind=redis serving.store.url=redis://10.0.0.5:6379/0
python -m tools.serve configs/movielens-1m.yaml serving.bundle=BUNDLE       # a bundle anywhere, and its own deltas
curl -d '{"user": {"user_id": "1m_1"}, "items": ["Heat (1995)"]}' http://127.0.0.1:8000/score
"""

import logging

from recsys.serving.run import serve
from tools import _cli


def main(argv: list[str] | None = None) -> None:
    """Parse, serve until a signal ends it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    serve(_cli.config_of(_cli.parser(__doc__).parse_intermixed_args(argv), remote=True))


if __name__ == "__main__":
    _cli.run(main)
