"""Answers are found again, by whoever opens the folder; nothing torn is read, or written."""

import resource
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.files import locked
from simulator import digests, journal
from simulator.journal import Journal, Keys, keys
from tests.ranks import run_ranks

JUDGE, OTHER = b"j" * 16, b"o" * 16


def questions(*numbers: int) -> Keys:
    """Keys whose digests end in zeros, too."""
    contexts = np.zeros((len(numbers), 16), np.uint8)
    contexts[:, 0] = numbers
    return keys(contexts, np.full((len(numbers), 16), 7, np.uint8))


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*"))


def test_answers_are_found_again_in_any_order_by_any_number_of_writers(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    every, yes = random.permutation(200), random.random(200).astype(np.float32)
    writers = [Journal(tmp_path, JUDGE) for _ in range(3)]
    for start in range(0, 200, 20):
        writer = writers[start % 3]
        writer.append(questions(*every[start : start + 20]), yes[start : start + 20])
        np.testing.assert_array_equal(writer.find(questions(*every[start : start + 20])), yes[start : start + 20])
    Journal(tmp_path, OTHER).append(questions(every[0], 201), np.array([2, 3], np.float32))
    found = Journal(tmp_path, JUDGE).find(questions(*range(202)))
    assert np.isnan(found[200:]).all()
    np.testing.assert_array_equal(found[every], yes)
    assert Journal(tmp_path, OTHER).find(questions(*every[:2])).tolist()[0] == 2
    assert Journal(tmp_path / "none", JUDGE).find(questions(1)).tolist() != [1]


def test_many_small_parts_become_one_that_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SMALL", 3)
    made = {judge: Journal(tmp_path, judge) for judge in (JUDGE, OTHER)}
    for k in range(journal.MANY - 2):
        made[JUDGE].append(questions(k, k + 100), np.array([k, k], np.float32))
    made[OTHER].append(questions(1, 2, 3), np.array([5, 6, 7], np.float32))
    made[OTHER].append(questions(4), np.array([8], np.float32))
    journal.tidy(tmp_path)
    assert len(parts(tmp_path)) == journal.MANY
    made[JUDGE].append(questions(250), np.array([9], np.float32))
    journal.tidy(tmp_path)
    assert len(parts(tmp_path)) == 2
    found = Journal(tmp_path, JUDGE).find(questions(*range(journal.MANY - 2), 250))
    assert found.tolist() == [*range(journal.MANY - 2), 9]
    assert Journal(tmp_path, OTHER).find(questions(1, 4)).tolist() == [5, 8]


def test_what_is_open_is_left_as_it_is(tmp_path: Path) -> None:
    made = Journal(tmp_path, JUDGE)
    for k in range(journal.MANY):
        made.append(questions(k), np.array([k], np.float32))
    with locked(tmp_path / ".lock", shared=True):
        journal.tidy(tmp_path)
    assert len(parts(tmp_path)) == journal.MANY


@pytest.mark.parametrize("at", [10, 150, -20])
def test_a_damaged_part_is_refused_by_its_name(tmp_path: Path, at: int) -> None:
    made = Journal(tmp_path, JUDGE)
    made.append(questions(*range(50)), np.random.default_rng(0).random(50).astype(np.float32))
    [path] = parts(tmp_path)
    found = bytearray(path.read_bytes())
    found[at] ^= 0xFF
    path.write_bytes(found)
    with pytest.raises(InputError, match=rf"{path.name}: damaged: .*: remove it"):
        Journal(tmp_path, JUDGE)
    path.write_bytes(found[: len(found) // 2])
    for read in (lambda: Journal(tmp_path, JUDGE), lambda: journal.tidy(tmp_path)):
        with pytest.raises(InputError, match=rf"{path.name}: damaged"):
            read()


def full_disk(folder: Path) -> str:
    """Append, then again where no file may grow beyond some hundred bytes; what is said."""
    made = Journal(folder, JUDGE)
    made.append(questions(1), np.array([1], np.float32))
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
    try:
        made.append(questions(2), np.array([2], np.float32))
    except InputError as error:
        return str(error)
    return ""


def test_a_full_disk_is_one_error_and_nothing_torn(tmp_path: Path) -> None:
    [said] = run_ranks(1, full_disk, tmp_path)
    assert "part-" in said and "cannot be written: " in said and "\n" not in said
    found = Journal(tmp_path, JUDGE).find(questions(1, 2))
    assert found[0] == 1 and np.isnan(found[1]) and len(parts(tmp_path)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", parts(tmp_path)[0].name]


def test_a_digest_is_of_the_texts_and_where_they_end() -> None:
    def different(made: NDArray[np.uint8]) -> int:
        return len({row.tobytes() for row in made})

    lists = [["a b"], ["a", "b"], ["b", "a"], [], [""], ["", ""], ["a b"]]
    assert different(digests.of_lists(lists)) == 6 and different(digests.of_texts(["a", "b", "a"])) == 2
    assert (digests.of_lists(lists)[0] == digests.of_lists(lists)[-1]).all()
