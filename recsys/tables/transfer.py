"""A bundle to object storage and back: what its manifest names, and the manifest last."""

from collections.abc import Iterable
from pathlib import Path

from pyarrow import fs

from recsys.errors import InputError
from recsys.files import replacing
from recsys.storage import Location, Remote, at, is_free, replacing_folder
from recsys.tables import manifest
from recsys.tables.bundle import EXPORT


def upload(bundle: Path, uri: str) -> Location:
    """Copy a whole bundle to where `uri` says; one that is there is replaced.

    Raises:
        InputError: not a bundle, other files in the way, or a store that refuses.
    """
    told = manifest.verify(bundle, EXPORT)
    target = at(uri)
    if not (target / manifest.NAME).exists() and not is_free(target):
        raise InputError(f"{target}: holds files but no {manifest.NAME}; expected a bundle or nothing there")
    with replacing_folder(target, manifest.NAME) as folder:
        _copy(bundle, folder, [*told["files"], manifest.NAME])
    return target


def download(uri: str, bundle: Path) -> Path:
    """Copy a bundle from where `uri` says into the folder `bundle`, all of it, every byte checked, or nothing.

    Raises:
        InputError: no whole bundle there, or one that changed meanwhile.
    """
    source = at(uri)
    with replacing(bundle) as partial:
        partial.mkdir()
        try:
            _copy(source, partial, [manifest.NAME])
            _copy(source, partial, manifest.read(partial, EXPORT)["files"])
        except OSError as error:
            raise InputError(f"{source}: cannot be fetched: {error}") from None
        manifest.verify(partial, EXPORT)
    return bundle


def _copy(source: Location, target: Location, names: Iterable[str]) -> None:
    """The files of these names, in their order."""
    for name in names:
        from_, to = source / name, target / name
        if isinstance(to, Path):
            to.parent.mkdir(parents=True, exist_ok=True)
        fs.copy_files(
            _path(from_), _path(to), source_filesystem=_filesystem(from_), destination_filesystem=_filesystem(to)
        )


def _path(file: Location) -> str:
    return file.path if isinstance(file, Remote) else str(file.resolve())


def _filesystem(file: Location) -> fs.FileSystem:
    return file.filesystem if isinstance(file, Remote) else fs.LocalFileSystem()
