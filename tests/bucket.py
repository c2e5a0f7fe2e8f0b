"""An S3 server in this process with one bucket, which tells what it was asked for and refuses on demand."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from pyarrow import fs
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

DENIED = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@dataclass
class Bucket:
    """The bucket `logs`, and what has been asked of it since `asked` was last cleared."""

    query: str
    filesystem: fs.FileSystem
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path and bytes of each answer with a body."""
    denied: set[str] = field(default_factory=set)
    """Methods that are refused."""

    def uri(self, path: str, bucket: str = "logs") -> str:
        """As a config names it."""
        return f"s3://{bucket}/{path}{self.query}"

    def put(self, path: str, data: bytes) -> None:
        """Write an object."""
        with self.filesystem.open_output_stream(f"logs/{path}") as file:
            file.write(data)

    def get(self, path: str) -> bytes:
        """All of an object."""
        with self.filesystem.open_input_stream(f"logs/{path}") as file:
            return bytes(file.read())

    def remove(self, path: str) -> None:
        """Remove an object."""
        self.filesystem.delete_file(f"logs/{path}")

    def names(self, path: str) -> list[str]:
        """The objects below a folder, sorted."""
        found = self.filesystem.get_file_info(fs.FileSelector(f"logs/{path}", recursive=True))
        return sorted(info.path.removeprefix(f"logs/{path}/") for info in found if info.type == fs.FileType.File)

    @contextmanager
    def denying(self, *methods: str) -> Iterator[None]:
        """Answer requests of these methods as one without the permission is answered."""
        self.denied = {*methods}
        try:
            yield
        finally:
            self.denied = set()

    def answering(self, app: Any) -> Any:
        """The application, watched."""

        def answer(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
            if environ["REQUEST_METHOD"] in self.denied:
                return Response(DENIED, 403, content_type="application/xml")(environ, start)
            body = list(app(environ, start))
            self.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], sum(map(len, body))))
            return body

        return answer


@contextmanager
def served() -> Iterator[Bucket]:
    """A fresh server, and the environment in which pyarrow may use it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        bucket = Bucket("", fs.LocalFileSystem())
        server = make_server("127.0.0.1", 0, bucket.answering(DomainDispatcherApplication(create_backend_app)), True)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            bucket.query = f"?endpoint_override=127.0.0.1:{server.server_port}&scheme=http"
            bucket.filesystem, _ = fs.FileSystem.from_uri(f"s3://logs{bucket.query}&allow_bucket_creation=true")
            bucket.filesystem.create_dir("logs")
            yield bucket
        finally:
            server.shutdown()
            thread.join()
