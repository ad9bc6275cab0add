"""Take everything down, from whatever state: a running cluster, a start that was killed, half a stop."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from onebox import network, node, runtime
from onebox.errors import OneboxError, Report
from onebox.layout import HOST_LINK, NAME, Layout
from onebox.processes import container_pids, kill_all, parts


def stop(layout: Layout, report: Report) -> None:
    """End the parts, remove namespaces, links, cgroups and state; put kernel settings back. Logs stay.

    Raises OneboxError that names what is left, where something could not be removed.
    """
    kill_all()
    report("processes ended")
    network.remove()
    _remove_cgroups()
    node.restore_settings(layout)
    runtime.remove_covered_folders(layout)
    _remove_state(layout)
    layout.holder.unlink(missing_ok=True)
    if left := leftovers(layout):
        raise OneboxError(f"could not remove: {'; '.join(left)}; see {layout.logs}")
    report("namespaces, links, cgroups and state removed")


def leftovers(layout: Layout) -> list[str]:
    """What of ours is on this machine, in words; empty when there is nothing."""
    found = [f"process {part.name} ({part.pid})" for part in parts()]
    found += [f"process {pid} of a container" for pid in container_pids()]
    found += [f"mount {mount}" for mount in runtime.mounts() if Path(mount).is_relative_to(layout.root)]
    if network.NAMESPACE.exists():
        found.append(f"network namespace {NAME}")
    if Path("/sys/class/net", HOST_LINK).exists():
        found.append(f"network link {HOST_LINK}")
    found += [f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"**/{NAME}") if path.is_dir()]
    if layout.state.exists():
        found.append(f"folder {layout.state}")
    return found


def _remove_cgroups() -> None:
    """The kernel needs a moment between a cgroup's last process and its removal."""
    deadline = time.monotonic() + 5
    while True:
        try:
            node.remove_cgroups()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _remove_state(layout: Layout) -> None:
    """Mounts below it went with the private namespace; the kernel takes them down shortly after its last process."""
    deadline = time.monotonic() + 10
    while layout.state.exists():
        shutil.rmtree(layout.state, ignore_errors=time.monotonic() < deadline)
        time.sleep(0.05)
