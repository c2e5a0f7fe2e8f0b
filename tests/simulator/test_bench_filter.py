"""The bench's row of the filter, among few users."""

from simulator import bench_filter


def test_the_row_measures_towers_and_search_against_the_search() -> None:
    row = bench_filter.compare(users=2000, calls=3, rounds=2)
    assert set(row.rates) == {"ours", "search"} and [len(each) for each in row.rates.values()] == [2, 2]
    assert row.bound_is == "search" and row.detail["ivf-pq, search alone over ours"] > 0
