"""An OpenID provider that somebody else wrote: the npm package oidc-provider, in a process of its own.

Its clock is moved by tests, so that nothing waits: `sleep` is what a client under test is given for sleeping.
"""

import hashlib
import html
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2
import pytest

from tests.kit import nodejs

CLIENT_ID = "bastion-cli"
AUDIENCE = "https://bastion.test/api"
SCOPES = ("openid", "profile", "groups", "offline_access")
ROBOT = ("bastion-ci", "secret-of-the-robot-0123456789abcdef")
_FOLDER = Path(__file__).parent / "oidc_provider"
_HIDDEN = re.compile(r'type="hidden" name="([^"]+)" value="([^"]*)"')


class IdentityProvider:
    """The provider, which answers while the `with` block runs."""

    def __init__(self) -> None:
        place = nodejs.installed(_FOLDER)
        self._process = subprocess.Popen(
            [str(nodejs.node()), str(_beside(place))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        while said and not said.startswith("ready "):
            said = self._process.stdout.readline()
        assert said, "the provider ended before it was ready"
        self.url = said.split()[1]
        self._http = httpx2.Client(base_url=self.url, trust_env=False, timeout=30)
        self._offset = 0.0

    def __enter__(self) -> "IdentityProvider":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(10)

    def reset(self) -> None:
        """Return to the settings it started with; the clock stays where it is."""
        self._control(reset=True)

    def configure(self, **settings: object) -> None:
        """Change `accessTtl`, `deviceTtl`, `interval` (all in seconds) or `slowDown`."""
        self._control(settings=settings)

    def rotate(self) -> None:
        """Take new keys and forget every login."""
        self._control(rotate=True)

    def sleep(self, seconds: float) -> None:
        """Let that time pass, at once."""
        self._control(advance=seconds)
        self._offset += seconds

    def seconds(self) -> float:
        """Return the provider's time, in seconds since the Unix epoch."""
        return time.time() + self._offset

    def now(self) -> datetime:
        """Return the provider's time."""
        return datetime.fromtimestamp(self.seconds(), UTC)

    def agree(self, address: str, account: str = "alice") -> None:
        """Do what a person does who opens an address with a code in it, logs in and agrees."""
        with self._browser() as browser:
            page = browser.post("/device", data=self._confirmation(browser, address))
            assert "data-prompt" in page.text, page.text
            page = browser.post(page.url.path, data={"account": account})
            if "data-prompt" in page.text:
                page = browser.post(page.url.path, data={"agrees": "yes"})
            assert page.status_code == 200, page.text
            assert "Sign-in Success" in page.text, page.text

    def refuse(self, address: str) -> None:
        """Do what a person does who opens an address with a code in it and says no."""
        with self._browser() as browser:
            browser.post("/device", data={**self._confirmation(browser, address), "abort": "yes"})

    def open(self, address: str) -> str:
        """Open an address and do nothing; return the page that the person sees."""
        with self._browser() as browser:
            return browser.post("/device", data=_hidden(browser.get(address).text)).text

    def post(self, path: str, **fields: str) -> httpx2.Response:
        """Return the answer to a form."""
        return self._http.post(path, data=fields)

    def post_as_robot(self, path: str, **fields: str) -> httpx2.Response:
        """Return the answer to a form that the robot sends."""
        return self._http.post(path, data=fields, auth=ROBOT)

    def _confirmation(self, browser: httpx2.Client, address: str) -> dict[str, str]:
        # The page with the code sends itself; the one that it leads to asks whether it is the person's own.
        fields = _hidden(browser.post("/device", data=_hidden(browser.get(address).text)).text)
        assert fields.get("confirm") == "yes"
        return fields

    def _browser(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, follow_redirects=True, trust_env=False, timeout=30)

    def _control(self, **asked: Any) -> None:
        self._http.post("/_test", json=asked).raise_for_status()


def _beside(place: Path) -> Path:
    """Return the program's copy where Node finds its packages: beside them. One name for each content."""
    source = (_FOLDER / "provider.mjs").read_bytes()
    program = place / f"provider-{hashlib.sha256(source).hexdigest()[:12]}.mjs"
    if not program.exists():
        with tempfile.NamedTemporaryFile(dir=place, delete=False) as file:
            file.write(source)
        Path(file.name).replace(program)
    return program


def _hidden(page: str) -> dict[str, str]:
    return {name: html.unescape(value) for name, value in _HIDDEN.findall(page)}


@pytest.fixture(scope="session")
def running_provider() -> Iterator[IdentityProvider]:
    """The provider, one for all tests of this process."""
    with IdentityProvider() as running:
        yield running


@pytest.fixture
def provider(running_provider: IdentityProvider) -> IdentityProvider:
    """The provider with its ordinary settings."""
    running_provider.reset()
    return running_provider
