import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recsys.errors import InputError
from recsys.evaluate import results


def found(system: str, segment: str, auc: float, **more: object) -> dict[str, object]:
    entry = {"auc": [auc, auc - 0.1, auc + 0.1], "rows": 10, "users": 2}
    return {
        "dataset": "tiny",
        "split": "temporal/test",
        "seeds": [0],
        "systems": {system: {segment: entry}},
        "seconds": {"evaluate": 1.0},
        **more,
    }


def test_saving_merges_by_system_and_segment(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.json"
    results.save(found("base", "all", 0.5, seconds={"train": 9.0}), path)
    results.save(found("base", "n=8", 0.6), path)
    results.save(found("promo", "all", 0.7), path)
    results.save(found("base", "all", 0.8), path)
    read = results.read(path)
    assert {name: list(entry) for name, entry in read["systems"].items()} == {"base": ["all", "n=8"], "promo": ["all"]}
    assert read["systems"]["base"]["all"]["auc"][0] == 0.8
    assert read["seconds"] == {"train": 9.0, "evaluate": 1.0}
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def ranked(system: str, segment: str, recall: float, **more: object) -> dict[str, object]:
    entry = {"recall@20": [recall, recall, recall], "positives": 7, "ranked_users": 3}
    return found(system, segment, 0.0) | {"systems": {system: {segment: entry}}, **more}


def test_pointwise_and_ranking_metrics_of_a_segment_are_replaced_each_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    change = {"all": {"auc": [0.1, 0.0, 0.2], "rows": 10, "users": 2}}
    results.save(found("base", "all", 0.5, differences={"promo - base": change}), path)
    results.save(ranked("base", "all", 0.25, differences={"promo - base": {"all": {"positives": 7}}}), path)
    merged = results.read(path)
    pointwise = {"auc": [0.5, 0.4, 0.6], "rows": 10, "users": 2}
    ranking = {"recall@20": [0.25] * 3, "positives": 7, "ranked_users": 3}
    assert merged["systems"]["base"]["all"] == pointwise | ranking
    assert merged["differences"]["promo - base"]["all"] == change["all"] | {"positives": 7}
    # Too few on another day: the old value does not outlive its counts.
    few = found("base", "all", 0.0) | {"systems": {"base": {"all": {"rows": 1, "users": 1}}}}
    results.save(few, path)
    assert results.read(path)["systems"]["base"]["all"] == {"rows": 1, "users": 1} | ranking


def test_rankings_by_another_protocol_are_not_merged(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results.save(found("base", "all", 0.5), path)
    results.save(ranked("base", "all", 0.5, protocol={"candidates": {"all": 9}, "ties": "seed 0"}), path)
    results.save(found("promo", "all", 0.5), path)
    with pytest.raises(InputError, match="holds protocol, ties 'seed 0', these are of 'seed 1'; use another file"):
        results.save(ranked("promo", "all", 0.5, protocol={"candidates": {"all": 9}, "ties": "seed 1"}), path)
    assert results.read(path)["protocol"]["ties"] == "seed 0"


@pytest.mark.parametrize("other", [{"dataset": "big"}, {"split": "temporal/valid"}, {"seeds": [1]}])
def test_results_that_cannot_be_compared_are_not_merged(tmp_path: Path, other: dict[str, object]) -> None:
    path = tmp_path / "results.json"
    results.save(found("base", "all", 0.5), path)
    before = path.read_text()
    with pytest.raises(InputError, match=f"holds {next(iter(other))}"):
        results.save(found("base", "all", 0.5, **other), path)
    assert path.read_text() == before


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[]", "not a results file"), ("{}", "'dataset'")])
def test_a_file_that_is_not_results_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=message):
        results.read(tmp_path / "r.json")


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    results.save(found("base", "all", 0.5), tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["systems"]["base"]["all"]["rows"] == 10


def test_tensorboard_gets_every_metric_with_its_interval(tmp_path: Path) -> None:
    results.log(found("base", "100+", 0.5), tmp_path)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    written = {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]}
    tag = "evaluate/base/100+/auc"
    assert written == pytest.approx({tag: 0.5, f"{tag}/low": 0.4, f"{tag}/high": 0.6})
