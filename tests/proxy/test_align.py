"""Stage 1: two ranks learn what one does, a killed alignment what an uninterrupted one does, and only what should."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from proxy import saved
from proxy.align import align, aligned, folder_of, learnable
from proxy.content import read as read_content
from proxy.kept import Kept
from proxy.loop import Loop, retrieve
from proxy.model import Aligner
from proxy.retrieval import measures
from proxy.saved import BEST, LAST, Progress
from proxy.targets import TEST, TRAIN
from recsys import settings
from recsys.config import Config
from recsys.distributed import process_group
from recsys.errors import InputError
from tests import crash, tiny
from tests.proxy import planted, runs
from tests.ranks import run_ranks

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
Weights = Mapping[str, Tensor]


def config(home: Path, batch_size: int = 8, **align: Any) -> Config:
    made = tiny.config(home / "data", home / "run")
    proxy = replace(
        made.proxy, align=planted.options(**align), encoder=replace(made.proxy.encoder, batch_size=batch_size)
    )
    return replace(made, proxy=proxy)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.write(tmp_path / "data", {"train": 20})
    return tmp_path


def loop(made: Config, ranks: Any, dropout: float = 0.0, **items: Any) -> Loop:
    torch.manual_seed(0)
    targets, content = planted.items(**items)
    model = Aligner(planted.encoder(dropout=dropout), targets.vectors.shape[1], made.proxy.align)
    return Loop(made, model, targets, content, ranks, folder_of(made))


def run(home: Path, batch_size: int, dropout: float, align: dict[str, Any]) -> tuple[Progress, Weights]:
    with process_group() as ranks:
        one = loop(config(home, batch_size, **align), ranks, dropout)
        progress = one.run()
        return progress, {name: weight.detach() for name, weight in one.model.trained().items()}


def step(home: Path, batch_size: int) -> tuple[float, Weights]:
    """The loss of a step, and its gradients as the optimizer sees them."""
    with process_group() as ranks:
        one = loop(config(home, batch_size), ranks)
        loss = one.step(one.targets.of(TRAIN)[:13], seed=3)
        return float(loss), {name: p.grad for name, p in one.model.trained().items() if p.grad is not None}


def same(found: Weights, expected: Weights, rtol: float, atol: float) -> None:
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=rtol, atol=atol, msg=partial("{}: {}".format, name))


@pytest.mark.parametrize(("ranks", "batch_size"), [(1, 3), (2, 64), (2, 3)])
def test_a_step_is_the_same_in_any_pieces_on_any_ranks(folder: Path, ranks: int, batch_size: int) -> None:
    [(loss, gradients)] = run_ranks(1, step, folder, 64)
    for found_loss, found in run_ranks(ranks, step, folder, batch_size):
        assert found_loss == pytest.approx(loss, rel=1e-6)
        same(found, gradients, rtol=1e-4, atol=1e-6)


def test_two_ranks_learn_what_one_does(folder: Path, tmp_path: Path) -> None:
    [(progress, weights)] = run_ranks(1, run, folder, 8, 0.0, {})
    tiny.write(tmp_path / "two" / "data", {"train": 20})
    for found, learned in run_ranks(2, run, tmp_path / "two", 8, 0.0, {}):
        assert (found.epoch, found.step) == (progress.epoch, progress.step) == (3, 6)
        assert found.metrics == pytest.approx(progress.metrics, rel=1e-4)
        same(learned, weights, rtol=1e-3, atol=1e-5)


def test_it_learns_the_planted_space_and_keeps_the_best(folder: Path) -> None:
    made = config(folder, epochs=15, patience=2)
    with process_group() as ranks:
        one = loop(made, ranks, count=200)
        before = find_auc(one, ranks)
        progress = one.run()
        # The last epochs were no better: what is kept is not what is in memory.
        assert saved.load(folder_of(made) / BEST, one.model).metrics["auc"] == progress.best
        assert find_auc(one, ranks) > 0.85 > before


def find_auc(one: Loop, ranks: Any) -> float:
    found = retrieve(one.model, one.targets, one.content, TEST, 8, ranks)
    return float(measures(found, 200, [])[1].mean())


def test_what_trains_is_what_should(folder: Path) -> None:
    with process_group() as ranks:
        one = loop(config(folder), ranks)
        before = {name: weight.clone() for name, weight in one.model.state_dict().items()}
        one.step(one.targets.of(TRAIN), seed=0)
        after = one.model.state_dict()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed == set(one.model.trained())
        assert before.keys() - changed == {"encoder.frozen.weight", "encoder.frozen.bias"}
        groups = one.optimizer.param_groups
        assert [len(group["params"]) for group in groups] == [3, 8]  # the encoder's; pool, phi and temperature
        fixed = loop(config(folder, learn_temperature=False), ranks)
        assert "temperature.log" not in fixed.model.trained()


def test_more_epochs_resume_to_what_an_uninterrupted_run_gives(folder: Path, tmp_path: Path) -> None:
    once = {"epochs": 4, "patience": 4}
    [(progress, weights)] = run_ranks(1, run, folder, 8, 0.3, once)
    tiny.write(tmp_path / "again" / "data", {"train": 20})
    run_ranks(1, run, tmp_path / "again", 8, 0.3, {**once, "epochs": 2})
    [(found, learned)] = run_ranks(1, run, tmp_path / "again", 8, 0.3, once)
    assert found == progress
    same(learned, weights, rtol=0.0, atol=0.0)


def test_killed_at_any_moment_of_a_save_it_resumes_to_the_same(folder: Path, tmp_path: Path) -> None:
    rest = (4, 0.3, {"epochs": 2})
    names = crash.points(folder / "run", run, folder, *rest)
    expected = stored(folder)
    chosen = [names[k * (len(names) - 1) // 3] for k in range(4)]
    for count, point in enumerate(chosen):
        home = tmp_path / f"killed {count}"
        tiny.write(home / "data", {"train": 20})
        crash.kill(point, home / "run", run, home, *rest)
        run_ranks(1, run, home, *rest)
        assert stored(home) == expected, point
        assert {path.name for path in (home / "run" / "proxy" / "align").iterdir()} == {LAST, BEST}


def crossed(home: Path, spoiled: int | None) -> list[Weights]:
    """What the alignments without fold 0 and 1 learn; the ID vectors of a fold may be spoiled."""
    made = config(home, folds=2)
    learned: list[Weights] = []
    with process_group() as ranks:
        for fold in (0, 1):
            torch.manual_seed(0)
            targets, content = planted.items()
            targets.vectors[torch.from_numpy(targets.fold == spoiled)] *= -3.0
            model = Aligner(planted.encoder(), 8, made.proxy.align)
            one = Loop(made, model, targets.without(fold), content, ranks, folder_of(made, fold), fold=fold)
            for seed in range(2):
                one.step(targets.without(fold).of(TRAIN), seed)
            learned.append({name: weight.detach().clone() for name, weight in model.trained().items()})
    return learned


def test_an_alignment_without_a_fold_learns_nothing_of_its_ids(folder: Path) -> None:
    before, after = crossed(folder, None), crossed(folder, 0)
    same(after[0], before[0], rtol=0.0, atol=0.0)
    assert any(not torch.equal(after[1][name], before[1][name]) for name in before[1])


def stored(home: Path) -> dict[str, bytes]:
    folder = home / "run" / "proxy" / "align"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("align", "said"), [({"temperature": 0.3}, "proxy.align.temperature=0.1, not 0.3"), ({"seed": 1}, "seed=0, not 1")]
)
def test_another_alignment_is_not_resumed(folder: Path, align: dict[str, Any], said: str) -> None:
    with process_group() as ranks:
        loop(config(folder, temperature=0.1), ranks).run()
        with pytest.raises(InputError, match=said):
            loop(config(folder, **{"temperature": 0.1, **align}), ranks).run()


def break_width(one: Loop) -> None:
    one.model = Aligner(planted.encoder(), 12, one.options)


def break_encoder(one: Loop) -> None:
    one.model = Aligner(planted.encoder(width=20), 8, one.options)


@pytest.mark.parametrize("change", [break_width, break_encoder])
def test_weights_of_another_width_are_refused_and_nothing_is_loaded(
    folder: Path, change: Callable[[Loop], None]
) -> None:
    made = config(folder, epochs=1)
    with process_group() as ranks:
        one = loop(made, ranks)
        one.run()
        change(one)
        before = {name: weight.clone() for name, weight in one.model.trained().items()}
        with pytest.raises(
            InputError, match=r"another encoder or another width of the ID space: \S+: expected \(.*found \("
        ):
            saved.load(folder_of(made) / BEST, one.model)
        same(one.model.trained(), before, rtol=0.0, atol=0.0)
        (folder_of(made) / BEST / "trained.safetensors").write_bytes(b"cut")
        with pytest.raises(InputError, match=r"trained\.safetensors: expected what tools.align writes"):
            saved.load(folder_of(made) / BEST, one.model)


def test_a_loss_that_is_not_finite_ends_it(folder: Path) -> None:
    with process_group() as ranks:
        one = loop(config(folder), ranks)
        with torch.no_grad():
            dict(one.model.named_parameters())["encoder.frozen.weight"].fill_(float("inf"))
        with pytest.raises(InputError, match="the loss is nan: expected a lower"):
            one.run()


def whole(home: Path) -> dict[str, Any]:
    """Align the real small encoder on a run, and make coarse proxies with it in two ways."""
    made = runs.config(home)
    with process_group() as ranks:
        align(made, ranks)
        targets, _ = learnable(made, ranks)
        model = aligned(made, targets.vectors.shape[1])
        contents = list(read_content(Path(made.data.path), made.proxy.encoder, batch=7))
        kept = Kept(model, replace(made.proxy.encoder, batch_size=4), [[0]])
        proxies = torch.cat([kept.encode(content)[0] for content in contents])
        with torch.no_grad():
            plain = torch.cat([model.encode(content) for content in contents])
        other = replace(made.proxy.encoder, template="{title}")
        with pytest.raises(InputError, match=r"begun with proxy.encoder.template=.*, not \{title\}"):
            aligned(replace(made, proxy=replace(made.proxy, encoder=other)), model.dim)
        with pytest.raises(InputError, match=r"about\.json: expected what tools.align writes"):
            aligned(replace(made, run=str(home / "nowhere")), model.dim)
        # The adapters by PEFT's own loader, around a bare model.
        from peft import PeftModel

        from proxy import encoder

        bare = encoder.load(replace(made.proxy.encoder, train="frozen"))
        bare.model = PeftModel.from_pretrained(bare.model, str(folder_of(made) / BEST / "adapter")).base_model.model
        inputs = bare.collate(contents[0])
        with torch.no_grad():
            states = [one(inputs).last * inputs["attention_mask"][..., None] for one in (bare, model.encoder)]
            states.append(encoder.load(made.proxy.encoder)(inputs).last * inputs["attention_mask"][..., None])
        return {"proxies": proxies, "plain": plain, "states": states}


def test_from_a_run_to_coarse_proxies_of_all_items(home: Path) -> None:
    [found] = run_ranks(1, whole, home)
    torch.testing.assert_close(found["proxies"], found["plain"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["proxies"].norm(dim=1), np.ones(tiny.ITEMS), rtol=1e-5)
    by_peft, ours, untrained = found["states"]
    torch.testing.assert_close(by_peft, ours, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(untrained, ours, atol=1e-4)


def test_an_item_without_content_is_nothing_to_learn_from(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "home")
    made = runs.config(tmp_path / "home")
    settings.dump(made, tmp_path / "home" / "run" / "config.yaml")
    with process_group() as ranks:
        every, _ = learnable(made, ranks)
        blank(made, ["item 05", "item 11"])
        targets, content = learnable(made, ranks)
        kept = [k for k, name in enumerate(every.ids.to_pylist()) if name not in ("item 05", "item 11")]
        assert len(kept) == len(every.ids) - 2
        assert targets.ids.to_pylist() == content.ids.to_pylist() == content.texts == every.ids.take(kept).to_pylist()
        assert torch.equal(targets.vectors, every.vectors[torch.tensor(kept)])
        blank(made, every.ids.to_pylist())
        with pytest.raises(InputError, match=r"none of \d+ items with targets has any content"):
            learnable(made, ranks)


def blank(made: Config, items: list[str]) -> None:
    """Take these items' titles away."""
    path = Path(made.data.path) / "items.parquet"
    rows = pq.read_table(path)
    titles = [None if name in items else name for name in rows["item_id"].to_pylist()]
    at = rows.column_names.index("title")
    pq.write_table(rows.set_column(at, "title", pa.array(titles, pa.string())), path)


def fewer(made: Config, folds: int) -> list[str]:
    with process_group() as ranks:
        align(replace(made, proxy=replace(made.proxy, align=replace(made.proxy.align, folds=folds))), ranks)
        return sorted(path.name for path in folder_of(made).iterdir())


def test_folds_that_are_no_longer_asked_for_go(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run", ignore=shutil.ignore_patterns("proxy"))
    made = replace(runs.config(home, epochs=1), run=str(tmp_path / "run"))
    assert run_ranks(1, fewer, made, 2) == [[BEST, "fold-0", "fold-1", LAST]]
    assert run_ranks(1, fewer, made, 0) == [[BEST, LAST]]
