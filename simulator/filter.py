"""The filter: which users may take an item, as vectors whose dot product says so (ColdLLM, section 4.2.1).

    <run>/simulator/filter/user_id.parquet      id, vector: of every user with a row in split=train
    <run>/simulator/filter/item_id.parquet      id, vector: of every item with content, warm and cold
    <run>/simulator/filter/users.faiss          the users, to be searched (`simulator.retrieve`)
    <run>/simulator/filter/items.safetensors    what makes the vectors of new items of their content (`item_towers`)
    <run>/simulator/filter/about.json           settings, a digest of all that was learned from, what was measured

`recsys.evaluate.vectors` reads the folder as a system of its own. Training is one process's, the first rank's: about a
minute on MovieLens-1M, and in proportion to interactions. In memory are the host's vectors, the content, and some 40
bytes an interaction. With one thread on a CPU the same seed gives the same bits.
"""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys.config import Config
from recsys.config_simulator import Filter, Retrieve
from recsys.data.splits import keys_at
from recsys.distributed import Ranks, agree, on_first
from recsys.errors import InputError
from recsys.evaluate.ties import id_keys
from recsys.evaluate.vectors import ITEMS, USERS, read_vectors
from recsys.files import replacing
from simulator import content as contents
from simulator import coupled, fitting, hosts, left_out, retrieve, towers
from simulator.content import Content
from simulator.coupled import Coupled
from simulator.fitting import Inputs, Loss, Matrix
from simulator.hosts import Host
from simulator.judge import Judge
from simulator.left_out import LeftOut
from simulator.population import Population
from simulator.samples import Interactions
from simulator.towers import Batch, ItemTowers, Pair

INDEX = "users.faiss"
_ABOUT, _ITEMS = "about.json", "items.safetensors"
_SALT = 8


@dataclass(frozen=True, eq=False)
class Lesson:
    """All that a filter is learned from."""

    population: Population
    host: Host
    content: Content
    known: Interactions
    left_out: LeftOut
    coupled: Coupled


@dataclass(frozen=True, eq=False)
class Learned:
    """A filter: vectors of users [U, D] and items [I, D], what was measured by system, and epochs by pair."""

    users: Matrix
    items: Matrix
    towers: ItemTowers
    measured: dict[str, dict[str, float]]
    epochs: dict[str, int]


def folder_of(config: Config) -> Path:
    """Where a run's filter is."""
    return Path(config.run) / "simulator" / "filter"


def train(config: Config, judge: Judge, ranks: Ranks) -> Path:
    """Train the config's filter unless it is there; returns its folder. Collective; the first rank's judge is asked.

    The judge is asked nothing where neither the content nor the coupled loss is its own.

    Raises:
        InputError: as `hosts.read`, `contents.Content.read`, `coupled.ask` and `fitting.fit`, both pairs are switched
            off, or too few items to learn from or to leave out.
    """
    none = not (config.simulator.filter.behaviour or config.simulator.filter.language)
    agree(ranks, "simulator.filter: expected behaviour or language, or both, found neither" if none else None)
    named = contents.minilm(config, ranks)
    on_first(ranks, lambda: _train(config, judge, named, ranks.device))
    return folder_of(config)


def item_towers(folder: Path) -> ItemTowers:
    """What makes the vectors of new items of their content [n, H] as it was given: on the CPU, in evaluation mode."""
    tensors, told = load_file(folder / _ITEMS), json.loads((folder / _ABOUT).read_text())
    options, width = Filter(**told["settings"]), len(tensors["mean"])
    made = [towers.tower(width, options.hidden, options.width) for _ in _pairs(options)]
    found = ItemTowers(made, torch.zeros(width), torch.ones(()))
    found.load_state_dict(tensors)
    return found.eval()


def _train(config: Config, judge: Judge, named: Path | None, device: torch.device) -> None:
    folder, options, began = folder_of(config), config.simulator.filter, time.perf_counter()
    lesson = _lesson(config, judge, named)
    digest = _digest(options, lesson)
    about = json.loads((folder / _ABOUT).read_text()) if (folder / _ABOUT).exists() else {}
    if about.get("digest") != digest:
        learned = _learn(lesson, options, device)
        told = {
            "digest": digest,
            "settings": asdict(options),
            "base": lesson.host.base,
            "left_out": {"items": len(lesson.left_out.items), **learned.measured},
            "epochs": learned.epochs,
            "coupled": len(lesson.coupled.user),
            "seconds": round(time.perf_counter() - began, 1),
        }
        _write(folder, lesson, learned, told)
    _index(folder, lesson.population, config.simulator.retrieve)


def _lesson(config: Config, judge: Judge, named: Path | None) -> Lesson:
    options, population = config.simulator.filter, Population.read(Path(config.data.path))
    host = hosts.read(config, population)
    file = named or (Path(options.content) if options.content else contents.judged(config, judge, population))
    content = Content.read(file, population)
    draws = keys_at(id_keys(population.items), options.seed, _SALT) / 2.0**64
    usable = host.known_items & content.known
    apart = usable & (draws < options.left_out)
    known = Interactions.of(population, host.known_users, usable & ~apart)
    found = LeftOut(population, np.flatnonzero(apart))
    if len(known.items) < 2 or not len(known.edges) or not len(found.items):
        raise InputError(
            f"simulator.filter: {usable.sum()} items have training rows, a host's vector and content: expected more, "
            "so that some can be learned from and some left out"
        )
    couples = options.kind == "coldllm" and options.language and options.coupled and options.coupled_weight
    answers = coupled.ask(config, judge, population, known) if couples else coupled.NONE
    return Lesson(population, host, content, known, found, answers)


def _learn(lesson: Lesson, options: Filter, device: torch.device) -> Learned:
    users, items, made = [], [], []
    measured, epochs = _rivals(lesson, options.seed), {}
    for name in _pairs(options):
        inputs = _inputs(name, options, lesson, device)
        with torch.random.fork_rng([]):
            torch.manual_seed(options.seed)
            pair = Pair((inputs.users.shape[1], inputs.items.shape[1]), options.hidden, options.width).to(device)
        loss = _loss(name, options, lesson, inputs)
        history = fitting.fit(name, pair, inputs, loss, lesson.known, lesson.left_out, options)
        measured[name], epochs[name] = history[fitting.best(history)], len(history)
        user, item = fitting.vectors(pair, inputs)
        users.append(user / left_out.spread(user[lesson.known.users], item[lesson.known.items]))
        items.append(item)
        made.append(pair.item.cpu())
    together = np.concatenate(users, axis=1), np.concatenate(items, axis=1)
    measured["filter"] = lesson.left_out.measure(*together)
    kept = ItemTowers(made, torch.from_numpy(lesson.content.mean), torch.tensor(lesson.content.size))
    return Learned(*together, kept, measured, epochs)


def _write(folder: Path, lesson: Lesson, learned: Learned, about: dict[str, Any]) -> None:
    population, known = lesson.population, lesson.content.known
    with replacing(folder) as partial:
        partial.mkdir()
        for name, ids, values in (
            (USERS, population.users, learned.users),
            (ITEMS, population.items.filter(pa.array(known)), learned.items[known]),
        ):
            column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
            pq.write_table(pa.table({"id": ids, "vector": column}), partial / f"{name}.parquet")
        save_file(learned.towers.state_dict(), partial / _ITEMS)
        (partial / _ABOUT).write_text(json.dumps(about, indent=1) + "\n")


def _index(folder: Path, population: Population, options: Retrieve) -> None:
    """Build the index of the filter's users, unless it is there as these options have it."""
    about = json.loads((folder / _ABOUT).read_text())
    if about.get("index") == asdict(options):
        return
    users = read_vectors(folder, population.users, population.items).users
    retrieve.write(retrieve.build(users, options), folder / INDEX)
    with replacing(folder / _ABOUT) as partial:
        partial.write_text(json.dumps({**about, "index": asdict(options)}, indent=1) + "\n")


def _pairs(options: Filter) -> list[str]:
    return [name for name in ("behaviour", "language") if getattr(options, name)]


def _inputs(name: str, options: Filter, lesson: Lesson, device: torch.device) -> Inputs:
    if name == "language" and options.kind == "llm-ins":
        users = contents.of_users(lesson.content.vectors, lesson.known.lists(len(lesson.host.users)))
    else:
        users = lesson.host.users
    users = users / max(float(np.square(users[lesson.known.users]).mean()), 1e-12) ** 0.5
    return Inputs(torch.from_numpy(users).to(device), torch.from_numpy(lesson.content.vectors).to(device))


def _loss(name: str, options: Filter, lesson: Lesson, inputs: Inputs) -> Loss:
    """What trains a pair: ColdLLM's eq. 16 and LLM-InS's eq. 15, ColdLLM's eq. 17, or LLM-InS's eq. 10."""
    if name == "behaviour":
        return _aligned(options, lesson.host, inputs.users.device)
    if options.kind == "llm-ins":
        return lambda _, made, __: towers.clicking(made, options.user_negatives)
    if not len(lesson.coupled.user):
        return lambda _, made, __: towers.ranking(made, options.user_negatives)
    return _coupled(options, lesson.coupled, inputs)


def _aligned(options: Filter, host: Host, device: torch.device) -> Loss:
    users, items = torch.from_numpy(host.users).to(device), torch.from_numpy(host.items).to(device)

    def loss(_: Pair, made: Batch, codes: tuple[Tensor, ...]) -> Tensor:
        user, item, other_item, other_user = codes
        theirs = Batch(users[user], items[item], items[other_item], users[other_user])
        aligned = options.distance * towers.distance(made, theirs)
        aligned = aligned + options.identification * towers.identification(made, theirs)
        return towers.ranking(made, options.user_negatives) + aligned

    return loss


def _coupled(options: Filter, judged: Coupled, inputs: Inputs) -> Loss:
    """Every step reads all judged pairs, at most a batch of them."""
    kept = np.random.default_rng([options.seed, 2]).permutation(len(judged.user))[: options.batch]
    device = inputs.users.device
    users, items = (torch.from_numpy(codes[kept]).to(device) for codes in (judged.user, judged.item))
    yes = torch.from_numpy(judged.answers[kept]).to(device)

    def loss(pair: Pair, made: Batch, _: tuple[Tensor, ...]) -> Tensor:
        agreed = towers.coupled(pair.user(inputs.users[users]), pair.item(inputs.items[items]), yes)
        return towers.ranking(made, options.user_negatives) + options.coupled_weight * agreed

    return loss


def _rivals(lesson: Lesson, seed: int) -> dict[str, dict[str, float]]:
    """Measures on left-out items of users drawn at random, and of the simplest filter."""
    random, host = np.random.default_rng([seed, 3]), lesson.host
    noise = [random.normal(size=(len(rows), 16)).astype(np.float32) for rows in (host.users, host.items)]
    weight = lesson.population.popularity()
    predicted = left_out.ridge(host, lesson.content, lesson.known.items, weight)
    return {
        "random": lesson.left_out.measure(noise[0], noise[1]),
        "ridge": lesson.left_out.measure(host.users, predicted),
    }


def _digest(options: Filter, lesson: Lesson) -> str:
    """SHA-256 over settings and all that is learned from."""
    told = hashlib.sha256(json.dumps({**asdict(options), "host": None, "content": None}).encode())
    for array in (
        lesson.host.users,
        lesson.host.items,
        lesson.content.vectors,
        lesson.known.edges,
        lesson.left_out.items,
        lesson.coupled.yes,
    ):
        told.update(array.tobytes())
    return told.hexdigest()
