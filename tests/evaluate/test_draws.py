"""Several draws as one, worked by hand."""

from pathlib import Path

import numpy as np
import pytest

from recsys.errors import InputError
from recsys.evaluate import results
from recsys.evaluate.draws import APART, JOINT, combine


def result(seed: int, **systems: dict) -> dict:
    return {"dataset": "d", "split": "s", "seeds": [seed], "systems": systems, "differences": {}}


def test_values_and_ends_are_means_and_what_one_draw_lacks_is_left_out() -> None:
    first = {
        "n=0": {"auc": [0.7, 0.6, 0.8], "gauc": [0.5, 0.4, 0.6], "rows": 10, "users": 3},
        "warm": {"rows": 1, "users": 1},
    }
    second = {"n=0": {"auc": [0.8, 0.6, 0.9], "rows": 13, "users": 4}}
    found = combine([result(0, base=first, other=first), result(1, base=second)])
    assert found["seeds"] == [0, 1] and list(found["systems"]) == ["base"] and list(found["systems"]["base"]) == ["n=0"]
    entry = found["systems"]["base"]["n=0"]
    assert [round(x, 6) for x in entry["auc"]] == [0.75, 0.6, 0.85]
    assert "gauc" not in entry and (entry["rows"], entry["users"]) == (12, 4)
    assert found["interval"] == APART


def test_replicates_are_averaged_before_the_percentiles(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    drawn, replicates = [], random.normal(size=(3, 2, 40))
    for seed, both in enumerate(replicates):
        entries = {
            name: {"n=0": {"auc": [value, *np.quantile(one, [0.025, 0.975])], "rows": 5}}
            for name, value, one in zip(("base", "mine"), (seed, 10), both, strict=True)
        }
        change = [10 - seed, *np.quantile(both[1] - both[0], [0.025, 0.975])]
        one = result(seed, **entries) | {"differences": {"mine - base": {"n=0": {"auc": change}}}}
        behind = {name: {"n=0": {"auc": each}} for name, each in zip(("base", "mine"), both, strict=True)}
        results.save(one | {"replicates": behind}, tmp_path / f"{seed}.json")
        drawn.append(results.read(tmp_path / f"{seed}.json"))
    found = combine(drawn)
    assert found["interval"] == JOINT
    whole = replicates.mean(axis=0)
    np.testing.assert_allclose(found["systems"]["base"]["n=0"]["auc"], [1, *np.quantile(whole[0], [0.025, 0.975])])
    change = found["differences"]["mine - base"]["n=0"]["auc"]
    np.testing.assert_allclose(change, [9, *np.quantile(whole[1] - whole[0], [0.025, 0.975])])
    held = drawn[1]["replicates"]["mine"]["n=0"]
    drawn[1]["replicates"]["mine"]["n=0"] = {"auc": held["auc"][::-1]}
    with pytest.raises(InputError, match=r"seed \[1\]: mine - base, n=0: judged under several evaluate.seed"):
        combine(drawn)
    del drawn[1]["replicates"]["mine"]["n=0"]
    with pytest.raises(InputError, match=r"seed \[1\]: mine, n=0, auc: expected replicates"):
        combine(drawn)


def test_replicates_of_other_numbers_are_not_taken(tmp_path: Path) -> None:
    path, values = tmp_path / "r.json", np.linspace(0, 1, 41)
    entry = {"auc": [0.5, *np.quantile(values, [0.025, 0.975])]}
    behind = {"base": {"n=0": {"auc": values}}}
    results.save(result(0, base={"n=0": entry}) | {"replicates": behind}, path)
    assert results.read(path)["replicates"]["base"]["n=0"]["auc"].tolist() == values.tolist()
    path.write_text(path.read_text().replace("0.975", "0.95"))
    assert results.read(path)["replicates"] == {}
