"""What each tool reads and writes: the keys of the config that its result follows from, and paths.

A tool's results are what a reader of them reads; what it keeps for itself is not among them. A new input makes some
tools refuse what they have begun with another one: that is named, too, and removed before they begin anew. A tool that
changes what another has written (simulated rows go to the log of the run) names it among what it writes.

The number of ranks, sizes of batches that only score, sharding and caches change no result, and are in no contract.
"""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path

from recsys.config import Config
from recsys.config_pipeline import Tool
from recsys.errors import InputError
from recsys.evaluate import replicates, systems
from recsys.pipeline import network
from recsys.pipeline.contract import Contract
from recsys.pipeline.contract import of_run as _of

RANKED: tuple[Tool, ...] = ("train", "predict", "align", "simulate", "floor", "prompt", "lifecycle", "export")
"""Tools that run on several ranks."""


def contract(tool: Tool, config: Config, arguments: str) -> Contract:
    """That of a tool under a config, its leading word and its own switches.

    Raises:
        InputError: scores without a name, a switch that is unknown here or lacks its value, or a job without a
            contract.
    """
    word, rest = leading(arguments)
    job = f"{tool} {word}".rstrip()
    if job not in _CONTRACTS:
        known = ", ".join(each for each in _CONTRACTS if each.split()[0] == tool)
        raise InputError(f"{job}: what it reads and writes is not known here: expected {known}")
    try:
        switches, strange = _SWITCHES.parse_known_args(shlex.split(rest))
    except (argparse.ArgumentError, ValueError) as error:
        raise InputError(f"{tool}: arguments {arguments!r}: {error}") from None
    if strange:
        raise InputError(f"{tool}: arguments {arguments!r}: what {strange[0]} changes is not known here")
    return _CONTRACTS[job](config, switches)


def leading(arguments: str) -> tuple[str, str]:
    """The word that says which of a tool's jobs is meant, which stands before its config, and the rest."""
    word, _, rest = arguments.strip().partition(" ")
    return ("", arguments) if word.startswith("-") else (word, rest.strip())


def _switches() -> argparse.ArgumentParser:
    """Of all tools: those that name files or choose among results, and those that only change what is said of them."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    for name in ("--scores", "--vectors", "--only"):
        parser.add_argument(name, action="append", default=[])
    for name in ("--out", "--system", "--name", "--feedback", "--items", "--against", "--by"):
        parser.add_argument(name)
    parser.add_argument("--split", default="test")
    parser.add_argument("--exposure", type=int)
    for name in ("--replay", "--int8", "--network", "--export"):
        parser.add_argument(name, action="store_true")
    return parser


_SWITCHES = _switches()


def _prepare(config: Config, switches: argparse.Namespace) -> Contract:
    source = config.data.source
    files = (each.path for each in (source.interactions, source.users, source.items) if each)
    return Contract(keys=("data",), reads=_named(source.path, source.content, *files), writes=(config.data.path,))


def _train(config: Config, switches: argparse.Namespace) -> Contract:
    slot = config.model.proxy
    made = _of(config, "checkpoints", "deltas")
    return Contract(
        keys=("data.history", "features", "item_capacity", "model", "train"),
        reads=_named(config.data.path, slot.coarse, slot.layers),
        writes=made,
        begins=dict.fromkeys([*made, *_of(config, "config.yaml", "dataset.yaml", "encoder", "logs")], ()),
    )


def _predict(config: Config, switches: argparse.Namespace) -> Contract:
    reads = (config.data.path, *_of(config, "checkpoints", "deltas"))
    return Contract(reads=reads, writes=_of(config, f"scores/{switches.split}"))


def _align(config: Config, switches: argparse.Namespace) -> Contract:
    vectors = ("proxy/vectors/coarse.parquet", "proxy/vectors/layers.parquet")
    encoder = config.proxy.encoder.name
    return Contract(
        keys=("proxy", "floor.ridge", "floor.content"),
        reads=_named(config.data.path, *_of(config, "checkpoints"), config.floor.content, _folder(encoder)),
        writes=_of(config, *vectors, "proxy/align/retrieval.json", "proxy/rivals"),
        begins=dict.fromkeys(_of(config, "proxy/align"), ()),
    )


def _generate(config: Config, switches: argparse.Namespace) -> Contract:
    if not switches.items:
        raise InputError("align generate: expected --items, a file of new items")
    generated, read = _vectors(config)
    return Contract(keys=_SLOT, reads=(*read, switches.items), writes=(generated, *_published(config)))


def _refresh(config: Config, switches: argparse.Namespace) -> Contract:
    generated, read = _vectors(config)
    return Contract(keys=_SLOT, reads=(*read, generated), writes=_published(config))


_SLOT = ("model.proxy.place", "model.proxy.coarse", "model.proxy.layers")


def _vectors(config: Config) -> tuple[str, tuple[str, ...]]:
    """Where new items' vectors are kept, and what they and a ranker's proxies of them are made by.

    Raises:
        InputError: the ranker reads none.
    """
    slot = config.model.proxy
    if slot.coarse is None:
        raise InputError("model.proxy.coarse: none: expected the vectors that the ranker reads")
    folder = Path(slot.coarse).parent
    made_by = (str(folder / "about.json"), str(folder / "encoder"))
    return str(folder / "generated"), _named(slot.coarse, slot.layers, *made_by, *_of(config, "checkpoints"))


def _simulate(config: Config, switches: argparse.Namespace) -> Contract:
    asked = config.simulator
    content = None if asked.filter.content == "minilm" else asked.filter.content
    given = (content, asked.filter.host, asked.judge.adapter, asked.tune.start, asked.update.simulated)
    learned = ("simulator.tune", "simulator.prompt", "simulator.judge", config.data.path, *_named(asked.tune.start))
    log = _published(config) if asked.update.publish and asked.update.mode == "frozen" else ()
    return Contract(
        keys=("simulator", "floor") if asked.update.start == "ridge" else ("simulator",),
        reads=_named(config.data.path, *_of(config, "checkpoints", "scores/test"), *given, _folder(asked.judge.name)),
        writes=(*_of(config, f"simulator/{asked.name}"), *log),
        begins=dict.fromkeys(_of(config, "simulator/adapter", "simulator/tuning"), learned),
    )


def _floor(config: Config, switches: argparse.Namespace) -> Contract:
    folder = f"floor/{switches.name or switches.system}/n={switches.exposure or 0}"
    reads = (config.data.path, *_of(config, "checkpoints", "scores/test"))
    return Contract(keys=("floor",), reads=_named(*reads, config.floor.content), writes=_of(config, folder))


def _prompt(config: Config, switches: argparse.Namespace) -> Contract:
    if switches.network:
        return network.contract(config, switches)
    reads = (config.data.path, *_of(config, "checkpoints"))
    if switches.export or (switches.exposure is None and not switches.feedback):
        raise InputError("prompt: expected --exposure or --feedback; --export goes with --network")
    if switches.feedback:
        writes = (*_of(config, "prompt/live"), *_published(config))
        return Contract(keys=("prompt.summary",), reads=(*reads, switches.feedback), writes=writes)
    kind = "finetuned" if config.prompt.summary.finetune else "summary"
    return Contract(
        keys=("prompt.summary",),
        reads=(*reads, *_of(config, "scores/test")),
        writes=_of(config, f"prompt/{kind}/n={switches.exposure}"),
    )


def _lifecycle(config: Config, switches: argparse.Namespace) -> Contract:
    sources = {stage.source for stage in config.lifecycle.stages}
    taught = _of(config, f"simulator/{config.simulator.name}") if "simulated" in sources else ()
    return Contract(
        keys=("lifecycle", "prompt.summary", "floor"),
        reads=_named(config.data.path, *_of(config, "checkpoints", "scores/test"), *taught),
        writes=_of(
            config, f"lifecycle/{config.lifecycle.name}/{'replay' if switches.replay else f'n={switches.exposure}'}"
        ),
    )


def _evaluate(config: Config, switches: argparse.Namespace) -> Contract:
    judged = systems.named(switches.scores or switches.vectors or [f"base={config.run}/scores/{switches.split}"])
    reads = (config.data.path, *(str(path) for path in judged.values()))
    out = Path(switches.out or f"{config.run}/results.json")
    return Contract(keys=("evaluate",), reads=reads, writes=(str(out), str(replicates.beside(out))))


def _export(config: Config, switches: argparse.Namespace) -> Contract:
    reads = (config.data.path, *_of(config, "checkpoints", "deltas"))
    return Contract(reads=reads, writes=_of(config, "export"))


def _report(config: Config, switches: argparse.Namespace) -> Contract:
    outside = (str(path) for path in systems.named(switches.scores).values())
    simulated = f"simulator/{config.simulator.name}"
    made = ("results.json", "scores/test", "checkpoints", simulated, "prompt", "floor", "proxy/vectors")
    return Contract(
        keys=("evaluate",),
        reads=(config.data.path, *_of(config, *made), *outside),
        writes=(switches.out or f"{config.run}/report",),
    )


def _popularity(config: Config, switches: argparse.Namespace) -> Contract:
    return Contract(reads=(config.data.path,), writes=_of(config, "popularity"))


_CONTRACTS: dict[str, Callable[[Config, argparse.Namespace], Contract]] = {
    "prepare": _prepare,
    "train": _train,
    "predict": _predict,
    "align": _align,
    "align generate": _generate,
    "align refresh": _refresh,
    "simulate": _simulate,
    "floor": _floor,
    "prompt": _prompt,
    "lifecycle": _lifecycle,
    "evaluate": _evaluate,
    "export": _export,
    "report": _report,
    "popularity": _popularity,
}


def _published(config: Config) -> tuple[str, ...]:
    """What a delta changes: the run's log, and the bundle where there is one."""
    return _of(config, "deltas", "export")


def _named(*paths: str | None) -> tuple[str, ...]:
    return tuple(path for path in paths if path)


def _folder(name: str) -> str | None:
    """A model that lies in a folder; others are told by their name."""
    return name if Path(name).is_dir() else None
