"""The tables, made and changed step by step; what was written once is protected by triggers."""

from sqlite_utils import Database, Migrations

migrations = Migrations("bastion")

_APPEND_ONLY = ("chunks", "approvals", "votes", "settlements", "spent", "policies", "checkpoints")


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
    db.execute("create index chunks_by_session on chunks (session, first)")
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
    for table in _APPEND_ONLY:
        for verb in ("update", "delete"):
            db.execute(
                f"create trigger {table}_no_{verb} before {verb} on {table} "
                "begin select raise(abort, 'the recording is append-only'); end"
            )
    db.execute(
        "create trigger sessions_no_delete before delete on sessions "
        "begin select raise(abort, 'the recording is append-only'); end"
    )
    db.execute(
        "create trigger sessions_end_once before update on sessions when old.ended is not null "
        "begin select raise(abort, 'the recording is append-only'); end"
    )
