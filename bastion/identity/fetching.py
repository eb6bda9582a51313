"""Fetches small JSON documents from the issuer: https only (http on this machine), no redirects, bounded."""

import ipaddress
import json
from typing import Any
from urllib.parse import urlsplit

import httpx2

from bastion.errors import IssuerError

_SIZE_AT_MOST = 512 * 1024
_SECONDS = 10.0


def check_url(url: str) -> None:
    """Raise `IssuerError` unless `url` is one that secrets and keys may be fetched from."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname and _is_loopback(parts.hostname):
        return
    raise IssuerError("the issuer names an address without https", hint="only this machine itself may go without")


async def fetch(url: str) -> dict[str, Any]:
    """Return the JSON object at `url`; raise `IssuerError` for anything else."""
    check_url(url)
    try:
        async with (
            httpx2.AsyncClient(follow_redirects=False, timeout=_SECONDS, trust_env=False) as client,
            client.stream("GET", url, headers={"accept": "application/json"}) as response,
        ):
            if response.status_code != 200:
                raise IssuerError(f"the issuer answered {response.status_code} at {urlsplit(url).path}")
            body = b""
            async for part in response.aiter_bytes():
                body += part
                if len(body) > _SIZE_AT_MOST:
                    raise IssuerError(f"the issuer's answer is larger than {_SIZE_AT_MOST} bytes")
    except httpx2.HTTPError as error:
        host = urlsplit(url).netloc
        raise IssuerError(f"the issuer at {host} cannot be reached ({type(error).__name__})") from error
    return parse(body)


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
