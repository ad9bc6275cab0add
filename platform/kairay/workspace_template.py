"""What Kairay reads of a pod template: labels, node selector, ports of containers. The rest Kubernetes checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kairay.workspace_fields import Location, Problem, dig
from kairay.workspace_messages import describe_value

_CONTAINERS: Final = ("spec", "containers")
_MAPPINGS: Final = (("metadata",), ("metadata", "labels"), ("spec",), ("spec", "nodeSelector"))


def template_problems(template: object) -> Iterator[Problem]:
    """Faults of a PodTemplateSpec, each with where it is in it. What is null is not given."""
    for place in _MAPPINGS:
        if (value := dig(template, *place)) is not None:
            yield from _unless(isinstance(value, Mapping), place, "a mapping", value)
    if (containers := dig(template, *_CONTAINERS)) is not None:
        yield from _container_problems(containers)


def _container_problems(containers: object) -> Iterator[Problem]:
    yield from _unless(isinstance(containers, list), _CONTAINERS, "a list", containers)
    for place, container in _items(containers, _CONTAINERS):
        yield from _unless(isinstance(container, Mapping), place, "a mapping", container)
        if (ports := dig(container, "ports")) is not None:
            yield from _unless(isinstance(ports, list), (*place, "ports"), "a list", ports)
        for port_place, port in _items(ports, (*place, "ports")):
            number = dig(port, "containerPort")
            is_port = isinstance(number, int) and 0 < number < 2**16
            yield from _unless(is_port, (*port_place, "containerPort"), "a port from 1 to 65535", number)


def _items(value: object, place: Location) -> Iterator[tuple[Location, Any]]:
    """Of a list, each with where it is; of something else none."""
    for index, item in enumerate(value if isinstance(value, list) else ()):
        yield (*place, index), item


def _unless(holds: bool, place: Location, wanted: str, value: object) -> Iterator[Problem]:
    if not holds:
        yield place, f"give {wanted}, found {describe_value(value)}"
