"""The policies of the corpora, in the terms of the `sql:` clause, and a judge that applies them as any policy is."""

from typing import Literal, TypeAlias

from bastion.model.action import Action, Resource
from bastion.protocols.postgres.clause import SqlClause

Decision: TypeAlias = Literal["allow", "hold", "deny"]
Rules: TypeAlias = tuple[tuple[Decision, SqlClause], ...]

_ORDER: tuple[Decision, ...] = ("allow", "hold", "deny")


def clause(**members: object) -> SqlClause:
    return SqlClause.model_validate(members)


READ: Rules = (("allow", clause(access="read")),)
_OTHERS = ["public.cards", "public.staging", "public.v_*", "public.two_keys", "public.with_*", "public.parents"]
_OTHERS += ["public.children", "public.part*", "scratch.*"]
DEV: Rules = (
    *READ,
    ("allow", clause(verbs=["insert"], relations=["public.orders"], access="write")),
    (
        "allow",
        clause(
            verbs=["update", "delete"], relations=["public.orders", "public.users"], where="selective", access="write"
        ),
    ),
    ("hold", clause(verbs=["update", "delete"], where=["missing", "unselective"], access="write")),
    ("hold", clause(verbs=["merge", "truncate", "copy", "vacuum", "analyze"], access="write")),
    ("hold", clause(verbs=["insert", "update", "delete"], relations=[*_OTHERS, "public.users"], access="write")),
)
DEV = (*DEV[:4], *DEV[4:5], ("hold", clause(verbs=["insert", "update", "delete"], relations=_OTHERS, access="write")))
POLICIES: dict[str, Rules] = {
    "read": READ,
    "dev": DEV,
    "keys": (*READ, ("allow", clause(verbs="update", where="selective"))),
    "keyed": (*READ, ("allow", clause(verbs=["update", "delete", "merge"], where="selective"))),
    "parted": (*READ, ("allow", clause(verbs="update"))),
    "serial": (*READ, ("allow", clause(verbs="insert", access="write"))),
    "nothing_of_orders": (*READ, ("deny", clause(relations="public.orders"))),
    "nothing_parted": (*DEV, ("allow", clause(access="write")), ("deny", clause(relations="public.parted"))),
    "sql_ro": READ,
    "sql_dev": DEV,
    "sql_super": DEV,
    "mask_pii": READ,
}


def decide(rules: Rules, action: Action) -> Decision:
    """Return the verdict on an action: any deny denies, any hold holds, and what nothing permits is denied."""
    if not action.resources:
        return "deny"
    return worst(_decide(rules, action, resource) for resource in action.resources)


def worst(decisions: "object") -> Decision:
    return max(decisions, key=_ORDER.index, default="allow")  # type: ignore[call-overload,no-any-return]


def _decide(rules: Rules, action: Action, resource: Resource) -> Decision:
    if any(effect == "deny" and rule.matches(action, resource) for effect, rule in rules):
        return "deny"
    held = any(effect == "hold" and rule.matches(action, resource) for effect, rule in rules)
    permitted = any(effect != "deny" and rule.covers(action, resource) for effect, rule in rules)
    if not permitted:
        return "deny"
    return "hold" if held else "allow"
