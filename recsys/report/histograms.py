"""Do cold items get their chance? Scores of cold positives beside those of warm negatives (PROMO's figure 2).

Read as `tools.evaluate` reads them: 9 bytes a test row, and 4 more while one system's scores are counted.

Legend: N rows of cold positives and warm negatives, S systems.
"""

from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import FigureBase
from numpy.typing import NDArray

from recsys.data.schema import read_info
from recsys.evaluate import metrics
from recsys.evaluate.bootstrap import Sample, Weights, resample
from recsys.evaluate.scores import read_rows, read_scores
from recsys.evaluate.segments import training_counts
from recsys.evaluate.ties import id_keys
from recsys.report.drawing import axes_of, head
from recsys.report.figure import Figure, Made, NotRun, Panel, Sheet, interval
from recsys.report.palette import ACCENT, INK, MUTED
from recsys.report.source import Source

TITLE = "Cold positives against warm negatives"
HEIGHT = 220
BINS = 40


def make(source: Source) -> Made:
    """A panel for each system's scores.

    Raises:
        InputError: as `read_rows` and `read_scores`.
    """
    dataset = Path(source.config.data.path)
    if not source.scores:
        return NotRun(TITLE, [source.command("tools.predict")])
    info, rows = read_info(dataset), read_rows(dataset, "test")
    warm = (training_counts(dataset, rows.items) > 0)[rows.item]
    chosen = warm == (rows.label == 0)
    keys = id_keys(rows.users), id_keys(rows.items)
    sample = Sample.of(rows.user[chosen], rows.item[chosen], rows.label[chosen], *keys)
    if len(np.unique(sample.label)) < 2:
        return NotRun(TITLE, [source.command("tools.prepare")])
    scores = [read_scores(one.path, len(rows.label), "test", info.fingerprint)[chosen] for one in source.scores]
    chances = _chances(sample, scores, source.config.evaluate.replicates, source.config.evaluate.seed)
    most = max(_share(score[sample.label == label]).max() for score in scores for label in (0, 1))
    panels, table = [], []
    for one, score, chance in zip(source.scores, scores, chances, strict=True):
        cold, other = score[sample.label == 1], score[sample.label == 0]
        told = (
            f"{one.title}: a cold positive outranks a warm negative with chance {interval(chance)}; their medians are "
            f"{np.median(cold):.3f} and {np.median(other):.3f}."
        )
        title = f"{'before' if one.system == 'base' else 'after'}: {one.title}"
        under = f"a cold positive wins: {interval(chance)}"
        draw = partial(_draw, cold=_share(cold), warm=_share(other), most=float(most), title=title, under=under)
        panels.append(Panel(told, HEIGHT, draw))
        medians = [f"{np.median(values):.4f}" for values in (cold, other)]
        table.append([one.title, f"{len(cold):,}", f"{len(other):,}", *medians, interval(chance, ".4f")])
    heads = ["system", "cold positives", "warm negatives", "median, cold positives", "median, warm negatives"]
    return Figure(
        name="scores",
        title=TITLE,
        finding=_most_often([one.title for one in source.scores], chances),
        panels=panels,
        sheet=Sheet([*heads, "cold positive above warm negative, 95 % interval"], table),
        commands=[source.command("tools.predict"), *source.evaluations()],
        note="New items have no training rows. The further right the filled hill, the better their chance.",
    )


def _most_often(titles: list[str], chances: NDArray[np.float64]) -> str:
    best = int(chances[:, 0].argmax())
    told = f"A new item that was taken outranks a warm one that was not with chance {interval(chances[0])} under "
    return f"{told}{titles[0]}" + (f"; most often, {interval(chances[best])}, under {titles[best]}." if best else ".")


def _chances(sample: Sample, scores: list[NDArray[np.float32]], replicates: int, seed: int) -> NDArray[np.float64]:
    """[S, 3] the chance that a cold positive scores above a warm negative (their AUC): value, low, high."""
    pairs = [metrics.rank(score, sample.label) for score in scores]

    def under(user_weight: Weights, item_weight: Weights) -> NDArray[np.float64]:
        weight = user_weight[sample.user] * item_weight[sample.item]
        return np.array([[metrics.auc(one, weight)] for one in pairs])

    judged = resample(sample, under, replicates, seed, "scores")
    return np.array([judged.interval(k)[0] for k in range(len(scores))])


def _share(score: NDArray[np.float32]) -> NDArray[np.float64]:
    """[BINS] percent of the scores by their size."""
    counts: NDArray[np.float64] = np.histogram(score, BINS, (0, 1))[0] * (100 / len(score))
    return counts


def _draw(
    host: FigureBase, cold: NDArray[np.float64], warm: NDArray[np.float64], most: float, title: str, under: str
) -> None:
    head(host, HEIGHT, title, under)
    axis = axes_of(host, HEIGHT, 36, 14, top=52, bottom=44)
    edges = np.linspace(0, 1, BINS + 1)
    axis.stairs(cold, edges, fill=True, color=ACCENT, alpha=0.22)
    axis.stairs(cold, edges, color=ACCENT, linewidth=1.8)
    axis.stairs(warm, edges, color=MUTED, linewidth=1.6, linestyle=(0, (3, 1.5)))
    axis.set(xlim=(0, 1), ylim=(0, most * 1.28), xlabel="score", ylabel="% of rows", xticks=[0, 0.25, 0.5, 0.75, 1])
    axis.tick_params(length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="y")
    right = bool(cold @ edges[1:] / cold.sum() >= warm @ edges[1:] / warm.sum())
    named = ((cold, "cold positives", ACCENT, right), (warm, "warm negatives", INK, not right))
    for values, name, colour, to_right in named:
        peak = int(values.argmax())
        x, side = (0.99, "right") if to_right else (0.02, "left")
        axis.annotate(
            name,
            (edges[peak] + 0.5 / BINS, float(values[peak])),
            xytext=(x, most * 1.2),
            ha=side,
            va="center",
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.8, "shrinkB": 3},
        )
