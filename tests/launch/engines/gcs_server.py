"""A stand-in for Google Cloud Storage, on this machine: buckets in memory, for gcsfs, tensorstore and plain requests.

with GcsServer() as server:
    os.environ |= server.environment
    Store("gs://bucket/store").create(...)
    assert b"question" in server.objects["bucket"]["store/study.json"].data
"""

import collections
import contextlib
import dataclasses
import functools
import http.server
import itertools
import json
import os
import re
import sys
import threading
import time
import traceback
import urllib.parse
from collections.abc import Iterator
from typing import Any, Self
from unittest import mock

import pytest

# Else gcsfs asks Google what kind of bucket each is; it looks at this when it is imported.
QUIET = {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
os.environ.update(QUIET)
pytest.importorskip("gcsfs")

# The service's pages have no more.
PAGE = 1_000
OBJECT = re.compile(r"(?:/download)?/storage/v1/b/([^/]+)/o/(.+)")


@dataclasses.dataclass
class Object:
    """An object as the server has it."""

    data: bytes
    generation: int


class GcsServer:
    """Buckets, which are there as soon as something is written to them.

    Attributes:
      objects: by bucket and name.
      requests: method and path of every call, in order.
      denied: prefixes of names that nobody may write to.
      latency_seconds: after which a request is looked at.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Object]] = collections.defaultdict(dict)
        self.requests: list[tuple[str, str]] = []
        self.denied: list[str] = []
        self.latency_seconds = 0.0
        self.generations = itertools.count(1)
        self.uploads: dict[str, tuple[str, str, str | None, bytearray]] = {}
        self.lock = threading.Lock()
        self._http = _QuietServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What sends Google's clients here."""
        tensorstore = {"TENSORSTORE_GCS_HTTP_URL": self.url, "GOOGLE_AUTH_TOKEN_FOR_TESTING": "nobody"}
        return {"STORAGE_EMULATOR_HOST": self.url, **tensorstore, **QUIET}

    def __enter__(self) -> Self:
        import fsspec

        self._thread.start()
        self._mock = mock.patch.dict(os.environ, self.environment)
        self._mock.start()
        _forget_clients(fsspec)
        return self

    def __exit__(self, *_: object) -> None:
        import fsspec

        self._mock.stop()
        _forget_clients(fsspec)
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def read(self, url: str) -> str:
        """Returns the text of an object, by its gs:// URL."""
        bucket, _, name = url.removeprefix("gs://").partition("/")
        return self.objects[bucket][name].data.decode()

    def names(self, prefix: str = "gs://") -> Iterator[str]:
        """Yields the URLs of objects."""
        for bucket, objects in self.objects.items():
            for name in sorted(objects):
                if f"gs://{bucket}/{name}".startswith(prefix):
                    yield f"gs://{bucket}/{name}"


class _QuietServer(http.server.ThreadingHTTPServer):
    """Does not mind clients that are killed."""

    daemon_threads = True
    request_queue_size = 1024  # of 5, as usual, clients that connect together are turned away, and wait for seconds

    def handle_error(self, *_: object) -> None:
        """Says what went wrong, unless the client has gone."""
        if not isinstance(sys.exception(), ConnectionError):
            traceback.print_exc()


def _forget_clients(fsspec: Any) -> None:
    """Clients keep the address that they were made with."""
    from etils.epath import backend

    backend.fsspec_backend._get_filesystem.cache_clear()
    fsspec.get_filesystem_class("gcs").clear_instance_cache()


def _handler(server: GcsServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def _answer(self, body: bytes | dict[str, Any] = b"", status: int = 200, **headers: str) -> None:
            data = json.dumps(body).encode() if isinstance(body, dict) else body
            self.send_response(status)
            if isinstance(body, dict):
                self.send_header("Content-Type", "application/json")
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # clients hang up when they have seen enough
                self.wfile.write(b"" if self.command == "HEAD" else data)

        def _refuse(self, status: int, message: str) -> None:
            self._answer({"error": {"code": status, "message": message}}, status)

        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else self._read_chunks()
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            server.requests.append((self.command, self.path))
            time.sleep(server.latency_seconds)
            with server.lock:
                self._route(url.path, query, body)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _handle  # noqa: N815

        def _read_chunks(self) -> bytes:
            data = b""
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            return data

        def _route(self, path: str, query: dict[str, str], body: bytes) -> None:
            if path.startswith("/upload/"):
                self._upload(path.split("/")[5], query, body)
            elif found := OBJECT.fullmatch(path):
                self._one(found[1], found[2], query)
            elif found := re.fullmatch(r"/storage/v1/b/([^/]+)/o/?", path):
                self._list(found[1], query)
            elif found := re.fullmatch(r"/storage/v1/b/([^/]+)/?", path):
                self._answer({"kind": "storage#bucket", "name": found[1], "id": found[1]})
            elif path == "/batch/storage/v1":
                self._batch(body)
            else:
                self._refuse(404, f"no {path} here")

        def _one(self, bucket: str, quoted: str, query: dict[str, str]) -> None:
            copied = re.fullmatch(r"(.+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/(.+)", quoted)
            name = urllib.parse.unquote(copied[1] if copied else quoted)
            found = server.objects[bucket].get(name)
            if found is None:
                self._refuse(404, f"No such object: {bucket}/{name}")
            elif copied:
                made = _put(server, copied[2], urllib.parse.unquote(copied[3]), found.data)
                self._answer({"done": True, "resource": made})
            elif self.command == "DELETE":
                del server.objects[bucket][name]
                self._answer(status=204)
            elif query.get("ifGenerationNotMatch") == str(found.generation):
                self._answer(status=304)
            elif query.get("alt") == "media":
                generation = str(found.generation)
                span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
                if span is None:
                    self._answer(found.data, X_Goog_Generation=generation)
                elif int(span[1]) >= len(found.data):
                    self._refuse(416, "out of range")
                else:
                    end = int(span[2]) + 1 if span[2] else len(found.data)
                    part = found.data[int(span[1]) : end]
                    where = f"bytes {span[1]}-{int(span[1]) + len(part) - 1}/{len(found.data)}"
                    self._answer(part, 206, Content_Range=where, X_Goog_Generation=generation)
            else:
                self._answer(_describe(bucket, name, found))

        def _list(self, bucket: str, query: dict[str, str]) -> None:
            prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
            first, end = query.get("startOffset", ""), query.get("endOffset", "\U0010ffff")
            pattern = _glob(query.get("matchGlob", "**"))
            found: dict[str, dict[str, Any] | None] = {}
            for name, one in server.objects[bucket].items():
                if name.startswith(prefix) and first <= name < end and pattern.fullmatch(name):
                    rest = name[len(prefix) :]
                    if delimiter and delimiter in rest:
                        found[prefix + rest.split(delimiter)[0] + delimiter] = None
                    else:
                        found[name] = _describe(bucket, name, one)
            names = sorted(name for name in found if name > query.get("pageToken", ""))
            page = names[: min(PAGE, int(query.get("maxResults", PAGE)))]
            answer: dict[str, Any] = {
                "kind": "storage#objects",
                "items": [item for name in page if (item := found[name]) is not None],
                "prefixes": [name for name in page if found[name] is None],
            }
            if len(page) < len(names):
                answer["nextPageToken"] = page[-1]
            self._answer(answer)

        def _upload(self, bucket: str, query: dict[str, str], body: bytes) -> None:
            if "upload_id" in query:
                _, name, match, data = server.uploads[query["upload_id"]]
                data += body
                if self.headers.get("Content-Range", "").endswith("/*"):
                    self._answer(status=308, Range=f"bytes=0-{len(data) - 1}")
                    return
                self._write(bucket, name, bytes(data), match)
            elif query["uploadType"] == "media":
                self._write(bucket, query["name"], body, query.get("ifGenerationMatch"))
            elif query["uploadType"] == "resumable":
                name = query.get("name") or json.loads(body)["name"]
                key = str(len(server.uploads))
                server.uploads[key] = (bucket, name, query.get("ifGenerationMatch"), bytearray())
                place = f"{server.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={key}"
                self._answer(Location=place)
            else:
                mark = re.search(r"boundary=['\"]?([^'\";]+)", self.headers["Content-Type"])
                assert mark is not None
                facts, data = body.split(b"--" + mark[1].encode())[1:3]
                name = json.loads(facts.split(b"\n\n" if b"\n\n" in facts else b"\r\n\r\n", 1)[1])["name"]
                blank = b"\r\n\r\n" if b"\r\n\r\n" in data.split(b"\n\n")[0] else b"\n\n"
                data = data.split(blank, 1)[1]
                data = data.removesuffix(b"\n").removesuffix(b"\r")
                self._write(bucket, name, data, query.get("ifGenerationMatch"))

        def _write(self, bucket: str, name: str, data: bytes, match: str | None) -> None:
            if any(f"gs://{bucket}/{name}".startswith(prefix) for prefix in server.denied):
                self._refuse(403, f"the caller does not have storage.objects.create access to {bucket}")
            elif match is not None and match != str(_generation(server, bucket, name)):
                self._refuse(412, "At least one of the pre-conditions you specified did not hold.")
            else:
                self._answer(_put(server, bucket, name, data))

        def _batch(self, body: bytes) -> None:
            answers = []
            for found in re.finditer(rb"DELETE /storage/v1/b/([^/ ]+)/o/([^ ?]+)", body):
                bucket, name = found[1].decode(), urllib.parse.unquote(found[2].decode())
                gone = server.objects[bucket].pop(name, None) is not None
                answers.append(f"HTTP/1.1 {'204 No Content' if gone else '404 Not Found'}\r\n\r\n")
            parts = "".join(
                f"--batch\r\nContent-Type: application/http\r\nContent-ID: <response-{i}>\r\n\r\n{answer}\r\n"
                for i, answer in enumerate(answers, 1)
            )
            self._answer((parts + "--batch--\r\n").encode(), Content_Type="multipart/mixed; boundary=batch")

    return Handler


@functools.cache
def _glob(pattern: str) -> re.Pattern[str]:
    """Returns a pattern of the service's as a regular expression: a star does not stand for a slash, two do."""
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    meanings = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meanings.get(part, re.escape(part)) for part in parts), re.DOTALL)


def _put(server: GcsServer, bucket: str, name: str, data: bytes) -> dict[str, Any]:
    made = server.objects[bucket][name] = Object(data, next(server.generations))  # never one that was there before
    return _describe(bucket, name, made)


def _generation(server: GcsServer, bucket: str, name: str) -> int:
    return server.objects[bucket][name].generation if name in server.objects[bucket] else 0


def _describe(bucket: str, name: str, one: Object) -> dict[str, Any]:
    now = "2025-01-01T00:00:00.000Z"
    return {
        "kind": "storage#object", "bucket": bucket, "name": name, "size": str(len(one.data)),
        "generation": str(one.generation), "metageneration": "1", "updated": now, "timeCreated": now,
        "contentType": "application/octet-stream",
    }  # fmt: skip
