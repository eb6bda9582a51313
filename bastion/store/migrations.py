"""The tables, made and changed step by step; what was written once is protected by triggers."""

from sqlite_utils import Database, Migrations

migrations = Migrations("bastion")

_APPEND_ONLY = {
    "chunks": "id = new.id",
    "spans": "id = new.id or (session = new.session and first = new.first)",
    "approvals": "id = new.id",
    "votes": "id = new.id or (approval = new.approval and issuer = new.issuer and subject = new.subject)",
    "settlements": "approval = new.approval",
    "spent": "approval = new.approval",
    "policies": "version = new.version",
    "checkpoints": "number = new.number",
    "sessions": "id = new.id",
}
"""Each table with what makes two of its rows the same: `insert or replace` deletes without asking a delete trigger."""

_SESSION_OPENED = "id, issuer, subject, name, kind, actor, target, protocol, labels, reason, peer, client, started"


@migrations()
def m001_recordings(db: Database) -> None:
    """Sessions and their entries in chunks, approvals with what happened to them, policies, and checkpoints."""
    db.execute(
        """
        create table sessions (
            id text primary key, issuer text not null, subject text not null, name text not null, kind text not null,
            actor text not null, target text not null, protocol text not null, labels text not null,
            reason text not null, peer text not null, client text not null, started integer not null,
            ended integer, end_reason text, entries integer not null default 0,
            statements integer not null default 0, denied integer not null default 0,
            held integer not null default 0, bytes integer not null default 0
        ) strict
        """
    )
    db.execute("create index sessions_by_subject on sessions (issuer, subject, id)")
    db.execute(
        """
        create table chunks (
            id integer primary key, session text not null, first integer not null, count integer not null,
            packing integer not null, body blob not null, links blob not null
        ) strict
        """
    )
    # An index on chunks by session would be written to at each commit, at a place of its own for each session, and cost
    # more than all the rest. What it would say is written from time to time instead, for many chunks at once.
    db.execute(
        "create table spans (id integer primary key, session text not null, first integer not null, "
        "last integer not null, chunks blob not null) strict"
    )
    db.execute("create unique index spans_by_session on spans (session, first)")
    db.execute(
        "create table approvals (id text primary key, session text not null, digest text not null, "
        "policy text not null, request text not null, asked integer not null) strict"
    )
    db.execute(
        "create table votes (id integer primary key, approval text not null, issuer text not null, "
        "subject text not null, name text not null, approves integer not null, reason text not null, "
        "at integer not null, unique (approval, issuer, subject)) strict"
    )
    db.execute(
        "create table settlements (approval text primary key, state text not null, reason text not null, "
        "at integer not null) strict"
    )
    db.execute("create table spent (approval text primary key, at integer not null) strict")
    db.execute("create table policies (version text primary key, text text not null, at integer not null) strict")
    db.execute(
        "create table checkpoints (number integer primary key, at integer not null, body text not null, "
        "signature blob not null) strict"
    )
    for table, same in _APPEND_ONLY.items():
        taken = f"exists (select 1 from {table} where {same})"  # noqa: S608 - only our own words
        _guard(db, f"{table}_no_replace", f"insert on {table} when {taken}")
        _guard(db, f"{table}_no_delete", f"delete on {table}")
        if table != "sessions":
            _guard(db, f"{table}_no_update", f"update on {table}")
    _guard(db, "sessions_stay_as_opened", f"update of {_SESSION_OPENED} on sessions")
    _guard(db, "sessions_end_once", "update on sessions when old.ended is not null")


def _guard(db: Database, name: str, before: str) -> None:
    db.execute(f"create trigger {name} before {before} begin select raise(abort, 'the recording is append-only'); end")
