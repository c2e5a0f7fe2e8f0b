"""The text of an item: missing fields leave no trace."""

from itertools import product

import pyarrow as pa
import pytest

from recsys.content.vectors import text_of
from recsys.data import template
from recsys.errors import InputError


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("{title} ({year}). {text}", {"title": "Heat", "year": "1995", "text": "A heist."}, "Heat (1995). A heist."),
        ("{title} ({year}). {text}", {"title": "Heat", "text": "A heist."}, "Heat A heist."),
        ("{title} ({year}). {text}", {"title": "Heat", "year": "1995"}, "Heat (1995)"),
        ("Title: {title}. Genres: {genres}.", {"title": "Heat", "genres": "Crime"}, "Title: Heat. Genres: Crime."),
        ("Title: {title}. Genres: {genres}.", {"title": "Heat"}, "Title: Heat"),
        ("Title: {title}. Genres: {genres}.", {"genres": "Crime"}, "Genres: Crime."),
        ("{title} by {author}", {"title": "...and"}, "...and"),
        ("{title} by {author}", {"author": "X"}, "by X"),
        ("{{{title}}}, {title}", {"title": "Heat"}, "{Heat}, Heat"),
        ("{title} {text}", {"title": "{text}", "text": "{title}"}, "{text} {title}"),
        ("Title: {title}", {}, ""),
        ("Title: {title}", {"title": ""}, ""),
    ],
)
def test_a_template_is_filled(text: str, values: dict[str, str], expected: str) -> None:
    assert template.fill(template.pieces(text), values) == expected


@pytest.mark.parametrize(
    ("title", "genre", "text"), [*product(["", "Heat (1995)"], ["", "Crime, Drama"], ["", "A heist"])]
)
def test_the_default_reads_what_the_content_vectors_read(title: str, genre: str, text: str) -> None:
    found = template.fill(
        template.pieces("{title}. {categories}. {text}"), {"title": title, "categories": genre, "text": text}
    )
    assert found == text_of(title, [genre], text)


def test_rows_become_texts_of_bounded_length() -> None:
    rows = pa.table({"title": ["Heat", None, " Up "], "year": [1995, 2009, None], "tags": [["a", None, "b"], [], None]})
    assert template.columns("{tags} {title} {tags}") == ["tags", "title"]
    assert template.texts(rows, "{title} ({year}): {tags} {nothing}", 99) == ["Heat (1995): a, b", "(2009)", "Up"]
    assert template.texts(rows, "{title} {tags}", 3) == ["Hea", "", "Up"]
    assert template.texts(rows, "{nothing}", 99) == ["", "", ""]
    with pytest.raises(InputError, match=r"here: column 'title': expected strings .*found binary"):
        template.texts(pa.table({"title": [b"\xff"]}), "{title}", 99, "here")
