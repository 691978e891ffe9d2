"""What network policies let through: from which pod, to which pod or address, on which port.

It is https://kubernetes.io/docs/concepts/services-networking/network-policies/ as a pure function.
A flow passes if the source's policies let it out and the target's let it in; a pod that no policy
of a direction selects is open in that direction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Literal

Direction = Literal["Ingress", "Egress"]
Protocol = Literal["TCP", "UDP", "SCTP"]
Policy = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as policies see it; every namespace is labelled with its name, as Kubernetes does."""

    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    """Named ports."""
    namespace_more: Mapping[str, str] = field(default_factory=dict)
    """Labels that somebody gave the namespace."""

    @property
    def namespace_labels(self) -> Mapping[str, str]:
        return {"kubernetes.io/metadata.name": self.namespace, **self.namespace_more}


@dataclass(frozen=True, slots=True)
class Address:
    """Something that is no pod."""

    ip: str


def allowed(
    policies: Iterable[Policy],
    source: Pod | Address,
    target: Pod | Address,
    port: int,
    protocol: Protocol = "TCP",
) -> bool:
    """Whether a connection from the source to the target's port is let through."""
    every = list(policies)
    return _passes(every, "Egress", source, target, target, port, protocol) and _passes(
        every, "Ingress", target, source, target, port, protocol
    )


def _passes(  # noqa: PLR0917 - a flow and which end of it is asked
    policies: list[Policy],
    direction: Direction,
    subject: Pod | Address,
    other: Pod | Address,
    target: Pod | Address,
    port: int,
    protocol: Protocol,
) -> bool:
    if isinstance(subject, Address):
        return True
    ours = [policy for policy in policies if _concerns(policy, direction, subject)]
    rules = [rule for policy in ours for rule in policy["spec"].get(direction.lower(), ())]
    peers = "to" if direction == "Egress" else "from"
    return not ours or any(
        _peers(rule.get(peers), other, ours[0]["metadata"]["namespace"])
        and _ports(rule.get("ports"), target, port, protocol)
        for rule in rules
    )


def _concerns(policy: Policy, direction: Direction, pod: Pod) -> bool:
    spec = policy["spec"]
    return (
        policy["metadata"]["namespace"] == pod.namespace
        and direction in spec["policyTypes"]
        and selects(spec["podSelector"], pod.labels)
    )


def _peers(peers: list[Policy] | None, other: Pod | Address, namespace: str) -> bool:
    """Whether one of the peers is meant; none at all are everybody."""
    return not peers or any(_peer(peer, other, namespace) for peer in peers)


def _peer(peer: Policy, other: Pod | Address, namespace: str) -> bool:
    if block := peer.get("ipBlock"):
        return isinstance(other, Address) and (
            ip_address(other.ip) in ip_network(block["cidr"])
            and all(ip_address(other.ip) not in ip_network(out) for out in block.get("except", ()))
        )
    if isinstance(other, Address):
        return False
    in_namespace = (
        selects(peer["namespaceSelector"], other.namespace_labels)
        if "namespaceSelector" in peer
        else other.namespace == namespace
    )
    return in_namespace and selects(peer.get("podSelector", {}), other.labels)


def _ports(
    ports: list[Policy] | None, target: Pod | Address, port: int, protocol: Protocol
) -> bool:
    """Whether one of the ports is meant; none at all are all."""
    if not ports:
        return True
    named = target.ports if isinstance(target, Pod) else {}
    for one in ports:
        if one.get("protocol", "TCP") != protocol:
            continue
        if "port" not in one:
            return True
        # A name that the target doesn't have is no port of it.
        first: int = named.get(one["port"], -1) if isinstance(one["port"], str) else one["port"]
        if first <= port <= one.get("endPort", first):
            return True
    return False


def selects(selector: Policy, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects what has these labels; an empty one selects everything."""
    wanted = selector.get("matchLabels", {})
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _expression(one, labels) for one in selector.get("matchExpressions", ())
    )


def _expression(one: Policy, labels: Mapping[str, str]) -> bool:
    key, values = one["key"], one.get("values", ())
    match one["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"No such operator: {one['operator']}")
