"""Content of items from Parquet: what is read, what counts as missing, what is refused."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from proxy import content
from proxy.content import Content
from recsys.config_proxy import ContentEncoder
from recsys.errors import InputError
from tests.proxy.pictures import bomb, jpeg, png

SEES = ContentEncoder(kind="vision", image_bytes=100_000, image_pixels=1_000_000)
READS = ContentEncoder()


def items(**columns: list) -> pa.Table:
    return pa.table({"item_id": list(range(len(next(iter(columns.values()))))), **columns})


def test_a_dataset_directory_is_read_in_pieces(tmp_path: Path) -> None:
    rows = items(
        title=[f"Film {k}" for k in range(10)],
        text=[None if k % 2 else "A heist." for k in range(10)],
        categories=[["Crime", None, "", "Drama"] if k < 9 else None for k in range(10)],
        image=[jpeg(20, 30)] * 10,
    )
    pq.write_table(rows, tmp_path / "items.parquet", row_group_size=3)
    parts = list(content.read(tmp_path, SEES, batch=4))
    assert [len(part) for part in parts] == [4, 4, 2]
    whole = Content.concat(parts)
    assert whole.ids.to_pylist() == list(range(10)) and whole.images == [jpeg(20, 30)] * 10
    assert whole.texts[:2] == ["Film 0. Crime, Drama. A heist.", "Film 1. Crime, Drama"] and whole.texts[9] == "Film 9"
    blind = next(content.read(tmp_path / "items.parquet", READS))
    assert blind.images == [None] * 10 and blind.texts == whole.texts
    some = whole.take([9, 1])
    assert some.ids.to_pylist() == [9, 1] and some.texts == [whole.texts[9], whole.texts[1]] and len(some.images) == 2


def test_of_items_that_are_not_wanted_nothing_is_decoded(tmp_path: Path) -> None:
    rows = items(
        title=[f"Film {k}" for k in range(10)], image=[jpeg(20, 30) if k in (2, 3, 9) else b"x" for k in range(10)]
    )
    pq.write_table(
        rows.set_column(0, "item_id", rows["item_id"].cast(pa.string()).dictionary_encode()), tmp_path / "it"
    )
    counts: Counter[str] = Counter()
    wanted = pa.array(["2", "3", "9", "absent"])
    found = list(content.read(tmp_path / "it", SEES, 4, counts, lambda ids: pc.is_in(ids, wanted).to_numpy(False)))
    assert [part.ids.to_pylist() for part in found] == [["2", "3"], ["9"]]
    assert found[1].texts == ["Film 9"] and found[1].images == [jpeg(20, 30)]
    assert counts == {"items": 3, "empty": 0, "image": 3, "image too large": 0}


def test_what_an_item_lacks_is_counted_and_told_apart() -> None:
    rows = items(
        title=["Heat", None, "", "  ", "Alien", None],
        image=[png(9, 9), png(9, 9), None, b"", bomb(2000, 2000), b"broken"],
    )
    counts: Counter[str] = Counter()
    found = content.of(rows, SEES, counts)
    assert found.empty.tolist() == [False, False, True, True, False, True]
    assert [image is not None for image in found.images] == [True, True, False, False, False, False]
    assert counts == {"items": 6, "empty": 3, "image": 2, "image too large": 1, "image broken": 1}
    assert content.of(rows, READS).empty.tolist() == [False, True, True, True, False, True]


def test_a_digest_is_of_text_and_image() -> None:
    pairs = [("Heat", png(9, 9)), ("Heat", png(9, 9, "blue")), ("Heat", None), ("", png(9, 9)), ("Alien", png(9, 9))]
    digests = Content(pa.array(range(5)), [text for text, _ in pairs], [image for _, image in pairs]).digests
    assert len(set(digests)) == 5 and {len(digest) for digest in digests} == {16}
    assert Content(pa.array(["other"]), ["Heat"], [png(9, 9)]).digests == digests[:1]


def test_an_image_of_50_megabytes_is_missing_and_counted() -> None:
    counts: Counter[str] = Counter()
    found = content.of(items(title=["Heat"], image=[jpeg(9, 9) + bytes(50_000_000)]), SEES, counts)
    assert found.images == [None] and counts["image too large"] == 1 and not found.empty.any()


def test_a_text_of_100_000_characters_is_cut_before_a_tokenizer_sees_it() -> None:
    long = "A heist. " * 12_000
    (text,) = content.of(items(title=["Heat"], text=[long]), ContentEncoder(tokens=10)).texts
    assert text == ("Heat. " + long)[: len(text)] and len(text) == 160


def test_every_column_that_can_be_text_is_read() -> None:
    config = ContentEncoder(template="{title} {music} {seconds} {tags} {codes} {nothing}")
    rows = items(
        title=pa.array(["Tune"]).dictionary_encode(),
        music=pa.array(["m1"], pa.large_string()),
        seconds=[12],
        tags=pa.array([["a", "b"]], pa.large_list(pa.string())),
        codes=[[1, None, 2]],
    )
    assert content.of(rows, config).texts == ["Tune m1 12 a, b 1, 2"]


def test_no_image_in_any_item_is_no_image() -> None:
    assert content.of(items(title=["Heat"], image=[None]), SEES).images == [None]
    assert content.of(items(title=["Heat"]), SEES).images == [None]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"title": [{"a": 1}]}, r"items: column 'title': expected strings \(UTF-8\), numbers or lists.* struct"),
        ({"title": ["Heat"], "image": ["a.jpeg"]}, "items: column 'image': expected binary, found string"),
    ],
)
def test_columns_of_other_types_are_refused(columns: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        content.of(items(**columns), SEES)


def test_a_file_that_is_none_of_items_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.parquet"
    with pytest.raises(InputError, match=r"new\.parquet: no such file"):
        list(content.read(path, READS))
    path.write_text("no Parquet")
    with pytest.raises(InputError, match=r"new\.parquet: truncated or not Parquet"):
        list(content.read(path, READS))
    pq.write_table(pa.table({"title": ["Heat"]}), path)
    with pytest.raises(InputError, match=r"new\.parquet: expected a column item_id, found title"):
        list(content.read(path, READS))
    pq.write_table(items(name=["Heat"]), path)
    with pytest.raises(InputError, match="expected a column of title, categories, text, found item_id, name"):
        list(content.read(path, READS))
    pq.write_table(items(title=[f"{k}" for k in range(3000)]), path, compression="none")
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\xff" * 12_000 + whole[12_004:])
    with pytest.raises(InputError, match=r"new\.parquet: damaged"):
        list(content.read(path, READS))


@pytest.mark.parametrize("template", ["no column", "{}", "{title!r}", "{title:>9}", "{title"])
def test_a_template_that_is_none_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"expected columns in braces|expected '}'"):
        ContentEncoder(template=template)
