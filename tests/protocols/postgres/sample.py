"""PostgreSQL, held to the contract."""

from bastion.protocols.contract import Side
from bastion.protocols.postgres.codec import Codec, client_codec, target_codec
from bastion.protocols.postgres.interceptor import PostgresInterceptor, SessionFacts
from tests.kit.conformance import Sample
from tests.protocols.postgres.wire import (
    PARAMETERS,
    SUBSTITUTE_FAILS,
    SYNC,
    TinyAnalyst,
    bind,
    complete,
    described,
    error,
    execute,
    parse,
    query,
    ready,
    row,
)


def _codec(side: Side, limit: int) -> Codec:
    return client_codec(limit) if side is Side.CLIENT else target_codec(limit)


SAMPLE = Sample(
    interceptor=lambda: PostgresInterceptor(
        TinyAnalyst(), SessionFacts(dict(PARAMETERS), ("public",), held_bytes=4096)
    ),
    codec=_codec,
    ask=query("delete canary"),
    marker=b"canary",
    harmless=SYNC,
    answer=complete("DELETE 1") + ready(),
    refused=SUBSTITUTE_FAILS + ready(),
    announced=b"Q\x7f\xff\xff\xff",
    wires={
        Side.CLIENT: query("select 1") + parse("select $1", "s") + bind("s", values=[b"1", None]) + execute() + SYNC,
        Side.TARGET: described(("a", 23, 0)) + row(b"1") + row(None) + complete() + error() + ready(),
    },
)
