"""What a tool makes of its arguments, without doing anything."""

import argparse
import importlib
from typing import Any
from unittest import mock

from recsys import settings
from recsys.config import Config
from recsys.config_generate import Generate


class Parsed(Exception):
    """Raised in place of the tool's work."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments


def load(tool: str, config: str, overrides: list[str]) -> None:
    """Read the config that a tool is given, by the tool's own schema.

    Raises:
        InputError: it is not as the schema has it.
    """
    settings.load_as(Generate if tool == "tools.generate" else Config, config, overrides)


def parse(module: str, words: list[str]) -> argparse.Namespace:
    """The arguments that `python -m module words` would work with.

    Raises:
        SystemExit: the tool refuses them.
    """
    original = argparse.ArgumentParser.parse_known_intermixed_args

    def stop(self: argparse.ArgumentParser, *rest: Any) -> Any:
        arguments, unknown = original(self, *rest)
        assert not unknown, f"{module}: unknown arguments {unknown}"
        raise Parsed(arguments)

    with mock.patch.object(argparse.ArgumentParser, "parse_known_intermixed_args", stop):
        try:
            importlib.import_module(module).main(words)
        except Parsed as parsed:
            return parsed.arguments
    raise AssertionError(f"{module} parsed nothing")
