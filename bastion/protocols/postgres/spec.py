"""What bastion speaks PostgreSQL with."""

from typing import Final

from bastion.protocols.contract import ClientTools, ProtocolSpec
from bastion.protocols.postgres.clause import SqlClause
from bastion.protocols.postgres.interceptor import PostgresInterceptor
from bastion.protocols.postgres.options import PostgresOptions

SPEC: Final = ProtocolSpec(
    name="postgres",
    default_port=5432,
    options=PostgresOptions,
    clauses={"sql": SqlClause},
    covers=frozenset({"columns", "detect"}),
    interceptor=PostgresInterceptor,
    endpoint="bastion.protocols.postgres.endpoint:PostgresEndpoint",
    transcript="bastion.protocols.postgres.transcript:PostgresTranscript",
    client=ClientTools(
        connect="bastion.protocols.postgres.client:connect",
        hints="bastion.protocols.postgres.client:hints",
        loopback="bastion.protocols.postgres.loopback:Loopback",
        leaks="bastion.protocols.postgres.leaks.running:PostgresLeakTest",
    ),
)
