"""Fetches small JSON documents from the issuer: https only (http on this machine), no redirects, bounded."""

import asyncio
import ipaddress
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

import httpx2

from bastion.errors import IssuerError
from bastion.model.text import visible

_SIZE_AT_MOST = 512 * 1024
_SECONDS = 10.0


def check_url(url: str) -> None:
    """Raise `IssuerError` unless `url` is one that secrets and keys may be fetched from."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise IssuerError("the issuer names an address that is none") from None
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname and _is_loopback(parts.hostname):
        return
    raise IssuerError("the issuer names an address without https", hint="only this machine itself may go without")


def reaching(url: str) -> dict[str, Any]:
    """Return how an httpx2 client is to reach `url`: whom it trusts, and whether by the environment's proxy."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return {"verify": httpx2.create_ssl_context(), "trust_env": not _is_loopback(parts.hostname or "")}
    # Without TLS nobody has to be trusted, so nobody is: reading the machine's authorities takes longer than the rest.
    return {"verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "trust_env": False}


async def fetch(url: str) -> dict[str, Any]:
    """Return the JSON object at `url`; raise `IssuerError` for anything else."""
    check_url(url)
    try:
        async with asyncio.timeout(_SECONDS):
            return parse(await _body(url))
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
        host = visible(urlsplit(url).netloc)
        raise IssuerError(f"the issuer at {host} cannot be reached ({type(error).__name__})") from error


async def _body(url: str) -> bytes:
    # Nothing packed is asked for: it could unpack to more than any bound on what comes in promises.
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    async with (
        httpx2.AsyncClient(follow_redirects=False, timeout=_SECONDS, **reaching(url)) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        if response.status_code != 200:
            raise IssuerError(f"the issuer answered {response.status_code} at {visible(urlsplit(url).path)}")
        body = b""
        async for part in response.aiter_raw():
            body += part
            if len(body) > _SIZE_AT_MOST:
                raise IssuerError(f"the issuer's answer is larger than {_SIZE_AT_MOST} bytes")
        return body


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object that `body` is; raise `IssuerError` for anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise IssuerError("the issuer answered something other than a JSON object")
    return value


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
