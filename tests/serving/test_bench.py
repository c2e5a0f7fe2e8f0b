"""The bench's rows of a server, on a tiny run."""

from recsys.bench import serve
from tests.serving.served import Run


def test_requests_under_load(run: Run) -> None:
    row = serve.under_load(run.made, clients=2, rounds=1, seconds=1.0)
    assert row.ours > 0 and row.bound_is == "the bare forward" and row.unit == "requests/s"
    assert row.detail["clients"] == 2 and 0 < row.detail["p50_ms"] <= row.detail["p99_ms"]


def test_a_delta_until_it_is_visible(run: Run) -> None:
    row = serve.visible(run.made, 20, rounds=2)
    assert row.detail == {"rows": 20, "of": run.free() - 1} and len(row.ratios) == 2
    assert row.bound == 20 and row.ours > 0
