"""The list of nodes agrees with the parser's own description, field by field."""

import pytest
from google.protobuf.descriptor import FieldDescriptor
from postgast import pg_query_pb2

from bastion.protocols.postgres.sql import definers, nodes

MESSAGES = pg_query_pb2.DESCRIPTOR.message_types_by_name
EXPRESSIONS_OF_PLANS = {"xpr", "type", "collation", "inputcollid", "resulttype", "resultcollid"}


@pytest.mark.parametrize("kind", sorted(nodes.PLAIN))
def test_listed_fields_exist_and_children_are_children(kind: str) -> None:
    fields = {field.json_name: field for field in MESSAGES[kind].fields} | {f.name: f for f in MESSAGES[kind].fields}
    scalars, children = nodes.PLAIN[kind]
    for name, body in children.items():
        field = fields[name]
        assert field.type == FieldDescriptor.TYPE_MESSAGE
        # A bare body has a type of its own; everything else is a wrapped node.
        assert (field.message_type.name == "Node") == (body is None)
        if body is not None:
            assert field.message_type.name == body
    for name in scalars - {"location"}:
        field = fields[name]
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            assert name in {"colnames", "collname", "ival", "fval", "boolval", "sval", "bsval", "cycle_col_list"}


def test_no_statement_of_the_grammar_is_forgotten() -> None:
    walked = {"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "PrepareStmt", "DeclareCursorStmt"}
    session = {"ExplainStmt", "CopyStmt", "CreateTableAsStmt", "RefreshMatViewStmt", "TruncateStmt", "LockStmt"}
    session |= {"VacuumStmt", "CallStmt", "DoStmt", "TransactionStmt", "VariableSetStmt", "VariableShowStmt"}
    session |= {"ConstraintsSetStmt", "DiscardStmt", "ExecuteStmt", "DeallocateStmt", "FetchStmt", "ClosePortalStmt"}
    session |= {"ListenStmt", "UnlistenStmt", "NotifyStmt"}
    parts = {"RawStmt", "SetOperationStmt", "ReturnStmt", "PLAssignStmt", "ReplicaIdentityStmt"}
    statements = {name for name in MESSAGES if name.endswith("Stmt")}
    assert statements - walked - session - parts == set(definers.ADMIN)
