"""A look at planted vectors: every number by plain numpy from the run's own files, pictures that show something."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed.checkpoint as dcp
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from proxy import figures, space
from proxy.look import log, look, table
from proxy.targets import divide
from recsys import settings
from recsys.config import Config
from recsys.config_proxy import Align
from recsys.data.schema import read_info, write_info
from recsys.distributed import process_group
from recsys.errors import InputError
from recsys.tables import checkpoint, content
from recsys.tables.checkpoint import Progress
from recsys.tables.version import Version
from recsys.train import build, fitted
from tests import contents, tiny
from tests.proxy import runs
from tests.ranks import run_ranks

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
SLOT = "ranker.dense_arch.slot.fuse.weight"
DIM = 12
ALIGN = {"tau": 5, "valid_share": 0.2, "test_share": 0.3}


def slotted(home: Path, place: str) -> Config:
    paths = {key: str(home / f"{key}.parquet") for key in ("coarse", "layers")}
    model = contents.model(paths, place, dim=DIM)
    return tiny.config(home / "data", home / place, model=model, proxy={"align": ALIGN})


def save(home: Path, place: str) -> None:
    """An untrained run with proxies, but for a slot whose matrix has left zero."""
    with process_group() as ranks:
        made = slotted(home, place)
        encoder = fitted(made, ranks)
        sharded = build(made, encoder, ranks)
        content.fill(sharded, encoder, ranks)
        for name, parameter in sharded.model.named_parameters():
            if name.endswith("slot.fuse.weight"):
                torch.nn.init.normal_(parameter, std=0.05)
        run = home / place
        checkpoint.save(run / "checkpoints", sharded, Progress(step=7, best_auc=0.5), 1, Version("tables", "run", 7))
        write_info(read_info(made.data.path), run)
        settings.dump(made, run / "config.yaml")


@pytest.fixture(scope="module")
def slots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny dataset, its content files, and a run with each place for them."""
    home = tmp_path_factory.mktemp("slots")
    tiny.write(home / "data")
    contents.write(home)
    for place in ("slot", "feature"):
        run_ranks(1, save, home, place)
    return home


@pytest.fixture
def base(home: Path, tmp_path: Path) -> Config:
    """A run without proxies, and coarse vectors beside it for all items but each fifth."""
    shutil.copytree(home / "run", tmp_path / "run", ignore=shutil.ignore_patterns("proxy"))
    made = replace(runs.config(home), run=str(tmp_path / "run"))
    (tmp_path / "run" / "config.yaml").unlink()
    settings.dump(made, tmp_path / "run" / "config.yaml")
    folder = tmp_path / "run" / "proxy" / "vectors"
    folder.mkdir(parents=True)
    vectors = np.random.default_rng(1).normal(size=(tiny.ITEMS, 8)).astype(np.float32)
    named = [k for k in range(tiny.ITEMS) if k % 5]
    ids = [f"item {k:02d}" for k in named]
    pq.write_table(pa.table({"item_id": ids, "vector": list(vectors[named])}), folder / "coarse.parquet")
    return made


def stored(run: Path, *names: str) -> dict[str, Tensor]:
    """Tensors of a checkpoint as `torch.distributed.checkpoint` reads them."""
    source = checkpoint.best(run / "checkpoints")
    shapes = {key.removeprefix("model."): each for key, each in sizes(source).items() if key.startswith("model.")}
    wanted = {name: torch.empty(shapes[name].size, dtype=shapes[name].properties.dtype) for name in names or shapes}
    dcp.load({"model": wanted}, checkpoint_id=source)
    return wanted


def sizes(source: Path) -> dict[str, Any]:
    return dcp.FileSystemReader(source).read_metadata().state_dict_metadata


def rows_of(run: Path, table: str) -> dict[str, tuple[int, int]]:
    """Row and training rows of each id."""
    told = pq.read_table(run / "encoder" / f"{table}.parquet").to_pylist()
    return {each["id"]: (each["row"], each["count"]) for each in told}


def parts_of(run: Path, ids: list[str], options: Align) -> list[str]:
    of, drawn = rows_of(run, "item_id"), divide(pa.array(ids), options)
    counts = [of[item][1] if item in of else 0 for item in ids]
    return [
        space.PARTS[part] if count >= options.tau else "rare" if count else "new"
        for part, count in zip(drawn, counts, strict=True)
    ]


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_numbers_of_an_alignment(base: Config) -> None:
    told, run = look(base), Path(base.run)
    ids = [f"item {k:02d}" for k in range(tiny.ITEMS)]
    parts, of = parts_of(run, ids, base.proxy.align), rows_of(run, "item_id")
    e = stored(run, runs.ITEM)[runs.ITEM].numpy()
    proxies = {
        r["item_id"]: np.array(r["vector"]) for r in pq.read_table(run / "proxy/vectors/coarse.parquet").to_pylist()
    }
    assert {"train", "test", "new"} <= set(parts)
    for part in set(parts):
        mine = [item for item, one in zip(ids, parts, strict=True) if one == part]
        with_proxy = [item for item in mine if item in proxies]
        found = told["medians"]["coarse"][part]
        assert found["items"] == len(with_proxy)
        assert found["length"] == pytest.approx(np.median([np.linalg.norm(proxies[i]) for i in with_proxy]), abs=1e-4)
        if part in ("rare", "new"):
            assert (
                found["cosine"] is None and part not in told["medians"]["id"] and part not in told["medians"]["unknown"]
            )
            continue
        own = np.median([cosine(proxies[item], e[of[item][0]]) for item in with_proxy])
        assert found["cosine"] == pytest.approx(own, abs=1e-4)
        unknown = np.median([cosine(e[0], e[of[item][0]]) for item in mine])
        assert told["medians"]["unknown"][part]["cosine"] == pytest.approx(unknown, abs=1e-4)
        assert told["medians"]["id"][part]["length"] == pytest.approx(
            np.median([np.linalg.norm(e[of[item][0]]) for item in mine]), abs=1e-4
        )
        assert told["medians"]["id"][part]["cosine"] == pytest.approx(1.0, abs=1e-4)
    assert told["tables"] == "tables/run/7" and told["aligned_to"] is None
    assert json.loads((run / "proxy" / "look" / "look.json").read_text()) == told
    assert table(told).row_count == sum(len(each) for each in told["medians"].values())


def expected(home: Path, place: str) -> dict[str, dict[str, NDArray[Any]]]:
    """Every kind of vector of every item, by the equations."""
    run = home / place
    state = {name.removeprefix("ranker."): value.float() for name, value in stored(run).items()}
    p = {name.removeprefix("dense_arch.proxies."): value for name, value in state.items() if "proxies." in name}
    of, e = rows_of(run, "item_id"), state["items.embeddings.item_id.weight"]
    found: dict[str, dict[str, NDArray[Any]]] = {kind: {} for kind in ("id", "coarse", "fine", "stand-in", "row")}
    for item, (row, _) in rows_of(run, "item_coarse").items():
        c = p["project.weight"] @ state["content.item_coarse.embeddings.item_coarse.weight"][row]
        z = state["content.item_layers.embeddings.item_layers.weight"][rows_of(run, "item_layers")[item][0]]
        hidden = torch.relu(p["adaptor.0._mlp.0._linear.weight"] @ z + p["adaptor.0._mlp.0._linear.bias"])
        raw = p["adaptor.1.weight"] @ hidden + p["adaptor.1.bias"]
        fine = p["carry.weight"] @ c + torch.sigmoid(p["gate.weight"] @ torch.cat([c, raw])) * raw
        found["coarse"][item], found["fine"][item] = c.numpy(), fine.numpy()
        shift = state["dense_arch.slot.fuse.weight"] @ torch.cat([c, fine]) if place == "slot" else torch.zeros(DIM)
        found["stand-in"][item] = (e[0] + shift).numpy()
        if item in of:
            found["row"][item], found["id"][item] = e[of[item][0]].numpy(), (e[of[item][0]] + shift).numpy()
    return found


@pytest.mark.parametrize("place", ["slot", "feature"])
def test_vectors_of_a_run_with_proxies(slots: Path, place: str) -> None:
    made = slotted(slots, place)
    found, by_hand = space.read(made), expected(slots, place)
    ids = found.items["item_id"].to_pylist()
    assert sorted(ids) == [f"item {k:02d}" for k in range(tiny.ITEMS)]
    assert [space.PARTS[k] for k in found.part] == parts_of(slots / place, ids, made.proxy.align)
    kinds = ["coarse", "fine", "stand-in"] if place == "slot" else ["coarse", "fine"]
    assert [*found.vectors] == ["id", *kinds, "unknown"]
    for kind in kinds:
        none = np.full(DIM, np.nan)
        plain = np.stack([by_hand[kind].get(item, none) for item in ids])
        np.testing.assert_allclose(found.vectors[kind], plain, rtol=1e-4, atol=1e-6)
        warm = [k for k, item in enumerate(ids) if found.part[k] <= 2 and item in by_hand["id"]]
        own = [cosine(plain[k], by_hand["id"][ids[k]]) for k in warm]
        np.testing.assert_allclose(found.cosine(kind)[warm], own, atol=1e-5)
        alone = [cosine(plain[k], by_hand["row"][ids[k]]) for k in warm]
        np.testing.assert_allclose(found.cosine_to_row(kind)[warm], alone, atol=1e-5)
        assert np.isnan(found.cosine(kind)[found.part > 2]).all()
    assert ("cosine_to_row" in look(made)["medians"]["coarse"]["train"]) == (place == "slot")


def test_cosines_to_others_are_never_to_the_item_itself(base: Config) -> None:
    found = space.read(base)
    warm = np.flatnonzero(found.part <= 2)
    e = found.vectors["id"]
    others = found.cosine_to_another("id")
    every = np.array([[cosine(e[a], e[b]) for b in warm if b != a] for a in warm])
    assert others.shape == (len(found.part), 8) and np.isnan(others[found.part > 2]).all()
    for k, item in enumerate(warm):
        assert all(np.abs(every[k] - value).min() < 1e-5 for value in others[item])
        assert len(np.unique(others[item].round(6))) == 8


def test_parts_are_those_that_the_alignment_drew(base: Config) -> None:
    before = space.read(base)
    told: dict[str, Any] = {"tau": 8, "valid_share": 0.3, "test_share": 0.4, "seed": 3}
    of = {
        **{f"proxy.align.{key}": value for key, value in told.items()},
        "proxy.align.folds": 3,
        "tables": "older/run/1",
    }
    folder = Path(base.run) / "proxy" / "align" / "best"
    folder.mkdir(parents=True)
    for fold in range(3):
        (folder.parent / f"fold-{fold}").mkdir()
    (folder / "about.json").write_text(json.dumps({"of": of}))
    found = space.read(base)
    ids = found.items["item_id"].to_pylist()
    assert [space.PARTS[k] for k in found.part] == parts_of(Path(base.run), ids, replace(base.proxy.align, **told))
    assert (found.aligned_to, before.aligned_to, found.folds) == ("older/run/1", None, 3)
    assert sorted(found.part) != sorted(before.part)


def test_the_same_run_gives_the_same_map_and_pictures(slots: Path) -> None:
    made = slotted(slots, "slot")
    found = space.read(made)
    once, again = (figures.arrange(space.read(made), seed=0) for _ in range(2))
    assert once.xy.tobytes() == again.xy.tobytes() and len(once.kind) == len(once.item) == len(once.xy)
    for kind in ("id", "coarse", "fine", "stand-in"):
        here = once.kind == kind
        assert 0 < here.sum() == np.isfinite(found.vectors[kind][:, 0]).sum()
        np.testing.assert_array_equal(once.vectors[here], found.vectors[kind][once.item[here]])
    folder = slots / "slot" / "proxy" / "look"
    look(made)
    bytes_of = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(bytes_of) == {"tsne.png", "cosines.png", "look.json"}
    look(made)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == bytes_of
    for name in ("tsne", "cosines"):
        with Image.open(folder / f"{name}.png") as picture:
            colours = picture.convert("RGB").getcolors(1 << 24)
        assert colours is not None and len(colours) > 50


def test_colours_and_dots_are_those_of_the_items(slots: Path) -> None:
    found = space.read(slotted(slots, "feature"))
    names = ["Drama", "Comedy", "", *(f"rare {k}" for k in range(9))]
    chosen = [names[0 if k < 12 else 1 if k < 18 else 2 + k % 10] for k in range(tiny.ITEMS)]
    at = found.items.column_names.index("category")
    found = replace(found, items=found.items.set_column(at, "category", pa.array(chosen)))
    drawn = figures.arrange(found, 0)
    panels = figures.tsne(found, drawn).axes
    assert [panel.get_title().split("\n")[0] for panel in panels[1:]] == ["true IDs", "coarse proxies", "fine proxies"]
    for panel, kind in zip(panels[1:], ("id", "coarse", "fine"), strict=True):
        dots = {each.get_label(): each.get_offsets() for each in panel.collections}
        mine = (drawn.kind == kind) & (np.array(chosen)[drawn.item] == "Drama") & (found.part[drawn.item] != 4)
        np.testing.assert_allclose(np.asarray(dots["Drama"]), drawn.xy[mine], rtol=1e-6)
    _, labels = panels[1].get_legend_handles_labels()
    assert labels[:3] == ["other", "Drama", "Comedy"] and len(labels) == 1 + 8


def test_the_projector_gets_every_vector_of_the_map(base: Config) -> None:
    items = Path(base.data.path) / "items.parquet"
    look(base)
    look(base)
    folder = Path(base.run) / "logs" / "look"
    found = space.read(base)
    drawn = figures.arrange(found, base.proxy.align.seed)
    vectors = np.loadtxt(folder / "00000" / "look" / "tensors.tsv", delimiter="\t")
    np.testing.assert_allclose(vectors, drawn.vectors, rtol=1e-5)
    head, *rows = (folder / "00000" / "look" / "metadata.tsv").read_text().splitlines()
    assert head == "title\tcategory\tkind\tpart" and len(rows) == len(vectors)
    titles = dict(zip(*(pq.read_table(items)[name].to_pylist() for name in ("item_id", "title")), strict=True))
    ids = found.items["item_id"].to_pylist()
    for row, item, kind in zip(rows, drawn.item, drawn.kind, strict=True):
        title, _, told, part = row.split("\t")
        assert (title, told, part) == (titles[ids[item]], kind, space.PARTS[found.part[item]])
    assert "tensors.tsv" in (folder / "projector_config.pbtxt").read_text()
    assert len([*folder.glob("events.out.tfevents.*")]) == 1


def test_a_title_of_several_lines_stays_one_row(slots: Path, tmp_path: Path) -> None:
    found = space.read(slotted(slots, "feature"))
    drawn = figures.arrange(found, 0)
    titles = pa.array(["one\ttwo\r\nthree\u2028 four"] * len(found.items))
    log(replace(found, items=found.items.set_column(1, "title", titles)), drawn, {}, tmp_path / "log")
    rows = (tmp_path / "log" / "00000" / "look" / "metadata.tsv").read_text().splitlines()
    assert len(rows) == 1 + len(drawn.kind) and rows[1].split("\t")[0] == "one two three four"


def test_nothing_to_look_at_is_said_in_a_line(base: Config, slots: Path, tmp_path: Path) -> None:
    (Path(base.run) / "proxy" / "vectors" / "coarse.parquet").unlink()
    with pytest.raises(InputError, match=r"coarse\.parquet: no such file: .* run tools\.align first"):
        look(base)
    assert not (Path(base.run) / "proxy" / "look").exists()
    with pytest.raises(InputError, match="no run there"):
        look(replace(base, run=str(tmp_path / "none")))
