"""The people of the demo: one who works, one who approves, one who audits."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who can log in at the demo's identity provider, without a password."""

    subject: str
    name: str
    email: str
    groups: tuple[str, ...]
    role: str
    """What this person does in the tour."""

    def get_user_id(self) -> str:
        """Return the subject, under the name that authlib asks for."""
        return self.subject


ENGINEER = Account("ada", "Ada Ekström", "ada@example.com", ("engineers",), "engineer")
DBA = Account("bo", "Bo Lindqvist", "bo@example.com", ("dba",), "database administrator")
AUDITOR = Account("cleo", "Cleo Marsh", "cleo@example.com", ("auditors",), "auditor")
ACCOUNTS = {account.subject: account for account in (ENGINEER, DBA, AUDITOR)}
