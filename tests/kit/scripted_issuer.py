"""An issuer that answers what a test wrote down, for what no real one does on demand."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qsl


@dataclass(frozen=True)
class Answer:
    """One answer; without a status, the connection is closed instead."""

    body: object = None
    status: int | None = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    """What to say the length is, where that is not the truth."""

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


NOTHING = Answer(status=None)


def error(code: str, status: int = 400) -> Answer:
    return Answer({"error": code}, status)


class ScriptedIssuer:
    """Answers each path from its own list, the last answer again and again, while the `with` block runs."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.asked: list[tuple[str, dict[str, str]]] = []
        """The path and the form of each request, in their order."""
        self.answers: dict[str, list[Answer]] = {}

    def __enter__(self) -> "ScriptedIssuer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def script(self, path: str, *answers: Answer) -> None:
        self.answers[path] = list(answers)

    def forms(self, path: str) -> list[dict[str, str]]:
        return [form for asked, form in self.asked if asked == path]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answered({})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                self._answered(dict(parse_qsl(body.decode(), keep_blank_values=True)))

            def _answered(self, form: dict[str, str]) -> None:
                issuer.asked.append((self.path, form))
                left = issuer.answers.get(self.path, [error("no_such_path", 404)])
                answer = left.pop(0) if len(left) > 1 else left[0]
                self.close_connection = True
                if answer.status is None:
                    return
                self.send_response(answer.status)
                self.send_header("content-type", "application/json")
                length = len(answer.content) if answer.length is None else answer.length
                for name, value in {"content-length": str(length), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
