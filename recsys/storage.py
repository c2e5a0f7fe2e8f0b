"""Files on this machine and in object storage, side by side: a `Path`, or a `Remote` that has a Path's manners.

A path with `://` is a URI as `pyarrow.fs.FileSystem.from_uri` takes it, such as `s3://bucket/logs`, `gs://bucket/logs`
or `fsspec+memory://logs`. Its query says where the store is and how it is reached
(`?endpoint_override=localhost:9000&scheme=http`); credentials come from where the store's own tools look for them, such
as AWS_ACCESS_KEY_ID, ~/.aws or a machine's role. Objects are read in ranges as they are needed and never kept here.

Files on this machine are opened by their paths, as if there were nothing else.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from glob import glob
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from fsspec.utils import glob_translate
from pyarrow import fs

from recsys.errors import InputError
from recsys.files import replacing

UNFINISHED = ".unfinished"
"""In a remote folder that `replacing_folder` is writing, or that one which was killed has left."""
READ_AHEAD = 8 << 20
"""Bytes of an object that a stream asks for at once."""


@dataclass(frozen=True)
class Remote:
    """A file or folder in object storage, which may not be there; its name in errors is its URI without the query.

    All methods raise InputError, with that name, where the store cannot be reached or refuses.
    """

    uri: str
    """Without query and user."""
    path: str
    """In the file system: the bucket first."""
    filesystem: fs.FileSystem = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> "Remote":
        return Remote(f"{self.uri.rstrip('/')}/{name}", f"{self.path.rstrip('/')}/{name}", self.filesystem)

    def __lt__(self, other: "Remote") -> bool:
        """By the parts of the path, as Paths are sorted."""
        return self.path.split("/") < other.path.split("/")

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> "Remote":
        return Remote(self.uri.rpartition("/")[0], self.path.rpartition("/")[0], self.filesystem)

    def exists(self) -> bool:
        with self._named("looked at"):
            return self.filesystem.get_file_info(self.path).type != fs.FileType.NotFound

    def is_file(self) -> bool:
        with self._named("looked at"):
            return self.filesystem.get_file_info(self.path).type == fs.FileType.File

    def glob(self, pattern: str) -> Iterator["Remote"]:
        """The files right in this folder whose names match."""
        return (file for file in self.files(recursive=False) if fnmatchcase(file.name, pattern))

    def files(self, recursive: bool = True) -> list["Remote"]:
        """The files in this folder and, `recursive`, in those below it, sorted; none where it is not there."""
        with self._named("listed"):
            try:
                found = self.filesystem.get_file_info(fs.FileSelector(self.path, recursive=recursive))
            except FileNotFoundError:
                return []
        below = f"{self.path.rstrip('/')}/"
        return sorted(self / info.path.removeprefix(below) for info in found if info.type == fs.FileType.File)

    def read_text(self) -> str:
        """The text of a small file.

        Raises:
            FileNotFoundError: it is not there.
        """
        with self._named("read"), self.filesystem.open_input_stream(self.path) as file:
            return bytes(file.read()).decode()

    def write_text(self, text: str) -> None:
        """Write a small file, all of it or nothing."""
        with self._named("written"), self.filesystem.open_output_stream(self.path) as file:
            file.write(text.encode())

    def unlink(self) -> None:
        """Remove the file, if it is there."""
        with self._named("removed"):
            try:
                self.filesystem.delete_file(self.path)
            except FileNotFoundError:
                return

    def stream(self) -> pa.NativeFile:
        """The bytes of the file from its start on, decompressed where its name says that they are compressed."""
        return self.filesystem.open_input_stream(self.path, buffer_size=READ_AHEAD)

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """Say of which object it was; that one is not there is for the caller to judge."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _refused(self, what, error) from None


Location = Path | Remote
"""Where a file or folder is."""


def _refused(path: Remote, what: str, error: Exception) -> InputError:
    return InputError(f"{path}: cannot be {what}: {' '.join(str(error).split())}")


def is_remote(path: str) -> bool:
    """Whether it is a URI."""
    return "://" in path


def at(path: str | Location) -> Location:
    """The file or folder of a path or URI.

    Raises:
        InputError: not a URI that pyarrow knows, one with a password in it, or a store that cannot be reached.
    """
    if not isinstance(path, str):
        return path
    return _remote(path) if is_remote(path) else Path(path)


def shown(path: str) -> str:
    """A path, or a URI without its query and user."""
    if not is_remote(path):
        return path
    parts = urlsplit(path)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


@lru_cache(maxsize=64)
def _remote(uri: str) -> Location:
    if urlsplit(uri).password is not None:
        raise InputError(
            f"{shown(uri)}: expected a URI without a password, which would be written into every run's config.yaml: "
            "leave credentials to the environment or the store's own files"
        )
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        raise InputError(f"{shown(uri)}: {' '.join(str(error).split()).replace(uri, shown(uri))}") from None
    if isinstance(filesystem, fs.LocalFileSystem):
        return Path(path)
    return Remote(shown(uri), path.rstrip("/"), filesystem)


def files(path: str) -> list[Location]:
    """The files that a path names, sorted: the file itself, all below a folder, or those of a glob.

    In a URI a glob has `*`, within a name, and `**`, over folders; a `?` begins the query.

    Raises:
        InputError: a store that cannot be reached or refuses, or has no such bucket.
    """
    if not is_remote(path):
        return [*_local_files(path)]
    before, question, query = path.partition("?")
    start = before.partition("*")[0].rpartition("/")[0] if "*" in before else before
    folder, pattern = at(start + question + query), before[len(start) + 1 :]
    if isinstance(folder, Path):
        return [*_local_files(str(folder / pattern))]
    if pattern:
        matches = re.compile(glob_translate(pattern)).match
        return [file for file in folder.files("/" in pattern) if matches(file.path.removeprefix(f"{folder.path}/"))]
    return [*(folder.files() or ([folder] if folder.is_file() else []))]


def _local_files(path: str) -> list[Path]:
    root = Path(path)
    found = root.rglob("*") if root.is_dir() else [Path(name) for name in glob(path, recursive=True)]
    return sorted(file for file in found if file.is_file())


def write_text(path: Location, text: str) -> None:
    """Write a small file, all of it or nothing."""
    if isinstance(path, Remote):
        path.write_text(text)
        return
    with replacing(path) as temporary:
        temporary.write_text(text)


def require_local(key: str, path: str) -> None:
    """For what reads this machine's files alone.

    Raises:
        InputError: the path, of this key of the config, is a URI.
    """
    if is_remote(path):
        raise InputError(
            f"{key}={shown(path)}: expected a local or shared file system: this command does not take object storage"
        )


def is_free(path: Location) -> bool:
    """Whether nothing is there, or only what was left of filling the folder (`replacing_folder`)."""
    if isinstance(path, Path):
        return not path.exists() or not any(path.iterdir())
    return not path.files() or (path / UNFINISHED).exists()


@contextmanager
def replacing_folder(path: Location, last: str) -> Iterator[Location]:
    """An empty folder to fill, which takes the place of `path` when the block ends without an error.

    A remote folder is filled where it is, since no store can rename one: its file `last` goes first, and whoever fills
    it writes that last, so that none that has it is without another. What a killed process leaves is emptied by the
    next.

    Raises:
        InputError: a store cannot be written to.
    """
    if isinstance(path, Path):
        with replacing(path) as temporary:
            temporary.mkdir()
            yield temporary
        return
    mark = path / UNFINISHED
    mark.write_text("")
    (path / last).unlink()
    for file in path.files():
        if file != mark:
            file.unlink()
    try:
        yield path
    except OSError as error:
        raise _refused(path, "written", error) from None
    mark.unlink()
