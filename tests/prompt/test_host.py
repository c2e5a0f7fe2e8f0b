"""PROMO's network beside the ranker: what it reads, scores and leaves, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from recsys.coldrows.frozen import Frozen
from recsys.coldrows.prior import unknown_prior
from recsys.config import Config
from recsys.config_prompt import Prompt
from recsys.config_prompt_model import PromptModel, Tuning
from recsys.data.check import Place
from recsys.data.feedback import NEVER
from recsys.data.reader import Reader
from recsys.data.schema import split_files
from recsys.distributed import Ranks, process_group
from recsys.errors import InputError
from recsys.floor import kept, systems
from recsys.prompt.host.asked import Asked
from recsys.prompt.host.beside import Host
from recsys.prompt.host.network import Network, folder_of
from recsys.prompt.host.serving import exported
from recsys.prompt.host.stage import prompt
from recsys.prompt.host.training import _Loop, own_rows, train
from recsys.tables import checkpoint
from recsys.tables.locks import training
from recsys.tables.rows import Rows
from recsys.training.watch import Watch
from tests import arrived
from tests.ranks import run_ranks

MODEL: dict[str, Any] = {"code": 4, "hidden": 4, "last": 4, "head": [8], "noise": 0.5}


def config(home: Path, model: dict[str, Any] | None = None, **tuning: Any) -> Config:
    """With lists of at most three users."""
    options = {"lr": 0.05, "table_lr": 0.5, "batch": 32, "epochs": 2, "patience": 5, "passes": 3, **tuning}
    network = PromptModel(**{**MODEL, **(model or {})})
    return replace(
        arrived.config(home), prompt=Prompt(k=3, popular=4, even_lengths=False, model=network, tuning=Tuning(**options))
    )


def with_finetune(made: Config) -> Config:
    return replace(made, prompt=replace(made.prompt, tuning=replace(made.prompt.tuning, finetune=True)))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = arrived.write(tmp_path_factory.mktemp("host"))
    with process_group() as ranks:
        arrived.run(config(made), ranks)
    return made


@pytest.fixture
def own(home: Path, tmp_path: Path) -> Path:
    """A copy that a test may change, with the same dataset."""
    shutil.copytree(home / "run", tmp_path / "run", ignore=shutil.ignore_patterns("prompt"))
    return tmp_path / "run"


def scored(made: Config, exposure: int) -> np.ndarray:
    """[test rows]"""
    with process_group() as ranks:
        path = prompt(made, exposure, ranks)
    return pq.read_table(path).sort_by("row_id")["score"].to_numpy()


def base_scores(run: Path) -> np.ndarray:
    parts = [pq.read_table(file) for file in sorted((run / "scores" / "test").glob("*.parquet"))]
    return pa.concat_tables(parts).sort_by("row_id")["score"].to_numpy()


def is_new(home: Path) -> np.ndarray:
    test = pa.concat_tables(pq.read_table(file, columns=["item_id"]) for file in split_files(home / "data", "test"))
    return np.isin(test["item_id"].to_pylist(), arrived.NEW.to_pylist())


def files_of(run: Path) -> dict[str, bytes]:
    """All of a run but what is in prompt/."""
    found = (path for path in run.rglob("*") if path.is_file() and "prompt" not in path.relative_to(run).parts)
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


def frozen(made: Config, ranks: Ranks) -> tuple[Frozen, str]:
    base = checkpoint.version_of(checkpoint.best(Path(made.run) / "checkpoints")).base
    return Frozen.load(made, kept.new_items(Path(made.data.path)), ranks), base


def live(made: Config, ranks: Ranks, exposure: int = 0) -> tuple[Network, Host]:
    """A fresh network whose last layer is not zero, and what it stands beside."""
    beside, base = frozen(made, ranks)
    network = Network.open(beside, base)
    torch.manual_seed(0)
    for parameter in network.model.head[-1].parameters():
        nn.init.normal_(parameter)
    return network, Host.read(beside, network.rows, exposure)


def test_before_any_step_scores_are_the_bases_to_the_bit(home: Path, own: Path) -> None:
    made = replace(config(home, epochs=0, passes=0), run=str(own))
    with process_group() as ranks:
        beside, base = frozen(made, ranks)
        network = Network.open(beside, base)
        host = Host.read(beside, network.rows, 2)
        asked = Asked.of_split(Path(made.data.path), "test", host.entities)
        for batch in Reader(beside.encoder, "test", 64).epoch():
            lists = host.lists(asked.take(batch.row_id.numpy()), whole=True)
            given = host.inputs(batch, lists)
            assert given.pos_mask_BK.any()
            unknown = beside.unknown().expand(beside.count, -1)
            assert torch.equal(network.model(given)[0], beside.logits(batch, unknown))
    np.testing.assert_allclose(scored(made, 2), base_scores(own), atol=1e-6)


def test_training_moves_the_network_and_not_a_bit_of_the_base(home: Path, own: Path) -> None:
    made = replace(config(home), run=str(own))
    before = files_of(own)
    with process_group() as ranks:
        beside, base = frozen(made, ranks)
        held = {name: value.clone() for name, value in beside._ranker.dense_arch.state_dict().items()}
        items = beside.vectors(np.arange(10))
        network = Network.open(beside, base)
        start = {name: value.clone() for name, value in network.model.head.state_dict().items()}
        train(network, Host.read(beside, network.rows, 0))
        assert all(not torch.equal(value, start[name]) for name, value in network.model.head.state_dict().items())
        assert all(torch.equal(value, held[name]) for name, value in beside._ranker.dense_arch.state_dict().items())
        assert torch.equal(beside.vectors(np.arange(10)), items)
    found = scored(made, 2)
    assert files_of(own) == before
    new, old = is_new(home), base_scores(own)
    assert np.array_equal(found[~new], old[~new]) and np.abs(found - old)[new].max() > 1e-6


def test_beside_the_fine_tuned_base_step_0_is_the_fine_tuned_floor(home: Path, own: Path) -> None:
    made = replace(with_finetune(config(home, epochs=0, passes=0)), run=str(own))
    before = files_of(own)
    with process_group() as ranks:
        beside, base = frozen(made, ranks)
        held = {name: value.clone() for name, value in beside._ranker.dense_arch.state_dict().items()}
        items = beside.vectors(np.arange(10))
        tuned, _ = systems.finetuned(beside, unknown_prior(beside), 2)
        assert not torch.allclose(tuned.rows, beside.unknown())
        network = Network.open(beside, base)
        host = Host.read(beside, network.rows, 2, vectors=tuned.rows)
        asked, place = Asked.of_split(home / "data", "test", host.entities), torch.from_numpy(beside._place)
        for batch in Reader(beside.encoder, "test", 64).epoch():
            given = host.inputs(batch, host.lists(asked.take(batch.row_id.numpy()), whole=True))
            target = batch.items.values()[: len(batch.label)]
            own_row = place[target] >= 0
            known = beside.vectors(target.masked_fill(own_row, 0).numpy())
            assert torch.equal(given.h_BD, torch.where(own_row[:, None], tuned.rows[place[target]], known))
            assert torch.equal(network.model(given)[0], beside.logits(batch, tuned.rows))
        assert all(torch.equal(value, held[name]) for name, value in beside._ranker.dense_arch.state_dict().items())
        assert torch.equal(beside.vectors(np.arange(10)), items)
    found = scored(made, 2)
    assert files_of(own) == before, "the fine-tuned rows are nowhere in the run"
    with process_group() as ranks:
        floor = pq.read_table(systems.floor(made, "finetune", 2, ranks) / "scores.parquet").sort_by("row_id")
    np.testing.assert_allclose(found, floor["score"].to_numpy(), atol=1e-6)
    new, old = is_new(home), base_scores(own)
    assert np.array_equal(found[~new], old[~new]) and np.abs(found - old)[new].max() > 1e-3


def test_one_network_stands_beside_both_bases_and_their_scores_beside_each_other(home: Path, own: Path) -> None:
    made = replace(config(home, epochs=1), run=str(own))
    plain, finetuned = scored(made, 2), scored(with_finetune(made), 2)
    folder, new = folder_of(made), is_new(home)
    assert (folder / "n=2" / "scores.parquet").exists() and (folder / "finetuned" / "n=2" / "scores.parquet").exists()
    assert len(checkpoint.whole(folder / "checkpoints")) == 2, "epochs 0 and 1, trained once"
    assert np.array_equal(plain[~new], finetuned[~new]) and np.abs(plain - finetuned)[new].max() > 1e-3
    other = replace(with_finetune(made), floor=replace(made.floor, prior=[200.0]))
    assert np.abs(scored(other, 2) - finetuned)[new].max() > 1e-3
    assert np.array_equal(scored(with_finetune(made), 0), scored(made, 0)), "nothing to fine-tune on"
    with process_group() as ranks, pytest.raises(InputError, match="no vectors fine-tuned for new items: expected fal"):
        exported(with_finetune(made), ranks)


def test_a_row_is_the_formula_by_hand(home: Path) -> None:
    """Lists by a loop over the files, vectors by row, the network's parts one by one."""
    made = config(home)
    with process_group() as ranks:
        network, host = live(made, ranks, exposure=2)
        beside = host.frozen
        asked = Asked.of_split(Path(made.data.path), "test", host.entities)
        batch = next(Reader(beside.encoder, "test", 301).epoch())
        given = host.inputs(batch, host.lists(asked.take(batch.row_id.numpy()), whole=True))
        found = network.model(given)[0]
        test = pa.concat_tables(pq.read_table(file) for file in split_files(home / "data", "test")).to_pylist()
        feedback = pq.read_table(split_files(home / "data", "feedback")[0]).to_pylist()
        new = set(arrived.NEW.to_pylist())
        users = beside.encoder.maps["user_id"]
        for at in np.flatnonzero(is_new(home))[:25]:
            row = test[at]
            liked = {
                each["user_id"]: each["value"]
                for each in sorted(feedback, key=lambda each: each["timestamp"])
                if each["item_id"] == row["item_id"]
                and each["rank"] <= 2
                and each["user_id"] != row["user_id"]
                and each["label"]
            }
            listed = sorted(liked, key=lambda user: -liked[user])
            expected = beside.features("user_id", users.rows(pa.array(listed, pa.string())))
            torch.testing.assert_close(given.pos_BKD[at][given.pos_mask_BK[at]], expected)
            assert row["item_id"] in new and torch.equal(given.h_BD[at], beside.unknown())
            final = network.model.final(given)[at]
            torch.testing.assert_close(found[at], given.logit_B[at] + given.user_BE[at] @ final)
        logit = nn.functional.linear(given.user_BE, beside._ranker.dense_arch.logit.weight).squeeze(1)
        torch.testing.assert_close(logit + beside._ranker.dense_arch.logit.bias, given.logit_B)


def test_items_that_pose_as_new_are_seen_as_new_ones(home: Path) -> None:
    made = config(home)
    with process_group() as ranks:
        _, host = live(made, ranks)
        beside = host.frozen
        batch = next(Reader(beside.encoder, "train", 32).epoch())
        lists = host.lists(Asked.of_split(home / "data", "train", host.entities).take(batch.row_id.numpy()))
        posed = torch.arange(32) % 2 == 0
        some, none = host.inputs(batch, lists, posed), host.inputs(batch, lists)
        assert (some.item_B[posed] == 0).all() and torch.equal(some.item_B[~posed], none.item_B[~posed])
        assert (some.h_BD[posed] == beside.unknown()).all() and host.cold[some.item_B[posed]].all()
        torch.testing.assert_close(some.logit_B[~posed], none.logit_B[~posed])
        assert not torch.allclose(some.logit_B[posed], none.logit_B[posed])


def test_items_that_pose_as_new_borrow_no_list(home: Path) -> None:
    """A new item has no trained vector by which to find a lender."""
    made = config(home)
    with process_group() as ranks:
        _, host = live(made, ranks)
        asked = Asked.of_split(home / "data", "train", host.entities)
        posed = np.ones(len(asked.item), bool)
        lent, own = host.lists(asked), host.lists(asked, posed=posed)
        assert lent.borrowed.any() and not own.borrowed.any()
        zeros = torch.zeros(len(posed), 16)
        given = host.given(torch.zeros(len(posed), dtype=torch.int64), zeros, zeros, zeros[:, 0], own)
        assert not given.pos_mask_BK[lent.borrowed].any()
        assert np.array_equal(own.pinnacle[~lent.borrowed], lent.pinnacle[~lent.borrowed])


def test_scores_that_are_not_finite_end_training(home: Path) -> None:
    made = config(home)
    with process_group() as ranks:
        network, host = live(made, ranks)
        for parameter in network.model.head[-1].parameters():
            nn.init.constant_(parameter, float("nan"))
        with pytest.raises(InputError, match="split=valid: 41 scores are not finite"):
            _Loop(network, host, Watch(ranks, made.train.timeout))._auc()


def test_training_goes_on_after_more_epochs_and_from_an_intact_checkpoint(home: Path, own: Path) -> None:
    made = replace(config(home, epochs=1), run=str(own))
    scored(made, 0)
    steps = [path.name for path in checkpoint.whole(folder_of(made) / "checkpoints")]
    more = replace(made, prompt=replace(made.prompt, tuning=replace(made.prompt.tuning, epochs=2)))
    scored(more, 0)
    newest = checkpoint.latest(folder_of(made) / "checkpoints")
    assert newest is not None and newest.name not in steps and checkpoint.progress_of(newest).epoch == 2
    for path in newest.glob("*.distcp"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with process_group() as ranks:
        network = Network.open(*frozen(more, ranks))
        assert network.progress.epoch == 1 and not network.progress.done
    assert newest.with_name(f"{newest.name}.damaged").exists()


def test_a_network_is_trained_by_one_process(home: Path, own: Path) -> None:
    made = replace(config(home), run=str(own))
    with training(folder_of(made)), pytest.raises(InputError, match="another process trains this run"):
        scored(made, 0)


def test_an_item_without_a_record_has_lists_by_rows_from_elsewhere(home: Path, tmp_path: Path) -> None:
    made = config(home)
    rows = pq.read_table(split_files(home / "data", "train")[0])[:40]
    strange = rows.set_column(rows.column_names.index("item_id"), "item_id", pa.array(["item 99"] * 40))
    pq.write_table(strange, tmp_path / "more.parquet")
    with process_group() as ranks:
        network = Network.open(*frozen(made, ranks))
        items = pa.concat_arrays([arrived.NEW, pa.array(["item 99"])])
        host = Host.read(Frozen.load(made, items, ranks), network.rows, 0, [tmp_path / "more.parquet"])
        item = host.entities.item(pa.array(["item 99"]))
        lists = host.lists(Asked(np.array([-1], np.int32), item, np.array([NEVER])))
        liked = {row["user_id"] for row in rows.to_pylist() if row["label"]}
        listed = host.entities.users.ids.take(pa.array(lists.pinnacle[0])).to_pylist()
        assert len(listed) == 3 and set(listed) <= liked


def test_new_items_rows_alone_learn_from_kept_rows(home: Path, own: Path) -> None:
    made = replace(config(home), run=str(own))
    with process_group() as ranks:
        network, host = live(made, ranks, exposure=2)
        rows, name = Rows(network.sharded, ranks), network.specs[0].name
        every = torch.arange(network.rows.capacity)
        before, head = rows.read(name, every)[0], network.model.head[0].state_dict()
        head = {key: value.clone() for key, value in head.items()}
        block = kept.kept_rows(host.frozen.encoder, 2, 0, 1)
        table = kept.kept_table(home / "data", 2, ["user_id", "item_id", "timestamp"])
        assert block is not None
        asked = Asked.of([(Place(Path("feedback"), 0), table)], host.entities)
        own_rows(network, host, block, asked, np.sort(network.rows.rows(arrived.NEW)))
        after = rows.read(name, every)[0]
        new = np.sort(network.rows.rows(arrived.NEW))
        assert (after != before).any(1).nonzero().squeeze(1).tolist() == new.tolist()
        assert not torch.equal(after[new[0]], before[0])
        assert all(torch.equal(value, head[key]) for key, value in network.model.head[0].state_dict().items())


def test_two_ranks_go_on_from_what_one_has_saved(home: Path, own: Path) -> None:
    model = {"parameters": "rows", "sharding": "row_wise"}
    made = replace(config(home, model, epochs=1), run=str(own))
    scored(made, 0)
    one, two = run_ranks(2, resumed, made)
    assert one == two and one[0] == pytest.approx(one[1], abs=1e-6)


def resumed(made: Config) -> tuple[float, float]:
    """Validation of a network as told at its checkpoint, and as found anew from it."""
    with process_group() as ranks:
        beside, base = frozen(made, ranks)
        network = Network.open(beside, base).restore()
        loop = _Loop(network, Host.read(beside, network.rows, 0), Watch(ranks, made.train.timeout))
        return network.progress.best_auc, loop._auc()


def test_what_does_not_fit_is_refused(home: Path, own: Path) -> None:
    made = replace(config(home, epochs=0), run=str(own))
    scored(made, 0)
    with pytest.raises(InputError, match="begun beside another base, on another dataset or with other settings"):
        scored(replace(made, prompt=replace(made.prompt, k=2)), 0)
    with pytest.raises(InputError, match="network=shared: beside the ranker each item has its own"):
        scored(replace(made, prompt=replace(made.prompt, model=replace(made.prompt.model, network="shared"))), 0)
    with pytest.raises(InputError, match="information=both: the ranker itself reads the items' features"):
        scored(replace(made, prompt=replace(made.prompt, model=replace(made.prompt.model, information="both"))), 0)
    with pytest.raises(InputError, match="exposure 6: 5 rows of each new item were kept at most"):
        scored(made, 6)
