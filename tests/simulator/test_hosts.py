"""Host vectors, of a folder and of a run: rows without training left at zero, both sides scaled by a number."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from recsys.data.ids import IdMap
from recsys.errors import InputError
from recsys.tables import checkpoint
from recsys.tables.stored import StoredTensor
from simulator import hosts
from simulator.hosts import Host
from simulator.population import Population
from tests import tiny
from tests.proxy import runs
from tests.simulator import planted


def same_direction(found: NDArray[np.float32], given: NDArray[np.float32]) -> float:
    """The one number between them."""
    scale = np.linalg.norm(found) / np.linalg.norm(given)
    np.testing.assert_allclose(found, scale * given, rtol=1e-4, atol=1e-5)
    return float(scale)


def require_scaled(host: Host) -> None:
    users, items = host.users[host.known_users], host.items[host.known_items]
    np.testing.assert_allclose(np.square(users).sum(1).mean(), np.square(items).sum(1).mean(), rtol=1e-4)
    np.testing.assert_allclose((users @ items.T).std(), 1, rtol=1e-3)


def test_a_folders_vectors_of_users_and_warm_items(tmp_path: Path, folder: Path) -> None:
    data = planted.write(tmp_path / "data")
    items = np.concatenate([planted.CONTENT[:-1], planted.CONTENT[:1]])  # cold ones have vectors, too
    sides = {"user_id": (planted.USER_IDS[3:], planted.TASTE[3:]), "item_id": (planted.ITEM_IDS, items)}
    shutil.rmtree(data / "host")
    planted.vectors(data / "host", sides)
    population = Population.read(data)
    found = hosts.read(planted.config(tmp_path, folder), population)
    assert found.known_users.tolist() == [k >= 3 for k in range(planted.USERS)]
    assert found.known_items.tolist() == [k < population.warm for k in range(planted.ITEMS)]
    assert not found.users[:3].any() and not found.items[population.warm :].any()
    same_direction(found.users[3:], planted.TASTE[3:])
    same_direction(found.items[: population.warm], items[: population.warm])
    require_scaled(found)


def test_a_runs_tables(tmp_path: Path) -> None:
    tiny.write(tmp_path / "data")
    runs.save(tmp_path)
    config, population = runs.config(tmp_path), Population.read(tmp_path / "data")
    found = hosts.read(config, population)
    source = checkpoint.best(tmp_path / "run" / "checkpoints")
    assert found.base == checkpoint.version_of(source).base
    for name, ids, made, known in (
        ("bags.embedding_bags.user_id", population.users, found.users, found.known_users),
        ("items.embeddings.item_id", population.items, found.items, found.known_items),
    ):
        rows = IdMap.load(tmp_path / "run" / "encoder" / f"{name.split('.')[-1]}.parquet").rows(ids)
        table = StoredTensor(source, f"ranker.{name}.weight").take(torch.from_numpy(rows)).numpy()
        assert np.array_equal(known, rows > 0) and known.any() and not made[~known].any()
        same_direction(made[known], table[known])
    assert found.known_items.sum() == population.warm
    require_scaled(found)


def test_a_host_without_learned_vectors_is_refused(tmp_path: Path, folder: Path) -> None:
    data = planted.write(tmp_path / "data")
    config, population = planted.config(tmp_path, folder), Population.read(data)
    shutil.rmtree(data / "host")
    planted.vectors(data / "host", {"user_id": (["gone"], planted.TASTE[:1]), "item_id": (["gone"], planted.TASTE[:1])})
    with pytest.raises(InputError, match="host: expected a learned vector of some user, found none"):
        hosts.read(config, population)
    nowhere = replace(config.simulator.filter, host=None)
    with pytest.raises(InputError, match="checkpoints"):
        hosts.read(replace(config, simulator=replace(config.simulator, filter=nowhere)), population)


def test_ids_of_another_type_are_refused(tmp_path: Path, folder: Path) -> None:
    data = planted.write(tmp_path / "data")
    population = replace(Population.read(data), users=pa.array(range(planted.USERS)))
    with pytest.raises(InputError, match="user_id"):
        hosts.read(planted.config(tmp_path, folder), population)
