"""The text of an item: missing fields leave no trace."""

from itertools import product

import pytest

from recsys.content.vectors import text_of
from recsys.data import template


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
