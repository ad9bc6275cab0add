"""The node's network namespace and the pair of links between it and the host.

Bridge, pod links, iptables rules, forwarding and loopback ports are private to the namespace and go with it. The host
gets one link and two routes: pods and Services answer from the host, nothing leaves the cluster.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

from onebox.commands import run, succeeds
from onebox.errors import MachineCannotError, OneboxError
from onebox.layout import (
    HOST_IP,
    HOST_LINK,
    LINK_NET,
    NAME,
    NODE_IP,
    NODE_LINK,
    POD_CIDR,
    SERVICE_CIDR,
)

NAMESPACE = Path("/run/netns") / NAME
_PREFIX = LINK_NET.partition("/")[2]


def create() -> None:
    """Make namespace, links and routes; OneboxError where one of our address ranges is in use."""
    refuse_taken_ranges()
    if not Path("/proc/sys/net/bridge").exists() and not succeeds(["modprobe", "br_netfilter"]):
        raise MachineCannotError(
            "the kernel module br_netfilter is missing: `modprobe br_netfilter` must succeed, then try again"
        )
    run("ip", "netns", "add", NAME)
    run("ip", "link", "add", HOST_LINK, "type", "veth", "peer", "name", NODE_LINK, "netns", NAME)
    run("ip", "addr", "add", f"{HOST_IP}/{_PREFIX}", "dev", HOST_LINK)
    run("ip", "link", "set", HOST_LINK, "up")
    inside = ["ip", "-n", NAME]
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "addr", "add", f"{NODE_IP}/{_PREFIX}", "dev", NODE_LINK)
    run(*inside, "link", "set", NODE_LINK, "up")
    for cidr in (POD_CIDR, SERVICE_CIDR):
        run("ip", "route", "add", cidr, "via", NODE_IP)
    # A route must exist before the OUTPUT chain rewrites a Service's address.
    run(*inside, "route", "add", SERVICE_CIDR, "via", HOST_IP)
    # Nothing leaves: an attempt fails at once and does not hang.
    run(*inside, "route", "add", "unreachable", "default", "metric", "4000")
    settings = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables"
    run("nsenter", f"--net={NAMESPACE}", "sh", "-ec", settings)


def remove() -> None:
    """Undo `create`, also where only half of it happened."""
    # The link first: deleting the namespace takes it along only some time later.
    if Path("/sys/class/net", HOST_LINK).exists():
        run("ip", "link", "del", HOST_LINK)
    if NAMESPACE.exists():
        run("ip", "netns", "del", NAME)


def refuse_taken_ranges() -> None:
    """OneboxError when the host already routes one of our ranges elsewhere."""
    ours = [ipaddress.ip_network(cidr) for cidr in (LINK_NET, POD_CIDR, SERVICE_CIDR)]
    for route in json.loads(run("ip", "-j", "route", "show", "table", "all")):
        target = route["dst"]
        if target in ("default", "local") or ":" in target or route.get("dev") in (HOST_LINK, "lo"):
            continue
        taken = ipaddress.ip_network(target, strict=False)
        for network in ours:
            if taken.version == 4 and network.overlaps(taken):
                raise OneboxError(
                    f"this machine already routes {target} (dev {route.get('dev', '?')}), which overlaps the cluster's "
                    f"{network}; a VPN or another container tool uses it: stop that, then try again"
                )
