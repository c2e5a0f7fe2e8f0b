"""What every tool shares: a config path plus `key=value` overrides, a `--help` that teaches, one-line errors."""

import argparse
import sys
from collections.abc import Callable

from recsys import settings
from recsys.config import Config
from recsys.errors import InputError, RelayedError
from recsys.storage import require_local


def parser(module_doc: str | None, schema: type = Config, **words: str) -> argparse.ArgumentParser:
    """An argument parser that takes CONFIG, files that are laid over it, and overrides; a tool adds its switches.

    schema: of the config, for the help.
    words: what stands between CONFIG and the rest, with its help.
    """
    made = argparse.ArgumentParser(
        description=module_doc,
        epilog="every key of the config, with its default:\n" + "\n".join(settings.describe(schema)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("config", help="a YAML file such as configs/movielens-1m.yaml")
    for word, meaning in words.items():
        made.add_argument(word, help=meaning)
    more = (
        "change single keys, such as train.epochs=2, or lay another file's keys over, such as configs/idproxy/v5.yaml"
    )
    made.add_argument("overrides", nargs="*", metavar="key=value", help=more)
    return made


def config_of(arguments: argparse.Namespace, remote: bool = False) -> Config:
    """The resolved config that the parsed arguments name.

    remote: the tool takes a dataset in object storage.

    Raises:
        InputError: as `recsys.settings.load`, or such a dataset for another tool.
    """
    config = settings.load(arguments.config, arguments.overrides)
    if not remote:
        require_local("data.path", config.data.path)
    return config


def run(main: Callable[[], None]) -> None:
    """Run a tool's main as a command: bad input is one line on stderr and exit status 2."""
    try:
        main()
    except RelayedError:
        sys.exit(2)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
