"""YAML plus `key=value` overrides into the strict dataclasses of `recsys.config`, and a resolved config to YAML."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from recsys.config import Config
from recsys.errors import InputError
from recsys.files import replacing

_CONFIG = TypeAdapter(Config)

T = TypeVar("T")


def load(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a config file, lay others over it, and apply dotted overrides such as `train.lr=0.01`; see `load_as`."""
    return load_as(Config, path, overrides)


def load_as(schema: type[T], path: str | Path, overrides: Iterable[str] = ()) -> T:
    """Read a file of any schema, lay others over it, and apply dotted overrides.

    overrides: `key=value`, where the key of a list's entry is its number (`features.0.capacity=100`), or the path of a
        config file, whose keys win over those before; lists are replaced whole. Of files and keys the last word counts.

    Raises:
        InputError: unreadable YAML, unknown key (with the nearest known one), or a value of the wrong type or
            out of its range.
    """
    tree, origin = read(path), str(path)
    for override in overrides:
        if is_file(override):
            tree, origin = _laid(tree, read(override)), f"{origin} {override}"
        else:
            _apply(tree, override)
    return parse_as(schema, tree, origin)


def is_file(override: str) -> bool:
    """Whether an override names a config file, and not a key."""
    return override.endswith((".yaml", ".yml")) and "=" not in override


def read(path: str | Path) -> dict[str, Any]:
    """A YAML file as a nested mapping.

    Raises:
        InputError: there is none, it is not YAML, or not a mapping.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text()) or {}
    except FileNotFoundError:
        raise InputError(f"{path}: no such config file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable config file: {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path}: expected a mapping of keys, found {type(tree).__name__}")
    return tree


def _laid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = below.get(key)
        merged[key] = _laid(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def parse(tree: dict[str, Any], origin: str = "config") -> Config:
    """A nested mapping as a `Config`; errors name `origin` and the dotted key."""
    return parse_as(Config, tree, origin)


def parse_as(schema: type[T], tree: dict[str, Any], origin: str) -> T:
    """A nested mapping as a strict dataclass of any schema.

    Raises:
        InputError: as `load`, naming `origin` and the dotted key.
    """
    try:
        return TypeAdapter(schema).validate_python(tree)
    except ValidationError as error:
        lines = [_explain(schema, problem) for problem in error.errors()]
        raise InputError(f"{origin}: " + f"\n{origin}: ".join(lines)) from None


def plain(config: Config) -> dict[str, Any]:
    """The resolved config as nested plain values, every default filled in."""
    values: dict[str, Any] = _CONFIG.dump_python(config, mode="json")
    return values


def bound(section: Any, free: Collection[str] = (), prefix: str = "") -> dict[str, Any]:
    """The settings that a training is bound to, as plain values: of a section of the config all keys but the `free`
    ones, which may change between a start and a resume. prefix: goes before each key."""
    return {f"{prefix}{key}": value for key, value in asdict(section).items() if key not in free}


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A nested mapping's values by dotted key; the key of a list's entry is its number."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found: dict[str, Any] = {}
    for key, value in items:
        if isinstance(value, dict | list):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def with_values(config: Config, values: Mapping[str, Any], origin: str = "config") -> Config:
    """A config with other values by dotted key; the key of a list's entry is its number.

    Raises:
        InputError: as `load`, naming `origin` and the dotted key.
    """
    tree = plain(config)
    for key, value in values.items():
        _put(tree, key, value, f"{origin}: {key}")
    return parse(tree, origin)


def value_of(tree: Any, key: str) -> Any:
    """What a nested mapping, such as `plain` gives, holds at a dotted key that it has."""
    for part in key.split("."):
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    return tree


def dump(config: Config, path: Path) -> None:
    """Write the resolved config as YAML."""
    with replacing(path) as partial:
        partial.write_text(yaml.safe_dump(plain(config), sort_keys=False))


def describe(schema: Any = Config, prefix: str = "") -> Iterator[str]:
    """`key = default  # meaning` for every field below `schema`, for `--help`."""
    for item in fields(schema):
        field_info = schema.__pydantic_fields__[item.name]
        nested = _dataclass_of(item.type)
        if nested:
            yield from describe(nested, f"{prefix}{item.name}.")
        else:
            default = "(required)" if field_info.is_required() else field_info.get_default(call_default_factory=True)
            text = " ".join((field_info.description or "").split())
            yield f"  {prefix}{item.name} = {default}" + (f"  # {text}" if text else "")


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"override {override!r}: expected key=value, such as train.lr=0.01")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"override {override!r}: {text!r} is not a YAML value") from None
    _put(tree, key, value, f"override {override!r}")


def _put(tree: dict[str, Any], key: str, value: Any, origin: str) -> None:
    """Set a dotted key of a nested mapping; errors name `origin`."""
    node: Any = tree
    *parents, last = key.split(".")
    for depth, part in enumerate(parents):
        if isinstance(node, list):
            node = node[_index(node, part, origin)]
        elif isinstance(node, dict):
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
        else:
            raise InputError(f"{origin}: {'.'.join(parents[:depth])} has no keys below it")
    if isinstance(node, list):
        node[_index(node, last, origin)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise InputError(f"{origin}: {'.'.join(parents)} has no keys below it")


def _index(node: list[Any], part: str, origin: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise InputError(f"{origin}: expected an index from 0 to {len(node) - 1}, got {part!r}")
    return int(part)


def _explain(schema: Any, problem: Any) -> str:
    location: Sequence[str | int] = problem["loc"]
    key = ".".join(str(part) for part in location)
    if problem["type"] == "unexpected_keyword_argument":
        known = _known_keys(schema, location[:-1])
        near = nearest(str(location[-1]), known, 1)
        return f"unknown key {key!r}; did you mean {near[0]!r}?" if near else f"unknown key {key!r}"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}"
    return f"{key}: {problem['msg']}, got {problem.get('input')!r}"


def nearest(name: str, known: Sequence[str], count: int) -> list[str]:
    """The `count` of the known names that are written most like `name`."""
    return difflib.get_close_matches(name, known, n=count, cutoff=0.0)


def _known_keys(schema: Any, location: Sequence[str | int]) -> list[str]:
    for part in location:
        if isinstance(part, str):
            schema = _dataclass_of(get_type_hints(schema)[part]) or schema
    return [item.name for item in fields(schema)]


def _dataclass_of(annotation: Any) -> Any:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and is_dataclass(candidate):
            return candidate
    return None
