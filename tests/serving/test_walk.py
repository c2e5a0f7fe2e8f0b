"""A new item's road through a running server: unknown, admitted, with proxies, with a simulated row, with a prompt."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys.coldrows import publish
from recsys.coldrows.learned import About, Learned
from recsys.tables import service
from recsys.tables.admit import admit
from recsys.tables.bundle import Bundle
from tests.serving.served import VERSION, Run, cases, serving

NEW = "brand new"


def test_an_item_is_admitted_gets_proxies_a_simulated_row_and_a_prompt(run: Run, tmp_path: Path) -> None:
    folder = run.folder
    made = replace(run.made, tables=replace(run.made.tables, start="mean", warm_rows=1))
    [case] = cases(made, [3], NEW)
    pq.write_table(pa.table({"item_id": [NEW]}), tmp_path / "new.parquet")
    torch.manual_seed(3)

    def proxies() -> None:
        free = {name: run.free(name) for name in ("item_coarse", "item_fine")}
        pieces = [
            run.piece("item_coarse", {free["item_coarse"]: NEW}, 1),
            run.piece("item_fine", {free["item_fine"]: NEW}, 2, "serving"),
        ]
        service.publish(folder, lambda: pieces)

    def learned(source: str) -> None:
        vectors = torch.randn(1, made.model.dim)
        publish.publish(made, learned_rows(vectors), tmp_path, source)

    steps = {
        "admit": lambda: admit(made, tmp_path / "new.parquet"),
        "proxy": proxies,
        "simulated": lambda: learned("simulated"),
        "prompt": lambda: learned("prompt"),
    }
    with serving(made) as client:
        scores = [client.score(case)["probabilities"]]
        unknown = client.metric('thawrec_unknown_total{column="item_id"}')
        for number, (name, step) in enumerate(steps.items(), 1):
            step()
            client.until_delta(number)
            answer = client.score(case)
            assert answer["version"] == replace(VERSION, delta=number).name
            bundle = Bundle.load(folder / "export")
            np.testing.assert_allclose(answer["probabilities"], bundle.score(case.rows), atol=1e-6, err_msg=name)
            scores.append(answer["probabilities"])
        assert client.metric('thawrec_unknown_total{column="item_id"}') == unknown, "it is known from the first step on"
    first = [each[0] for each in scores]
    assert len({round(each, 6) for each in first}) == 5, "each step changes its score"
    others = np.array([each[1:] for each in scores])
    assert np.ptp(others, axis=0).max() < 1e-6, "nobody else's score has changed"


def learned_rows(vectors: torch.Tensor) -> Learned:
    return Learned(pa.array([NEW]), vectors, About(key="", base=VERSION.base, found={}, seconds=0.0))
