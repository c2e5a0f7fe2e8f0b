"""Generated logs: what their settings promise, days that stay as they are, and our own tools reading them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from recsys import settings
from recsys.config_generate import Generate
from recsys.data.check import check
from recsys.errors import InputError
from recsys.generate import rows, world
from recsys.generate.truth import bayes_auc
from recsys.generate.write import generate, part
from tools import generate as command
from tools import prepare

ROOT = Path(__file__).parents[2]
SMALL = Generate(days=3, rows_a_day=4000, users=300, items=60, new_items=10, topics=6)


def log(path: Path, config: Generate = SMALL) -> Path:
    generate(replace(config, path=str(path)))
    return path


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def column(root: Path, kind: str, day: int, name: str) -> np.ndarray:
    with pq.ParquetFile(part(root, kind, day)) as file:
        return np.asarray(file.read(columns=[name])[name])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return log(tmp_path_factory.mktemp("made") / "log")


def test_the_same_settings_give_the_same_bytes_whatever_days_were_there(made: Path, tmp_path: Path) -> None:
    early = log(tmp_path / "log", replace(SMALL, days=2))
    shutil.rmtree(part(early, "interactions", 0).parent)
    first = part(early, "interactions", 1)
    stamp = first.stat().st_mtime_ns
    log(early)
    assert files(early) == files(made) and first.stat().st_mtime_ns == stamp
    other = log(tmp_path / "other", replace(SMALL, seed=1))
    assert all(files(other)[name] != data for name, data in files(made).items() if name.startswith("interactions"))


def test_items_are_shown_from_their_day_on(made: Path) -> None:
    seen: dict[int, int] = {}
    for day in range(SMALL.days):
        ids, born = (column(made, "items", day, name) for name in ("item_id", "first_seen"))
        seen |= dict(zip(ids.tolist(), born.tolist(), strict=True))
        shown, second = (column(made, "interactions", day, name) for name in ("item_id", "timestamp"))
        begin = SMALL.start + day * rows.DAY
        assert len(second) == SMALL.rows_a_day and begin <= second[0] and second[-1] < begin + rows.DAY
        assert (np.diff(second) >= 0).all()
        assert all(seen[item] <= begin for item in np.unique(shown).tolist())
        if day:
            assert (born == begin).all() and len(ids) == SMALL.new_items and np.isin(ids, shown).any()
    assert sorted(seen) == list(range(SMALL.items + 2 * SMALL.new_items))


def test_clicks_follow_the_chances_that_are_told(made: Path) -> None:
    chance = np.concatenate([column(made, "truth", day, "chance") for day in range(SMALL.days)]).astype(np.float64)
    clicked = np.concatenate([column(made, "interactions", day, "clicked") for day in range(SMALL.days)])
    for low, high in ((0.0, 0.15), (0.15, 0.4), (0.4, 1.0)):
        some = (chance >= low) & (chance < high)
        spread = (chance[some] * (1 - chance[some])).sum() ** 0.5
        assert some.sum() > 500 and abs(clicked[some].sum() - chance[some].sum()) < 4 * spread
    best = bayes_auc(made, 2)
    told = column(made, "interactions", 2, "clicked"), column(made, "truth", 2, "chance")
    assert best.value == pytest.approx(roc_auc_score(*told), abs=1e-9) and 0.7 < best.value < 0.9


def test_the_chance_is_the_formula() -> None:
    """One user without topics in common with the first item, and with the second, by hand."""
    config = replace(SMALL, spread=0.0)
    users = np.arange(300)
    own = world.interests(users, 1, config)
    topic = world.topics(np.arange(60), config)
    for user in (3, 50, 271):
        for item in (0, 7):
            weight = sum(w for w, each in zip((1.0, 0.7, 0.5), own[user], strict=True) if each == topic[item])
            logit = config.base + config.taste * weight - 0.2
            found = world.chance(np.array([user]), np.array([item]), np.array([1]), 1, config)
            assert found[0] == pytest.approx(1 / (1 + np.exp(-logit)))


def test_interests_drift_at_their_rate() -> None:
    config = replace(SMALL, users=5000, drift=0.2)
    users = np.arange(config.users)
    changed = np.mean(world.interests(users, 3, config) != world.interests(users, 4, config))
    assert changed == pytest.approx(0.2 * (1 - 1 / config.topics), abs=0.015)
    still = replace(config, drift=0.0)
    assert (world.interests(users, 0, still) == world.interests(users, 90, still)).all()


@pytest.mark.parametrize("power", [0.0, 0.8, 1.0, 1.3])
def test_users_are_drawn_by_zipf(power: float) -> None:
    config = replace(SMALL, users=1000, user_zipf=power)
    counts = np.bincount(world.active((np.arange(10**6) + 0.5) / 10**6, config), minlength=1000)
    assert (counts > 0).all(), "every rank is an id of its own"
    shares = np.sort(counts / counts.sum())[::-1]
    edges = np.arange(1, 1002.0)
    weight = np.log(edges) if power == 1.0 else edges ** (1 - power) / (1 - power)
    assert shares == pytest.approx(np.diff(weight) / (weight[-1] - weight[0]), abs=3e-6)


def test_popularity_falls_by_half_and_is_a_power_law() -> None:
    config = replace(SMALL, items=20_000)
    weight = world.popularity(np.arange(20_000), 4, config)
    later = world.popularity(np.arange(20_000), 14, config)
    assert later == pytest.approx(weight / 2)
    aged = np.sort(weight * 0.5 ** ((world.born(np.arange(20_000), config) - 4) / config.half_life))
    assert aged[-10] / aged[-1000] == pytest.approx(100**config.item_zipf, rel=0.5)


def test_a_large_day_comes_in_chunks(tmp_path: Path) -> None:
    path = log(tmp_path / "log", replace(SMALL, days=1, rows_a_day=rows.CHUNK + 10))
    metadata = pq.read_metadata(part(path, "interactions", 0))
    assert [metadata.row_group(k).num_rows for k in range(2)] == [rows.CHUNK // 2 + 5] * 2
    assert (np.diff(column(path, "interactions", 0, "timestamp")) >= 0).all()


def test_texts_tell_the_topic(made: Path) -> None:
    with pq.ParquetFile(part(made, "items", 0)) as file:
        items = file.read().to_pylist()
    topics: dict[str, set[str]] = {}
    for item in items:
        assert len(item["title"].split()) == 3 and len(item["text"].split()) == SMALL.words and item["price"] > 0
        [topic] = item["categories"]
        topics.setdefault(topic, set()).update(item["title"].split())
    assert len(topics) == SMALL.topics
    assert sum(map(len, topics.values())) == len(set().union(*topics.values())), "titles share no word over topics"


def test_another_log_is_left_alone(made: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"generate\.yaml: drift: the log was generated with 0\.05, the config says 0\.5"
    ):
        log(made, replace(SMALL, drift=0.5))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds files but no generate\.yaml"):
        log(tmp_path)


def test_the_commands_make_a_dataset_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = tmp_path / "logs"
    sizes = ["days=3", "rows_a_day=4000", "users=300", "items=60", "new_items=10"]
    command.main([str(ROOT / "configs" / "generate.yaml"), f"path={logs}", *sizes])
    assert "3 days of 4,000 rows, 3 of them made now" in capsys.readouterr().out
    here = [f"data.source.{kind}.path={logs / kind}" for kind in ("interactions", "items")]
    here += [f"data.source.users.path={logs / 'users.parquet'}", f"data.path={tmp_path / 'data'}"]
    prepare.main([str(ROOT / "configs" / "generated.yaml"), *here])
    config = settings.load(ROOT / "configs" / "generated.yaml", here)
    info = check(config)
    assert info.users == 300 and info.items == 80 and info.context == ["device"]
    read = pa.concat_tables([pq.read_table(path) for path in sorted((logs / "items").rglob("*.parquet"))])
    assert read.num_rows == 80


def test_every_setting_is_documented() -> None:
    assert Generate.__doc__
    assert [name for name, field in Generate.__pydantic_fields__.items() if not field.description] == []  # type: ignore[attr-defined]
