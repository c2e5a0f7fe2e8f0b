"""Several draws as one, worked by hand."""

from recsys.evaluate.draws import combine


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
