"""What the machine must have: Linux, root, and a few programs that Debian's packages bring."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onebox.commands import run
from onebox.errors import MachineCannotError, OneboxError, Report

_PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "docker-registry": "docker-registry",
}
"""Program → Debian package."""
_CNI = ("/usr/lib/cni/bridge", "/opt/cni/bin/bridge")
_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT = "#!/bin/sh\n# Kairay's one-machine cluster, while it installs packages.\nexit 101\n"
_APT_SECONDS = 900.0


def check_machine() -> None:
    """OneboxError that says what this machine lacks and cannot be installed."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise MachineCannotError(
            f"a cluster of its own needs Linux on x86-64, this is {platform.system()} on {platform.machine()}; "
            "use a Linux machine or virtual machine"
        )
    if os.geteuid() != 0:
        raise MachineCannotError(
            "starting a cluster needs root (network namespaces, mounts, cgroups): run it as root, for instance "
            "`sudo make cluster-up`; `kairay run` needs neither root nor a cluster"
        )


def install(report: Report) -> None:
    """Install what is missing from Debian's packages, starting none of their services."""
    wanted = missing_packages()
    if not wanted:
        return
    if shutil.which("apt-get") is None:
        raise MachineCannotError(
            f"{', '.join(wanted)} (Debian's names) must be installed; this system has no apt-get, "
            "so please install them by its own means"
        )
    report(f"installing {', '.join(wanted)}")
    with _no_services():
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *wanted]):
            run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *command, seconds=_APT_SECONDS)
    if left := missing_packages():
        raise OneboxError(
            f"{', '.join(left)} was installed but its programs are not in PATH; see `dpkg -L {left[0]}`"
        )


def forget_installation() -> None:
    """Remove what an installation that was killed left: the file that keeps services from starting."""
    if _POLICY.exists() and _POLICY.read_text() == _POLICY_TEXT:
        _POLICY.unlink()


def missing_packages() -> list[str]:
    """Debian packages whose programs are not there."""
    path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    wanted = {package for program, package in _PROGRAMS.items() if shutil.which(program, path=path) is None}
    if not any(Path(program).exists() for program in _CNI):
        wanted.add("containernetworking-plugins")
    return sorted(wanted)


@contextmanager
def _no_services() -> Iterator[None]:
    """Debian starts a package's service on installation unless policy-rc.d says no (101)."""
    # One that a killed installation of ours left counts as none.
    ours = not _POLICY.exists() or _POLICY.read_text() == _POLICY_TEXT
    if ours:
        _POLICY.write_text(_POLICY_TEXT)
        _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            _POLICY.unlink(missing_ok=True)
