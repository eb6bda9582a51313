"""Proves a store offline, telling how far it is."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bastion.cli.output import OUT
from bastion.paths import state_dir
from bastion.store.checkpoints import PUBLIC_KEY
from bastion.store.verify import Proof, verify


def verify_store(store: Path | None, key: Path | None, session: str, *, at_least: int, as_json: bool) -> None:
    """Prove a store and print what was proved; raise `RecordingBroken` at the first entry that does not hold."""
    directory = store or state_dir()
    trusted = key or directory / PUBLIC_KEY
    proof = verify(directory, trusted, session=session or None, at_least=at_least, progress=OUT.progress)
    OUT.progress_ended()
    if as_json:
        OUT.data({"ok": True, "key": str(trusted), **asdict(proof), "last_checkpoint": _moment(proof)})
        return
    signed = "every signature holds" if proof.checkpoints else "nothing has been signed for yet"
    OUT.line(f"every chain is whole; {signed}")
    OUT.fields(
        [
            ("sessions", proof.sessions),
            ("entries", proof.entries),
            ("checkpoints", proof.checkpoints),
            ("last checkpoint", _moment(proof)),
            ("not yet signed for", f"{proof.unsigned} entries, younger than the last checkpoint"),
            ("key", trusted),
        ]
    )
    if key is None:
        OUT.say("The key lay beside the store: whoever could change one could change both. --key names one kept apart.")


def _moment(proof: Proof) -> str:
    if not proof.last_checkpoint:
        return ""
    return datetime.fromtimestamp(proof.last_checkpoint / 1e6, UTC).isoformat(timespec="seconds")
