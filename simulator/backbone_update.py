"""Simulated interactions become vectors of a backbone's cold items, for `tools.evaluate --vectors`.

    <run>/backbone/<kind>/<name>/<mode>/              vectors of users and of warm and cold items, and about.json
    <run>/backbone/<kind>/<name>/joint-checkpoint/    of training in mode joint

    frozen       the cold items' vectors alone are optimised against the trained ones (`recsys.backbones.cold`)
    propagate    ngcf, lightgcn: cold items are hung into the graph by edges to their qualified users, from whom their
                 vectors are propagated (`recsys.backbones.attached`)
    joint        training goes on from the trained weights on real and simulated edges together, by Recall@20 of all
                 items in split=valid (LLM-InS, section 4.3)

In the first two all trained vectors stay bit for bit, and the cold ones' length is chosen (`recsys.backbones.scale`).
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.backbones import bpr, loop, scale, vectors
from recsys.backbones.attached import attach
from recsys.backbones.cold import Pairs, balanced, compare, solve
from recsys.backbones.graph import Graph
from recsys.backbones.ridge import predict
from recsys.backbones.saved import folder_of
from recsys.backbones.valid import Validation
from recsys.coldrows.prior import Prior
from recsys.config import Config
from recsys.distributed import Ranks
from recsys.errors import InputError
from recsys.evaluate.positives import index
from recsys.evaluate.vectors import Vectors, read_vectors
from recsys.floor.content import content_file
from simulator import interactions
from simulator.population import training_users

Mode = Literal["frozen", "propagate", "joint"]
MODES: tuple[Mode, ...] = get_args(Mode)
Matrix = NDArray[np.float32]


def update(config: Config, simulated: Path, mode: Mode, ranks: Ranks) -> Path:
    """Make the vectors of a trained backbone's cold items from `simulated`, a file as `simulator.simulated` has it;
    returns their folder. A cold item without simulated interactions has the vector that it starts from.

    Raises:
        InputError: no trained backbone, a file that is not as it should be, or mode propagate for mf.
    """
    started, options = time.perf_counter(), config.simulator.backbone
    graph = Graph.read(Path(config.data.path))
    pairs = _pairs(config, graph, simulated)
    folder = folder_of(config) / config.simulator.name
    drawn = {f"update.{name}": getattr(config.simulator.update, name) for name in ("balance", "negatives", "seed")}
    told = {"pairs": len(pairs.user), "qualified": int(pairs.label.sum()), "settings": asdict(options) | drawn}
    if mode == "joint":
        users, items, more = _joint(config, graph, pairs, folder / "joint-checkpoint", ranks)
    else:
        found = read_vectors(folder_of(config) / "vectors", graph.users, graph.items)
        cold, more = (_frozen if mode == "frozen" else _propagated)(config, graph, pairs, found, ranks)
        (items, chosen), users = scale.placed(config, graph, found, cold), found.users
        more |= {"scale": chosen}
    seconds = round(time.perf_counter() - started, 1)
    return vectors.write(folder / mode, graph, users, items, **told, **more, seconds=seconds)


def _pairs(config: Config, graph: Graph, simulated: Path) -> Pairs:
    """The simulated pairs and the random users that the label rule asks for, of users who have a vector."""
    everyone, observed = training_users(Path(config.data.path)), config.data.label.rule == "observed"
    read = interactions.read(simulated, everyone, config.simulator.update, observed)
    user = index("user_id", graph.users).rows(everyone)[read.user] - 1
    code = index("item_id", graph.items).rows(read.items) - 1
    if (code < graph.warm).any():
        name = read.items[int(np.argmax(code < graph.warm))].as_py()
        raise InputError(f"{simulated}: column item_id: {name!r} is no cold item of {config.data.path}")
    known = user >= 0
    return Pairs(user[known], code[read.item][known] - graph.warm, read.label[known])


def _start(config: Config, graph: Graph, known: Matrix, ranks: Ranks) -> Prior:
    """Where vectors [I, D] of the cold items start, from the warm ones of `known`."""
    if config.simulator.backbone.start == "ridge":
        cold, line = predict(graph, known, content_file(config, ranks), config.floor.ridge)
        return Prior(torch.from_numpy(cold).float(), torch.from_numpy(line.residual))
    warm, weight = known[: graph.warm].astype(np.float64), graph.degrees()[1][: graph.warm]
    mean = torch.from_numpy(np.average(warm, axis=0, weights=weight)).float()
    spread = np.cov(warm.T, aweights=weight, ddof=0)
    return Prior(mean.repeat(len(graph.items) - graph.warm, 1), torch.from_numpy(spread))


def _frozen(
    config: Config, graph: Graph, pairs: Pairs, found: Vectors, ranks: Ranks
) -> tuple[Matrix, dict[str, object]]:
    options = config.simulator.backbone
    prior = _start(config, graph, found.items, ranks)
    made = compare(graph, pairs, found.users, found.items, options.references, options.seed)
    if config.simulator.update.balance:
        made = balanced(made, prior.start)
    cold, converged = solve(made, prior, options.strength)
    return cold, {"converged": converged}


def _propagated(
    config: Config, graph: Graph, pairs: Pairs, found: Vectors, ranks: Ranks
) -> tuple[Matrix, dict[str, object]]:
    model = bpr.trained(config, graph, torch.device("cpu"))
    rows = _start(config, graph, _item_rows(model.rows, graph), ranks).start
    qualified = pairs.label > 0
    return attach(model, graph, pairs.user[qualified], pairs.item[qualified], rows), {}


def _joint(
    config: Config, graph: Graph, pairs: Pairs, checkpoint: Path, ranks: Ranks
) -> tuple[Matrix, Matrix, dict[str, object]]:
    model = bpr.trained(config, graph, torch.device("cpu"))
    rows = _start(config, graph, _item_rows(model.rows, graph), ranks).start
    with torch.no_grad():
        model.rows[len(graph.users) + graph.warm :] = rows
    qualified = pairs.label > 0
    union = graph.joined(pairs.user[qualified], pairs.item[qualified] + graph.warm, "simulated interactions")
    valid = Validation.read(Path(config.data.path), graph, config.evaluate.seed, "all")
    learner = bpr.EdgeLearner(union, valid, config.backbone, ranks.device, model.state_dict())
    training = loop.fit(learner, config.backbone, checkpoint)
    return *learner.vectors(), {"epochs": len(training.history)}


def _item_rows(rows: torch.Tensor, graph: Graph) -> Matrix:
    """[I, D] of all nodes' rows."""
    return rows.detach().numpy()[len(graph.users) :]
