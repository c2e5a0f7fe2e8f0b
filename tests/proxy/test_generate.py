"""Brand-new items to proxies, and these into checkpoint, id maps and bundle; from the same content by hand."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from proxy import content, kept, vectors
from proxy.align import align, aligned
from proxy.generate import generate, refresh
from proxy.service import Generator
from proxy.store import Store
from recsys.config import Config
from recsys.data.ids import IdMap
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.tables import checkpoint, log, service
from recsys.tables.export import export
from tests import crash, tiny
from tests.proxy import models, slotted
from tests.proxy.slotted import CPU, VECTORS, scores, served, stored, write
from tests.ranks import run_ranks

ITEMS = ["new a", "item 29", "new b"]
"""Two new ones, and one of the dataset with other content."""


def by_hand(made: Config, path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """p_coarse [n, D], z of the groups [n, k H] and p_fine [n, D]: an item at a time, by the run's own alignment."""
    base = slotted.base()
    model = aligned(base, slotted.DIM)
    groups = kept.load(made, CPU).groups
    coarse, layers = [], []
    for row in pq.read_table(path).to_pylist():
        item = content.of(pa.table({key: [value] for key, value in row.items()}), base.proxy.encoder)
        with torch.no_grad():
            states = model.encoder(model.encoder.collate(item), layers=True)
            pools = [model.pool(one, states.mask)[0] for one in states.layers]
            coarse.append(normalize(model.phi(pools[-1]), dim=0))
        even = [one / one.pow(2).mean().sqrt() for one in pools]
        layers.append(torch.cat([torch.stack([even[k] for k in group]).mean(0) for group in groups]))
    return torch.stack(coarse), torch.stack(layers), fine(made, torch.stack(coarse), torch.stack(layers))


def fine(made: Config, coarse: Tensor, layers: Tensor) -> Tensor:
    """p_fine = W_c p_coarse + r * p_raw, by the best checkpoint's weights."""
    source = checkpoint.best(Path(made.run) / "checkpoints")
    names = [name for name in checkpoint.stored_tensors(source) if ".proxies." in name]
    w = {name.split(".proxies.")[1]: tensor for name, tensor in checkpoint.read(source, names).items()}
    [first] = [name.removesuffix(".weight") for name in w if name.startswith("adaptor.0") and name.endswith(".weight")]
    hidden = torch.relu(layers @ w[f"{first}.weight"].T + w[f"{first}.bias"])
    raw = hidden @ w["adaptor.1.weight"].T + w["adaptor.1.bias"]
    ratio = torch.sigmoid(torch.cat([coarse, raw], 1) @ w["gate.weight"].T)
    return coarse @ w["carry.weight"].T + ratio * raw


def test_a_new_item_is_scored_by_its_content_everywhere(here: Path) -> None:
    made = slotted.config()
    before = [scores(made, item)[1] for item in ITEMS]
    path = write(here / "new.parquet", ITEMS)
    found = generate(made, path, CPU)
    assert (found.items, found.empty, found.encoded, found.issued.held) == (3, 0, 3, 0)
    delta = found.issued.delta
    assert delta and {name: (told.rows, told.audience) for name, told in delta.tables.items()} == {
        "item_coarse": (3, "both"),
        "item_fine": (3, "serving"),
        "item_layers": (3, "training"),
    }
    coarse, layers, expected = by_hand(made, path)
    torch.testing.assert_close(stored(made, "item_coarse", ITEMS).float(), coarse, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(stored(made, "item_layers", ITEMS).float(), layers, atol=2e-3, rtol=2e-3)
    assert torch.equal(served(made, "item_coarse", ITEMS), stored(made, "item_coarse", ITEMS).float())
    torch.testing.assert_close(served(made, "item_fine", ITEMS), expected, atol=5e-3, rtol=5e-3)
    halves = [stored(made, name, ITEMS).float() for name in ("item_coarse", "item_layers")]
    torch.testing.assert_close(served(made, "item_fine", ITEMS), fine(made, *halves), atol=1e-6, rtol=1e-6)
    ids = {name: IdMap.load(Path(made.run) / "encoder" / f"{name}.parquet") for name in ("item_coarse", "item_layers")}
    for each in ids.values():
        assert each.rows(pa.array(ITEMS)).tolist() == [31, 30, 32], "the next free rows, and its own"
    for item, old in zip(ITEMS, before, strict=True):
        by_model, by_bundle = scores(made, item)
        torch.testing.assert_close(by_model, by_bundle, atol=1e-6, rtol=1e-5)
        assert not torch.allclose(by_bundle, old, atol=1e-4)
    assert torch.equal(scores(made, "new c")[1], before[0]), "another new item has no content"


def test_twice_is_once_and_changed_content_is_encoded_anew(here: Path) -> None:
    made = slotted.config()
    path = write(here / "new.parquet", ITEMS)
    generate(made, path, CPU)
    again = generate(made, path, CPU)
    assert (again.encoded, again.issued.delta, again.issued.held) == (0, None, 3)
    assert len(list((VECTORS / "generated").iterdir())) == 1 and log.newest(Path(made.run)) == 1
    old = stored(made, "item_coarse", ITEMS)
    table = pq.read_table(path)
    texts = pa.array([*table["text"].to_pylist()[:2], "toys that come alive"])
    pq.write_table(table.set_column(2, "text", texts), path)
    changed = generate(made, path, CPU)
    assert (changed.encoded, changed.issued.held) == (1, 2) and changed.issued.delta
    now = stored(made, "item_coarse", ITEMS)
    assert torch.equal(now[:2], old[:2]) and not torch.equal(now[2], old[2])
    torch.testing.assert_close(now.float(), by_hand(made, path)[0], atol=1e-3, rtol=1e-3)
    assert refresh(made).delta is None, "of an item that two parts hold the last one counts"


def test_a_ranker_without_layers_has_coarse_proxies_alone(here: Path) -> None:
    config = slotted.config("flat", place="feature", fine=False)
    run_ranks(1, slotted.trained, here, config)
    path = write(here / "new.parquet", ITEMS)
    delta = generate(config, path, CPU).issued.delta
    assert delta and list(delta.tables) == ["item_coarse"]
    by_model, by_bundle = scores(config, "new a")
    torch.testing.assert_close(by_model, by_bundle, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(by_bundle, scores(config, "new c")[1], atol=1e-5)
    # The other ranker has them from the same store, unencoded.
    shutil.rmtree("llama")
    assert refresh(slotted.config()).items == 3


def test_refresh_gives_a_retrained_run_all_that_was_generated(here: Path) -> None:
    made, again = slotted.config(), slotted.config("again", seed=3)
    generate(made, write(here / "new.parquet", ITEMS), CPU)
    generate(made, write(here / "more.parquet", ["more"]), CPU)
    shutil.rmtree("llama")  # nothing can be encoded any more
    run_ranks(1, slotted.trained, here, again)
    found = refresh(again)
    every = [*ITEMS, "more"]
    assert found.items == 4 and found.delta and refresh(again).delta is None
    halves = [stored(again, name, every) for name in ("item_coarse", "item_layers")]
    for name, half in zip(("item_coarse", "item_layers"), halves, strict=True):
        assert torch.equal(half, stored(made, name, every)), "vectors do not depend on the ranker"
    expected = fine(again, *(half.float() for half in halves))
    torch.testing.assert_close(served(again, "item_fine", every), expected, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(served(made, "item_fine", every), expected, atol=1e-3)
    # A delta of one training run is not for another.
    [delta, _] = log.every(Path(made.run))
    with pytest.raises(InputError, match=r"rows made for the training run \w+, but .* is of"):
        service.take(Path(again.run), delta)


def export_again(home: Path) -> None:
    with slotted.inside(home), process_group() as ranks:
        export(slotted.config(), ranks)


def test_after_more_training_the_bundle_is_exported_anew(here: Path) -> None:
    made = slotted.config()
    later = checkpoint.best(Path("slot/checkpoints"))
    later.rename("aside")
    step, then = (checkpoint.version_of(path).step for path in (checkpoint.best(later.parent), Path("aside")))
    run_ranks(1, export_again, here)
    generate(made, write(here / "new.parquet", ITEMS), CPU)
    Path("aside").rename(later)
    for work in (lambda: generate(made, write(here / "more.parquet", ["more"]), CPU), lambda: refresh(made)):
        with pytest.raises(InputError, match=rf"at step {step}, the best .* at step {then}: run tools\.export"):
            work()
    assert len(Store(VECTORS, pa.string()).ids) == 3, "nothing has been encoded for nothing"
    run_ranks(1, export_again, here)
    assert refresh(made).delta is None
    halves = [stored(made, name, ITEMS).float() for name in ("item_coarse", "item_layers")]
    torch.testing.assert_close(served(made, "item_fine", ITEMS), fine(made, *halves), atol=1e-6, rtol=1e-6)
    assert generate(made, write(here / "more.parquet", ["more"]), CPU).issued.delta
    by_model, by_bundle = scores(made, "more")
    torch.testing.assert_close(by_model, by_bundle, atol=1e-6, rtol=1e-5)


def test_known_items_keep_the_proxies_of_the_encoder_that_has_not_seen_their_ids(here: Path) -> None:
    made, known = slotted.config(), [f"item {k:02d}" for k in range(tiny.ITEMS)]
    before = stored(made, "item_coarse", known)
    found = generate(made, Path("data"), CPU)
    assert (found.items, found.encoded, found.issued.delta) == (tiny.ITEMS, 0, None)
    assert (found.issued.items, found.issued.held) == (tiny.ITEMS, tiny.ITEMS)
    assert torch.equal(stored(made, "item_coarse", known), before)
    items = pq.read_table("data/items.parquet")
    titles = ["another film", *items["title"].to_pylist()[1:]]
    pq.write_table(items.set_column(items.column_names.index("title"), "title", pa.array(titles)), "changed.parquet")
    found = generate(made, Path("changed.parquet"), CPU)
    assert (found.encoded, found.issued.held) == (1, tiny.ITEMS - 1)
    now = stored(made, "item_coarse", known)
    assert (now != before).any(1).tolist() == [True] + [False] * (tiny.ITEMS - 1)
    # What it said at first is other content by now.
    assert generate(made, Path("data"), CPU).encoded == 1
    again = stored(made, "item_coarse", known)
    assert not torch.equal(again[0], now[0]) and torch.equal(again[1:], now[1:])


def test_aligned_anew_the_encoder_beside_the_vectors_stays(here: Path) -> None:
    made = slotted.config()
    shutil.rmtree("base/proxy/align")
    path = write(here / "new.parquet", ITEMS)
    assert generate(made, path, CPU).encoded == 3


def write_vectors(home: Path, anew: bool = False, **changes: Any) -> str:
    """Write the vectors of the run aligned `anew`, or with other `proxy` settings; what is said against it."""
    made = slotted.base()
    options = replace(made.proxy, **changes)
    options = replace(options, align=replace(options.align, seed=1)) if anew else options
    with slotted.inside(home), process_group() as ranks:
        if anew:
            shutil.rmtree("base/proxy/align")
            align(replace(made, proxy=options), ranks)
        try:
            vectors.write(replace(made, proxy=options), ranks)
        except InputError as error:
            return str(error)
    return ""


def test_vectors_written_again_keep_what_was_generated_by_the_same_encoder(here: Path) -> None:
    made = slotted.config()
    generate(made, write(here / "new.parquet", ITEMS), CPU)
    assert run_ranks(1, write_vectors, here) == [""]
    assert len(Store(VECTORS, pa.string()).ids) == 3 and refresh(made).delta is None


def regrouped(home: Path) -> str:
    return write_vectors(home, groups=1)


def aligned_anew(home: Path) -> str:
    return write_vectors(home, anew=True)


def test_what_another_encoder_generated_is_not_dropped(here: Path) -> None:
    made = slotted.config()
    generate(made, write(here / "new.parquet", ITEMS), CPU)
    before = {path: path.read_bytes() for path in VECTORS.rglob("*.*") if path.is_file()}
    for other in (regrouped, aligned_anew):
        [said] = run_ranks(1, other, here)
        assert re.match(
            r"base/proxy/vectors/generated: holds 3 generated items of another encoder.*: where a ranker", said
        )
        assert {path: path.read_bytes() for path in VECTORS.rglob("*.*") if path.is_file()} == before
    assert refresh(made).held == 3
    VECTORS.rename("older")
    assert run_ranks(1, aligned_anew, here) == [""]
    with pytest.raises(InputError, match=r"these are not the vectors that .* was trained with"):
        refresh(made)
    shutil.rmtree(VECTORS)
    Path("older").rename(VECTORS)
    assert refresh(made).held == 3


def test_another_encoder_is_refused_before_it_is_aligned(here: Path) -> None:
    made = slotted.base()
    vectors.require_replaceable(made)
    generate(slotted.config(), write(here / "new.parquet", ITEMS), CPU)
    vectors.require_replaceable(replace(made, proxy=replace(made.proxy, sample=9)))
    longer = replace(made.proxy, encoder=replace(made.proxy.encoder, tokens=9))
    for other in (longer, replace(made.proxy, groups=1)):
        with pytest.raises(InputError, match=r"vectors/generated: holds 3 generated items of another encoder"):
            vectors.require_replaceable(replace(made, proxy=other))


def in_parts(home: Path) -> int:
    """Generate 8 items in parts of 3; how many were encoded."""
    with slotted.inside(home), pytest.MonkeyPatch.context() as patch:
        patch.setattr("proxy.generate.PART", 3)
        return generate(slotted.config(), Path("many.parquet"), CPU).encoded


def test_killed_in_between_it_loses_a_part_at_most(here: Path) -> None:
    many = [f"new {k:02d}" for k in range(8)]
    write(here / "many.parquet", many)
    made, done = slotted.config(), shutil.copytree(here, here.parent / "done")
    points = crash.points(done, in_parts, done)
    assert sum("after replace" in point and "part-" in point for point in points) == 3
    between = next(point for point in points if "after replace" in point and "part-00001" in point)
    for point in [between, *crash.chosen(points)]:
        home = shutil.copytree(here, here.parent / "killed")
        crash.kill(point, home, in_parts, home)
        whole = len(list((home / VECTORS / "generated").glob("part-*.parquet")))
        assert in_parts(home) == max(8 - 3 * whole, 0), point
        for name in ("item_coarse", "item_layers", "item_fine"):
            read = served if name == "item_fine" else stored
            found = []
            for each in (home, done):
                with slotted.inside(each):
                    found.append(read(made, name, many))
            assert torch.equal(*found) and found[0].any(1).all(), (point, name)
        shutil.rmtree(home)


def test_the_service_gives_what_the_batch_does(here: Path) -> None:
    made = slotted.config()
    path = write(here / "new.parquet", ITEMS)
    generate(made, path, CPU)
    generator = Generator.of(made)
    rows = pq.read_table(path).to_pylist()
    for at, found in enumerate([generator([row]) for row in rows]):
        for name, values in (("item_coarse", found.coarse), ("item_layers", found.layers)):
            torch.testing.assert_close(values, stored(made, name, ITEMS[at : at + 1]).float(), atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(found.fine, served(made, "item_fine", ITEMS[at : at + 1]), atol=5e-3, rtol=5e-3)
    # Some at once, one of them without content and one without a field.
    mixed = generator([rows[0], {"item_id": "bare", "title": None}, {"item_id": "short", "title": "new b"}])
    assert mixed.ids.to_pylist() == ["new a", "bare", "short"] and mixed.told.tolist() == [True, False, True]
    nothing = fine(made, torch.zeros(1, slotted.DIM), torch.zeros(1, slotted.GROUPS * models.WIDTH))
    assert not mixed.coarse[1].any() and mixed.fine is not None
    torch.testing.assert_close(mixed.fine[1:2], nothing)
    assert mixed.coarse[2].any() and not torch.equal(mixed.coarse[2], mixed.coarse[0])
    for bad in (7, "\ud800"):
        with pytest.raises(InputError, match="items: 'title': expected values of one type"):
            generator([{"item_id": "a", "title": "Heat"}, {"item_id": "b", "title": bad}])
