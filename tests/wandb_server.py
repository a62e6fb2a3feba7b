"""A stand-in for the W&B server, on this machine: serves the real client online, and keeps all that it is sent.

    with WandbServer() as server:
        subprocess.run([...], env=os.environ | server.environment)
        assert [row["train/loss"] for row in server.run("3f0c").rows] == [0.3, 0.2]

It answers the client's GraphQL operations (`wandb.init` with resume, files, artifacts, `wandb.Api()` with runs and
histories, sampled or not), takes file streams and uploads, and fails when it is told to: `server.fail(...)`. As at W&B,
a run's rows are kept by their place in its stream, so a block that is sent again is not kept twice; `sent` has all.
Runs that no client has sent are made with `server.make_run(...)`, `add_rows` and `set_config`.
"""

import contextlib
import dataclasses
import gzip
import http.server
import json
import re
import sys
import threading
import traceback
import urllib.parse
from collections.abc import Iterator
from typing import Any, Self

from tests.wandb_backend import ENTITY, Backend, ServedRun
from tests.wandb_backend import describe_run as _describe

__all__ = ["ServedRun", "WandbServer", "_describe", "no_server"]


@dataclasses.dataclass
class _Failure:
    pattern: str
    status: int
    times: int
    retry_after: float


class WandbServer(Backend):
    """Serves on 127.0.0.1 while it is entered as a context.

    Attributes:
      requests: one line for each request, in order: `GraphQL UpsertBucket`, `POST /files/…/file_stream`, ….
      variables: of every GraphQL operation, with its name.
      failed: what went wrong in the stand-in itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str] = []
        self.variables: list[tuple[str, dict[str, Any]]] = []
        self.failed: list[str] = []
        self._failures: list[_Failure] = []
        self._lock = threading.RLock()
        self._server = _HTTPServer(("127.0.0.1", 0), _handler_of(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which a client finds it, has an account, and logs no more than it must."""
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": "0" * 40,
            "WANDB_MODE": "online",
            "WANDB_ENTITY": ENTITY,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "true",
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def mend(self) -> None:
        """Ends all failures."""
        self._failures.clear()

    def fail(self, pattern: str, status: int = 500, times: int = 1, retry_after: float = 0.1) -> None:
        """Makes the next so many requests whose line matches a pattern fail with a status, 429 for instance."""
        self._failures.append(_Failure(pattern, status, times, retry_after))

    # --- what comes over the wire -----------------------------------------------------------------------------------

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        """Returns status, JSON document and headers for a request."""
        try:
            return self._answer(method, path, body)
        except Exception:
            self.failed.append(traceback.format_exc())
            raise

    def _answer(self, method: str, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        with self._lock:
            if path.startswith("/graphql"):
                request = json.loads(body)
                operation = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
                name = operation.group(1) if operation else "?"
                self.requests.append(f"GraphQL {name}")
                self.variables.append((name, request.get("variables") or {}))
            else:
                self.requests.append(f"{method} {path}")
            for failure in self._failures:
                if failure.times and re.search(failure.pattern, self.requests[-1]):
                    failure.times -= 1
                    headers = {"Retry-After": f"{failure.retry_after:g}"}
                    return failure.status, {"errors": [{"message": "the stand-in was told to fail"}]}, headers
            if path.startswith("/graphql"):
                return 200, {"data": self.answer_operation(*self.variables[-1], request["query"])}, {}
            if path.endswith("/file_stream"):
                *_, project, name, _ = path.split("/")
                self.take_stream(self.runs[urllib.parse.unquote(project), name], json.loads(body))
                return 200, {"limits": {}}, {}
            if path.startswith("/upload/"):
                self.take_upload(urllib.parse.unquote(path.removeprefix("/upload/")), body)
            return 200, {}, {}

    def download(self, path: str) -> bytes | None:
        """Returns what a GET of an uploaded file gives."""
        return self.uploads.get(urllib.parse.unquote(path.removeprefix("/upload/")))


class _HTTPServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says what is wrong with the stand-in, and nothing when clients that are killed hang up."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _handler_of(server: WandbServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self._reply(*server.answer("POST", self.path, self._body()))

        def do_PUT(self) -> None:
            self._reply(*server.answer("PUT", self.path, self._body()))

        def do_GET(self) -> None:
            content = server.download(self.path)
            self._reply(200 if content is not None else 404, {} if content is None else content, {})

        def _body(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            return gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body

        def _reply(self, status: int, document: Any, headers: dict[str, str]) -> None:
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            with contextlib.suppress(OSError):
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    return Handler


@contextlib.contextmanager
def no_server() -> Iterator[str]:
    """Yields an address at which nobody answers."""
    with _HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        port = server.server_port
    yield f"http://127.0.0.1:{port}"
