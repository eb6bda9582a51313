"""Keeps the desk's requests in the store."""

from datetime import datetime

import orjson

from bastion.gateway import records
from bastion.model.approval import Approval, ApprovalId, State, Vote
from bastion.model.session import SessionId
from bastion.store.writer import Recorder


class StoreLedger:
    """Implements `bastion.gateway.desk.Ledger` with the recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def asked(self, approval: Approval) -> None:
        """Keep a new request."""
        self._recorder.asked(approval, orjson.dumps(records.request(approval)).decode())

    def voted(self, approval: Approval, vote: Vote) -> None:
        """Keep one vote."""
        self._recorder.voted(approval, vote)

    def settled(self, approval: Approval, state: State, reason: str, at: datetime) -> None:
        """Keep how a request ended."""
        self._recorder.settled(approval.id, state, reason, at)

    def spend(self, approval: ApprovalId, at: datetime) -> bool:
        """Mark an approved request as used and return True, once; False ever after."""
        return self._recorder.spend(approval, at)

    def append(self, session: SessionId, kind: str, data: bytes) -> int:
        """Append an entry to a session's recording."""
        return self._recorder.append(session, kind, data)
