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
