"""What a system costs, against numbers worked out by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from recsys import settings
from recsys.config_cost import Cost, Size, Unit
from recsys.cost import lines
from tools import cost as command

ROOT = Path(__file__).parents[1]


def test_costs_are_those_worked_out_by_hand() -> None:
    size = Size(
        users=3_000_000, items=1_000_000, new_items=1000, rows=864_000_000, dim=32, bytes=2, ranks=4, touched=2_000_000,
        width=64, code=16, lists=1000, probe=10, judged=72,
    )  # fmt: skip
    unit = Unit(sums=4.0, place=8.0, centre_ns=40.0, code_ns=2.0, pairs=10.0, delta=300.0, rows=5000.0)
    found = {line.name: line.amount for line in lines(Cost(size=size, unit=unit))}
    assert found["tables and their Adagrad sums"] == pytest.approx(4e6 * (32 * 2 + 4) / 2**40)
    assert found["of them on a rank"] == pytest.approx(68e6 / 2**30)
    assert found["user index, flat"] == pytest.approx(3e6 * 256 / 2**30)
    assert found["user index, IVF-PQ"] == pytest.approx(3e6 * 24 / 2**30)
    assert found["its search, an item"] == pytest.approx(0.06 + 0.04)
    assert found["judging new items"] == pytest.approx(2.0)
    assert found["judges for that"] == pytest.approx(2 / 24)
    assert found["delta of new items"] == pytest.approx(1000 * 150 / 2**30)
    assert found["delta of training"] == pytest.approx(2e6 * 150 / 2**30)
    assert found["training"] == pytest.approx(2.0)


def test_the_command_prints_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    command.main([str(ROOT / "configs" / "cost.yaml"), "size.items=1000"])
    told = capsys.readouterr().out
    made = settings.load_as(Cost, ROOT / "configs" / "cost.yaml")
    assert made.size == replace(Size(), users=10**9, items=10**8)
    assert all(line.name.split(",")[0] in told for line in lines(made))


@pytest.mark.parametrize("schema", [Cost, Size, Unit])
def test_every_key_is_documented(schema: type) -> None:
    told = schema.__pydantic_fields__  # type: ignore[attr-defined]
    assert schema.__doc__ and [name for name, field in told.items() if not field.description] == []
