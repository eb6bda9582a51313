"""An approver is shown no count of another relation than the one that is meant."""

from unittest.mock import AsyncMock

from bastion.model.action import Access, Action, Resource
from bastion.protocols.postgres import impact


async def test_name_that_can_mean_two_relations_is_not_counted() -> None:
    resources = tuple(Resource("relation", f"{schema}.orders", "delete", Access.WRITE) for schema in ("public", "x"))
    connection = AsyncMock()
    told = await impact.preview(connection, Action("postgres", "delete", "DELETE FROM orders", resources))
    assert set(told) == {"unavailable"}
    connection.execute.assert_not_awaited()
