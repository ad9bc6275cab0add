"""The cluster's programs: built once from the modules under tests/cluster/tools, cached by the hash of those."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from onebox.errors import MachineCannotError, OneboxError, Report
from onebox.layout import TOOL_MODULES
from onebox.locks import exclusive

BUILD_BYTES = 10 * 10**9
"""Room for sources, Go's build cache and the programs (0.7 GB)."""
_KUBERNETES_VERSION = "v1.34.4"
_COMPONENT = "k8s.io/component-base/version"
_STAMP = (
    f"-X {_COMPONENT}.gitVersion={_KUBERNETES_VERSION}"
    f" -X {_COMPONENT}.gitMajor=1 -X {_COMPONENT}.gitMinor=34 -X {_COMPONENT}.gitTreeState=clean"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Programs of one Go module of tests/cluster/tools."""

    module: str
    programs: dict[str, str]
    """Name here → Go package."""
    flags: str = ""
    """Additional linker flags."""
    data: tuple[tuple[str, str], ...] = ()
    """(module path, folder in it) to keep beside the programs."""


def _kubernetes(*names: str) -> dict[str, str]:
    return {name: f"k8s.io/kubernetes/cmd/{name}" for name in names}


_KUBERAY = "github.com/ray-project/kuberay/ray-operator"
NEEDED = (
    Tool(module="pause", programs={"pause": "kairay.dev/tools/pause"}),
    Tool(module="etcd", programs={"etcd": "go.etcd.io/etcd/server/v3"}),
    Tool(
        module="kubernetes",
        programs=_kubernetes(
            "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"
        ),
        flags=_STAMP,
    ),
    Tool(module="kuberay", programs={"ray-operator": _KUBERAY}, data=((_KUBERAY, "config"),)),
    Tool(module="coredns", programs={"coredns": "github.com/coredns/coredns"}),
)
"""Without these no cluster."""
LATER = (
    Tool(module="kubernetes", programs=_kubernetes("kubectl"), flags=_STAMP),
    Tool(module="storage", programs={"local-path-provisioner": "github.com/rancher/local-path-provisioner"}),
    Tool(module="kwok", programs={"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
)
"""Built when the cluster is up already; it uses them from then on."""
HELM = Tool(module="helm", programs={"helm": "helm.sh/helm/v3/cmd/helm"})
"""For the tests of the chart: no part of the cluster, kept in a folder of its own."""


def cache_key(modules: Path = TOOL_MODULES, groups: tuple[tuple[Tool, ...], ...] = (NEEDED, LATER)) -> str:
    """Hash of their go.mod and go.sum and of the table above: what decides the bytes of the programs."""
    digest = hashlib.sha256(repr(groups).encode())
    names = {tool.module for group in groups for tool in group}
    found = (path for pattern in ("*/go.*", "*/*.go") for path in modules.glob(pattern))
    for path in sorted(path for path in found if path.parent.name in names):
        digest.update(path.parent.name.encode() + path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def helm_folder(tools: Path) -> Path:
    """Where helm is once it is built; `tools` is the cache of all."""
    return tools / f"helm-{cache_key(groups=((HELM,),))}"


def missing(folder: Path, tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
    """Those of `tools` that are not built yet."""
    return tuple(tool for tool in tools if any(not (folder / name).exists() for name in tool.programs))


def build(folder: Path, tools: tuple[Tool, ...], log: Path, report: Report) -> None:
    """Build what is missing of `tools` into `folder`; says what and how long it took.

    Raises OneboxError where Go is missing or a build fails (with its last lines).
    """
    todo = missing(folder, tools)
    if not todo:
        return
    _check_go()
    _check_disk(folder)
    folder.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / ".lock", lambda _: report("another build is at work; waiting for it")):
        for tool in missing(folder, todo):
            _build_one(folder, tool, log, report)


def _build_one(folder: Path, tool: Tool, log: Path, report: Report) -> None:
    names = ", ".join(tool.programs)
    report(f"building {names} (once per machine; minutes)")
    began = time.monotonic()
    staging = folder / f".{tool.module}"
    shutil.rmtree(staging, ignore_errors=True)
    command = ["go", "install", "-trimpath", f"-ldflags=-s -w {tool.flags}".rstrip(), *tool.programs.values()]
    environment = {**_go_environment(), "GOBIN": str(staging), "CGO_ENABLED": "0"}
    with log.open("ab") as out:
        code = subprocess.run(
            command, cwd=TOOL_MODULES / tool.module, env=environment, stdout=out, stderr=out, check=False
        ).returncode
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise OneboxError(f"building {names} failed (all of it: {log}):\n{tail}")
    for module, data in tool.data:
        _keep_data(tool, module, data, folder)
    for name, package in tool.programs.items():
        (staging / _binary_name(package)).replace(folder / name)
    shutil.rmtree(staging)
    report(f"built {names} in {time.monotonic() - began:.0f} s")


def _keep_data(tool: Tool, module: str, data: str, folder: Path) -> None:
    """Copy a folder of the module's source, so that the module cache may go."""
    described = subprocess.run(
        ["go", "list", "-m", "-json", module],
        cwd=TOOL_MODULES / tool.module, env=_go_environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if described.returncode != 0:
        raise OneboxError(f"the source of {module} cannot be found: {described.stderr.strip()}; try again")
    target = folder / tool.module
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(Path(json.loads(described.stdout)["Dir"]) / data, target)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _go_environment() -> dict[str, str]:
    """The lock files decide, whatever workspace or flags the user has set."""
    return {**os.environ, "GOWORK": "off", "GOFLAGS": "-mod=readonly -buildvcs=false"}


def _binary_name(package: str) -> str:
    """Go names a program after the last element of its path that is not a major version."""
    parts = package.split("/")
    return parts[-2] if parts[-1].startswith("v") and parts[-1][1:].isdigit() else parts[-1]


def _check_go() -> None:
    if shutil.which("go") is None:
        raise MachineCannotError(
            "the Go compiler is missing: Kubernetes is built from its published modules. "
            "Install Go 1.26 or newer (https://go.dev/dl) so that `go version` answers, then try again"
        )


def _check_disk(folder: Path) -> None:
    """Go's caches are by far the largest part; `go clean -cache -modcache` gives their room back afterwards."""
    parent = next(place for place in folder.parents if place.exists())
    free = shutil.disk_usage(parent).free
    if free < BUILD_BYTES:
        raise OneboxError(
            f"building the cluster's programs takes about {BUILD_BYTES // 10**9} GB of disk, {parent} has "
            f"{free / 10**9:.1f} GB free; make room, then try again"
        )
