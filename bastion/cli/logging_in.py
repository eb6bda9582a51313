"""The login as a person sees it: an address and a code, a QR code on a terminal, a browser where there is one."""

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict

from bastion.cli.output import OUT
from bastion.client.credentials import LoginStore
from bastion.client.device import Prompt
from bastion.client.gateway import Gateway, Json
from bastion.client.login import Registration
from bastion.client.login import log_in as log_in_at
from bastion.client.login import log_out as log_out_at
from bastion.paths import state_dir


def log_in(gateway: Gateway, *, browser: bool) -> Json:
    """Log in at the identity provider that the gateway trusts; return whom the gateway sees then."""
    registration = Registration.told(gateway.issuer())
    login = log_in_at(registration, LoginStore(state_dir()), lambda prompt: _show(prompt, browser=browser))
    # Asked with the new token, whatever another variable of the environment holds: this proves that it is accepted.
    return Gateway(gateway.directory, lambda: login.access_token).whoami()


def log_out() -> bool:
    """Forget the login; tell whether there was one."""
    return log_out_at(state_dir())


def _show(prompt: Prompt, *, browser: bool) -> None:
    minutes = max(1, round(prompt.lifetime.total_seconds() / 60))
    if OUT.speaks_json:
        OUT.event({"login": asdict(prompt) | {"lifetime": prompt.lifetime.total_seconds()}})
    else:
        OUT.say(f"To log in, open {prompt.address}")
        OUT.say(f"and confirm the code {prompt.code} within {minutes} minutes, if it is the one shown there.")
        if prompt.address_with_code:
            OUT.say(f"The address with the code in it: {prompt.address_with_code}")
        if sys.stderr.isatty():
            OUT.drawing(_qr_code(prompt.address_with_code or prompt.address))
    if browser and has_browser(os.environ):
        _open(prompt.address_with_code or prompt.address)
    if not OUT.speaks_json:
        OUT.say("waiting ...")


def has_browser(environment: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Tell whether a browser could open where the person sits: not over SSH, and not without a display."""
    if environment.get("SSH_CONNECTION") or environment.get("SSH_TTY"):
        return False
    return platform == "darwin" or bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def _open(address: str) -> None:
    import webbrowser

    try:
        opened = webbrowser.open(address)
    except webbrowser.Error:
        opened = False
    if opened:
        OUT.say("The page was opened in your browser.")


def _qr_code(address: str) -> str:
    import io

    import segno

    drawn = io.StringIO()
    segno.make(address, error="l", micro=False).terminal(out=drawn, compact=True)
    return drawn.getvalue()
