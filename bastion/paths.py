"""Where bastion keeps its files: the environment read into paths. Light, because every command needs it."""

import os
from collections.abc import Mapping
from pathlib import Path

SYSTEM_CONFIG = Path("/etc/bastion/bastion.yaml")


def state_dir(env: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of what the gateway keeps: store, keys, secrets."""
    return _chosen(env, "BASTION_STATE_DIR") or _xdg(env, "XDG_STATE_HOME", ".local/state") / "bastion"


def runtime_dir(env: Mapping[str, str] = os.environ) -> Path:
    """Return the private directory of the gateway's sockets."""
    if chosen := _chosen(env, "BASTION_RUNTIME_DIR"):
        return chosen
    if given := _absolute(env.get("XDG_RUNTIME_DIR", "")):
        return given / "bastion"
    return state_dir(env) / "run"


def config_file(env: Mapping[str, str] = os.environ) -> Path:
    """Return the configuration file: the one named, else the person's own, else the machine's."""
    if chosen := _chosen(env, "BASTION_CONFIG"):
        return chosen
    own = _xdg(env, "XDG_CONFIG_HOME", ".config") / "bastion" / "bastion.yaml"
    return own if own.exists() or not SYSTEM_CONFIG.exists() else SYSTEM_CONFIG


def data_dir(env: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of what the command line keeps for a person, such as the history of `connect`."""
    return _xdg(env, "XDG_DATA_HOME", ".local/share") / "bastion"


def _chosen(env: Mapping[str, str], name: str) -> Path | None:
    """Return what the person set, made absolute, so that a process started from here means the same place."""
    value = env.get(name, "")
    return Path(value).expanduser().absolute() if value else None


def _xdg(env: Mapping[str, str], name: str, below_home: str) -> Path:
    # The XDG specification has relative paths ignored.
    return _absolute(env.get(name, "")) or Path(env.get("HOME") or "~").expanduser() / below_home


def _absolute(value: str) -> Path | None:
    return Path(value) if os.path.isabs(value) else None
