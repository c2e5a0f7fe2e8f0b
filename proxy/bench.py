"""Row `generate`: items a second from content to stored vectors, against the encoder's bare forward.

Ours reads texts from Parquet, fills the template, tokenizes, encodes, pools every layer, projects, and writes parts of
the store; the bound has the same batches collated and wants the last layer alone. MiniLM, with LoRA merged, on texts as
long as film overviews are. `detail` tells what one item takes in the generation service.
"""

import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from proxy import encoder
from proxy.content import Content
from proxy.content import read as read_content
from proxy.generate import chunk, encode
from proxy.kept import Kept
from proxy.model import Aligner, by_length
from proxy.service import Generator
from proxy.store import Store
from recsys.bench.frame import Measured, alternated
from recsys.config import Config
from recsys.config_proxy import Align, ContentEncoder
from recsys.distributed import Ranks
from recsys.model.proxies import Proxies

ITEMS, BATCH, DIM, ROUNDS, CALLS = 512, 64, 32, 7, 30
WORDS, SPREAD = 55, 0.5
"""Of a text: lognormal, the median and the deviation of the logarithm."""
REQUIRED = 0.9


def measure(config: Config, ranks: Ranks) -> Measured:
    """Rates in items a second, on one rank; it needs nothing of the config."""
    options = ContentEncoder(template="{title}. {text}", batch_size=BATCH)
    model = Aligner(encoder.load(options), DIM, Align()).to(ranks.device).eval()
    model.encoder.merge()
    depth = model.encoder.depth
    groups = [part.tolist() for part in np.array_split(np.arange(depth), 3)]
    return compare(Kept(model, options, groups), ITEMS, ROUNDS, CALLS)


def compare(kept: Kept, items: int, rounds: int, calls: int) -> Measured:
    """Rates of `items` items, and the latency of one by `calls` calls."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.parquet"
        pq.write_table(_draw(items), path)
        every = Content.concat(list(read_content(path, kept.options)))
        batches = [kept.model.encoder.collate(every.take(some)) for some in _batches(kept, every)]
        turn = count()

        def ours() -> None:
            store = Store(Path(folder) / str(next(turn)), pa.string())
            encode(kept, read_content(path, kept.options, chunk(kept.options)), store)

        detail = {
            "batch_size": kept.options.batch_size,
            "tokens an item": sum(int(batch["attention_mask"].sum()) for batch in batches) / items,
            "one item, ms": _latency(kept, every, calls),
        }
        contenders: dict[str, Callable[[], object]] = {"ours": ours, "forward": lambda: _forward(kept, batches)}
        for contender in contenders.values():
            contender()
        return alternated(contenders, items, "items/s", REQUIRED, rounds, detail)


@torch.inference_mode()
def _forward(kept: Kept, batches: list[dict[str, Tensor]]) -> None:
    for batch in batches:
        last = kept.model.encoder(batch).last
    float(last[0, 0, 0])  # an accelerator is done with all of them then


def _batches(kept: Kept, content: Content) -> list[np.ndarray]:
    """As the batch path makes them."""
    size = chunk(kept.options)
    at = [np.arange(len(content))[start : start + size] for start in range(0, len(content), size)]
    return [some for part in at for some in by_length(content, part, kept.options.batch_size)]


def _latency(kept: Kept, content: Content, calls: int) -> float:
    """Median milliseconds of the service for one item."""
    widths = [kept.model.dim, len(kept.groups) * kept.model.encoder.width]
    generator, found = Generator(kept, Proxies(widths, DIM, [64]).eval(), widths), []
    for k in range(calls):
        item = {"item_id": "new", "text": content.texts[k % len(content)]}
        start = time.perf_counter()
        generator([item])
        found.append(1000 * (time.perf_counter() - start))
    return median(found)


def _draw(items: int) -> pa.Table:
    """Titles and texts, of words that a tokenizer knows whole."""
    draws = np.random.default_rng(0)
    words = "film story young woman man family city war love life house school friend night past world secret crime"
    known = np.array(words.split())
    lengths = np.exp(draws.normal(np.log(WORDS), SPREAD, items)).astype(int) + 1
    texts = [" ".join(draws.choice(known, n)) for n in lengths]
    numbers = range(items)
    return pa.table({"item_id": [f"new {k}" for k in numbers], "title": [f"Film {k}" for k in numbers], "text": texts})
