"""What single figures tell, held against plain formulas."""

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.colors import to_rgb
from sklearn.metrics import roc_auc_score

from recsys.data.schema import split_files
from recsys.evaluate import results
from recsys.evaluate.pointwise import evaluate
from recsys.evaluate.scores import read_rows, read_scores
from recsys.evaluate.segments import training_counts
from recsys.pipeline import records
from recsys.pipeline.records import Record
from recsys.report import cost, curves, funnel, histograms, source, space
from recsys.report.drawing import spread
from recsys.report.figure import Figure, interval, listed
from recsys.report.metrics import kept, words
from recsys.report.palette import COLOURS, styles
from tests.report import planted


def made(figure: object) -> Figure:
    assert isinstance(figure, Figure)
    return figure


def test_a_cold_positive_wins_as_often_as_the_auc_says(home: Path) -> None:
    config = planted.config(home)
    better = {"idproxy": home / "run" / "better.parquet"}
    sheet = made(histograms.make(source.read(config, "", better))).sheet
    rows = read_rows(home / "data", "test")
    warm = (training_counts(home / "data", rows.items) > 0)[rows.item]
    chosen = (warm & (rows.label == 0)) | (~warm & (rows.label == 1))
    for path, row in zip((home / "run" / "scores" / "test", better["idproxy"]), sheet.rows, strict=True):
        score = read_scores(path, len(rows.label), "test")[chosen]
        assert row[-1].startswith(f"{roc_auc_score(rows.label[chosen], score):.4f} [")
        assert row[3] == f"{np.median(score[rows.label[chosen] == 1]):.4f}"


def test_the_interval_follows_from_the_ids_and_not_from_their_places(home: Path) -> None:
    """The same rows, those of each file in the opposite order."""
    config = planted.config(home)
    before = made(histograms.make(source.read(config, "", {}))).sheet.rows
    place = np.zeros(0, np.int64)
    for path in split_files(home / "data", "test"):
        rows = pq.read_table(path, partitioning=None)
        backwards = np.arange(rows.num_rows)[::-1]
        pq.write_table(rows.take(backwards), path)
        place = np.append(place, len(place) + backwards)
    for path in (home / "run" / "scores" / "test").glob("*.parquet"):
        scores = pq.read_table(path)
        pq.write_table(scores.set_column(0, "row_id", pa.array(place[scores["row_id"].to_numpy()])), path)
    assert made(histograms.make(source.read(config, "", {}))).sheet.rows == before


def test_every_evaluation_is_named_with_all_its_scores(home: Path) -> None:
    """Also of systems that lie elsewhere, and of an exposure that was judged by itself."""
    config, scored = planted.config(home), home / "run" / "scores" / "test"
    given = {"base": scored, "road": home / "run" / "better.parquet", "base/finetuned": scored}
    found = evaluate(config, given, baseline="base/finetuned", exposure=2, only=["n=2"])
    results.save(found | {"dataset": f"tiny {planted.HOSTILE}"}, home / "run" / "results.json")
    read = source.read(config, "config.yaml", {})
    first, second = read.evaluations()
    named = [word.partition("=")[0] for word in shlex.split(first) if "=" in word]
    assert named == ["base", "idproxy", planted.HOSTILE] and "--exposure" not in first
    assert shlex.split(second) == [
        *("python", "-m", "tools.evaluate", "config.yaml"),
        *(word for name, path in given.items() for word in ("--scores", f"{name}={path}")),
        *("--against", "base/finetuned", "--exposure", "2", "--only", "n=2"),
    ]


def test_the_cost_is_the_pipeline_s_where_it_has_run(home: Path) -> None:
    run = home / "run"

    def done(name: str, seconds: float, *outputs: Path) -> None:
        record = Record(
            step=name,
            state="done",
            command=f"python -m tools.{name} config.yaml",
            arguments="",
            values={},
            inputs={},
            outputs={str(path): "digest" for path in outputs},
            seconds=seconds,
        )
        records.write(run, record)

    done("align", 10.0, run / "proxy" / "align", run / "proxy" / "vectors" / "coarse.parquet")
    done("simulate", 7.0, run / "simulator" / "simulated")
    done("simulate", 80.0, run / "simulator" / "simulated")  # again, after a change: the last time counts
    done("train", 30.0, run / "checkpoints")
    records.write(run, replace(records.read(run)["train"], step="prompt", state="begun"))
    figure = made(cost.make(source.read(planted.config(home), "config.yaml", {})))
    rows = {row[0]: row[1:] for row in figure.sheet.rows}
    assert rows.pop("evaluate")[1:] == ["", ""], "no pipeline has judged"
    assert rows == {
        "simulate": ["80.0", "4", "180"],
        "train": ["30.0", "", ""],
        "align": ["10.0", "30", "10,800"],
    }
    assert figure.commands == [f"python -m tools.{name} config.yaml" for name in ("align", "simulate", "train")]


def test_the_funnel_counts_pairs_by_item(home: Path) -> None:
    figure = made(funnel.make(source.read(planted.config(home), "", {}))[0])
    assert [row[:2] for row in figure.sheet.rows[:5]] == [
        ["users", "40.00"],
        ["filtered", "5.00"],
        ["asked", "4.50"],
        ["qualified", "3.00"],
        ["real", "0.75"],
    ]
    assert "RealPair (chance 0.050): 0.250 [0.100, 0.400]" in figure.finding


def test_a_curve_is_sorted_and_speaks_of_its_beginning(home: Path) -> None:
    figure = made(curves.warm_up(source.read(planted.config(home), "", {})))
    assert [row[2] for row in figure.sheet.rows] == ["0", "8", "16"] * 2
    assert figure.finding == "At 0 impressions base is highest, AUC 0.650 [0.630, 0.670]."
    assert "road from 0.650 to 0.730 [0.710, 0.750]" in figure.panels[0].told


def test_the_map_is_the_same_for_the_same_seed_and_near_for_alike() -> None:
    random = np.random.default_rng(0)
    centres = np.eye(8)[[0] * 30 + [1] * 30] + 0.05 * random.normal(size=(60, 8))
    unit = (centres / np.linalg.norm(centres, axis=1, keepdims=True)).astype(np.float32)
    xy = space.arrange(unit, 3)
    assert np.array_equal(xy, space.arrange(unit, 3))
    between = np.linalg.norm(xy[:30].mean(axis=0) - xy[30:].mean(axis=0))
    assert between > 2 * np.linalg.norm(xy[:30] - xy[:30].mean(axis=0), axis=1).mean()


def test_labels_keep_their_distance_and_their_order() -> None:
    wanted = [0.5, 0.1, 0.52, 0.51]
    places = spread(wanted, 0.1)
    order = np.argsort(wanted)
    assert np.array_equal(np.argsort(places), order)
    assert np.diff(np.array(places)[order]).min() > 0.1 - 1e-12
    assert spread([0.1, 0.9], 0.1) == [0.1, 0.9]


def test_words_for_numbers_and_segments() -> None:
    assert interval([-0.01, -0.02, 0.003], "+.2f") == "−0.01 [−0.02, +0.00]"
    assert listed(["a"]) == "a" and listed(["a", "b", "c"]) == "a, b and c"
    assert [kept(name) for name in ("n=0", "n=8", "n=8/warm", "5-19", "all")] == [0, 8, None, None, None]
    assert words("n=8") == "new items, 8 rows of feedback" and words("5-19") == "items with 5–19 training rows"


SEEN = {
    "everybody": np.eye(3),
    # Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
}


def linear(colour: str) -> np.ndarray:
    value = np.array(to_rgb(colour))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear sRGB under D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    f = np.cbrt(to_xyz @ np.clip(rgb, 1e-6, 1) / np.array([0.9505, 1, 1.089]))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("paper", [0, 1], ids=["light", "dark"])
def test_systems_differ_to_colour_blind_eyes_and_stand_out_from_the_paper(paper: int) -> None:
    known = styles(["base", "idproxy", "simulated", "promo", "road"])
    on_paper = {light: (light, dark)[paper] for light, dark in COLOURS.values()}
    colours = [on_paper[style.colour] for style in known.values()]
    assert len({style.marker for style in known.values()}) == len({str(style.dashes) for style in known.values()}) == 5
    for eyes in SEEN.values():
        seen = [lab(eyes @ linear(colour)) for colour in colours]
        apart = [np.linalg.norm(a - b) for k, a in enumerate(seen) for b in seen[:k]]
        assert min(apart) > 19
    light = np.array([0.2126, 0.7152, 0.0722])
    ground = light @ linear(COLOURS["paper"][paper])
    texts = [COLOURS[name][paper] for name in ("ink", "muted", "accent")]
    for colour in (*colours, *texts):
        ends = sorted((light @ linear(colour) + 0.05, ground + 0.05))
        assert ends[1] / ends[0] >= (4.5 if colour in texts else 3), colour


def test_a_system_looks_alike_whoever_else_is_there() -> None:
    few, many = styles(["base", "mine"]), styles(["road", "mine", "base", "other"])
    assert few["base"] == many["base"] and few["mine"] == many["mine"] != many["other"]
