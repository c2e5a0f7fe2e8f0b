import io

from rich.console import Console

from recsys.evaluate import report

FOUND = {
    "dataset": "tiny",
    "split": "temporal/test",
    "seeds": [0],
    "systems": {
        "base": {
            "all": {"auc": [0.75, 0.7, 0.8], "ne": [0.9, 0.85, 0.95], "rows": 12000, "users": 800},
            "cold": {"rows": 12, "users": 3},
        }
    },
    "differences": {"promo - base": {"all": {"auc": [0.01, -0.002, 0.02], "rows": 12000, "users": 800}}},
    "users_left_out": {"all": 1200, "cold": 9},
    "reliability": {"base": {"all": [[6000, 0.2, 0.25], [6000, 0.8, 0.75]]}},
}


def shown() -> str:
    console = Console(file=io.StringIO(), width=60)
    report.show(FOUND, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_terminal_table_has_values_intervals_and_too_few() -> None:
    lines = [" ".join(line.split()) for line in shown().splitlines()]
    assert "tiny, split temporal/test, seed 0" in lines
    assert "all 12,000 800 0.7500 0.9000" in lines
    assert "0.7000 0.8000 0.8500 0.9500" in lines
    assert "cold 12 3 too few too few" in lines
    assert "-0.0020 +0.0200" in lines
    assert "users left out of GAUC for having one class: all 1,200, cold 9" in lines
    assert "base all 6,000 0.200 0.250" in lines


def test_a_system_with_no_metric_at_all_still_prints() -> None:
    console = Console(file=io.StringIO(), width=60)
    few = {"rows": 12, "users": 3}
    report.show(FOUND | {"systems": {"base": {"all": few}}, "differences": {}}, console)
    assert isinstance(console.file, io.StringIO)
    assert "too few" in console.file.getvalue()


def test_rankings_show_their_counts_and_protocol() -> None:
    ranked = {"recall@20": [0.25, 0.2, 0.3], "positives": 4000, "ranked_users": 900}
    found = {key: FOUND[key] for key in ("dataset", "split", "seeds")} | {
        "systems": {"base": {"all": ranked, "cold": {"positives": 5, "ranked_users": 4}}},
        "protocol": {"candidates": {"all": 3706, "cold": 741}, "masked": "training positives"},
        "without_vector": {"base": {"users": 0, "cold items": 741}, "other": {"users": 0, "cold items": 0}},
    }
    console = Console(file=io.StringIO(), width=60)
    report.show(found, console)
    assert isinstance(console.file, io.StringIO)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    assert "segment positives ranked users recall@20" in lines
    assert "all 4,000 900 0.2500" in lines and "cold 5 4 too few" in lines
    assert "candidates: all 3,706, cold 741" in lines and "masked: training positives" in lines
    assert "base: without a vector of their own: 0 users, 741 cold items" in lines
    assert not [line for line in lines if line.startswith("other:")]


def test_markdown_of_a_file_with_both_kinds_of_metrics() -> None:
    both = {"auc": [0.75, 0.7, 0.8], "rows": 12000, "users": 800, "positives": 5, "ranked_users": 4}
    found = {"systems": {"base": {"all": both}}}
    assert report.markdown(found, ["auc"]).splitlines()[-1] == "| base | all | 12,000 | 800 | 0.7500 [0.7000, 0.8000] |"
    assert report.markdown(found, ["recall@20"]).splitlines()[::2] == [
        "| system | segment | positives | ranked users | recall@20 |",
        "| base | all | 5 | 4 | too few |",
    ]


def test_markdown() -> None:
    assert report.markdown(FOUND) == (
        "| system | segment | rows | users | AUC | NE |\n"
        "| --- | --- | ---: | ---: | ---: | ---: |\n"
        "| base | all | 12,000 | 800 | 0.7500 [0.7000, 0.8000] | 0.9000 [0.8500, 0.9500] |\n"
        "| base | cold | 12 | 3 | too few | too few |\n"
    )
    assert report.markdown(FOUND, ["auc"], ["all"], key="differences").splitlines()[-1] == (
        "| promo - base | all | 12,000 | 800 | +0.0100 [-0.0020, +0.0200] |"
    )
