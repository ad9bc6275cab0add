"""Whether AKS can bring nodes: login, rights by name, room for pools, quota by family. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from kairay.cluster.findings import Finding, Unseen, missing, ok, unseen, warning
from kairay.cluster.observed import AzureSeen, Need, Observed
from kairay.kube.objects import Manifest
from kairay.nodes.aks_quota import Market, Usage, quota_of
from kairay.nodes.interface import Offer
from kairay.skus import Sku, load_skus

_IDENTITY: Final = "azure.workload.identity/client-id"
_USE: Final = "azure.workload.identity/use"
_OTHER_LOGINS: Final = ("AZURE_CLIENT_ID", "AZURE_TOKEN_CREDENTIALS")
_POOLS: Final = 100
"""Of a cluster, where it does not say itself."""
_FEW: Final = 5
_ASK: Final = "ask for more under Quotas > Compute in the Azure portal"
_ASK_AS_CONTROLLER: Final = (
    "whether the controller's identity may, it says itself: kubectl -n kairay-system exec deployment/kairay-controller "
    "-- kairay doctor"
)
_UNTRIED: Final = "that pools may be written and deleted shows only when they are (docs/aks.md has the role)"


def check_azure(seen: Observed) -> Iterator[Finding]:
    """Nothing where AKS brings no nodes."""
    azure = seen.azure
    if azure is None:
        return
    if isinstance(azure, Unseen):
        yield missing("Azure", azure.why)
        return
    if not azure.settings.plain:
        yield _identity(seen)
    if isinstance(azure.login, Unseen):
        yield _refused("Azure login", azure, azure.login)
        return
    yield ok("Azure login", azure.login)
    yield from _cluster(azure)
    yield from _pools(azure)
    yield from _quota(azure)


def check_offers(need: Need, azure: AzureSeen, name: str) -> Iterator[Finding]:
    """Whether one of a Workspace's sizes can be had now."""
    skus, refused, unknown = load_skus(), [], []
    for offer in need.offers:
        quota = quota_of(offer, azure.market, skus)
        if quota is None:
            unknown.append(str(offer))
        elif quota.restriction:
            refused.append(f"{offer}: not offered to this subscription here ({quota.restriction})")
        elif quota.nodes < need.nodes:
            more = need.nodes * quota.per_node
            refused.append(f"{offer}: {quota.name}: {quota.used} of {quota.limit} used, {more} more needed")
        else:
            left = quota.limit - quota.used
            yield ok(name, f"{need.nodes} × {offer} fits the quota {quota.name} ({left} vCPUs left)")
            return
    if unknown:
        yield warning(name, f"the quota of {', '.join(unknown)} is not known; the create call is the judge")
    elif refused:
        yield missing(name, f"no size can be had: {'; '.join(refused)}; {_ASK}")


def _identity(seen: Observed) -> Finding:
    """Only what the cluster shows of it: whether Entra knows the federated credential, it does not."""
    name = "workload identity"
    if any(seen.settings.get(each) for each in _OTHER_LOGINS):
        return ok(name, "another login is set in the controller's variables (AZURE_...)")
    if isinstance(seen.account, Unseen):
        return unseen(name, seen.account)
    if seen.controller is None or seen.account is None:
        return warning(name, "the controller is not installed yet")
    client = (seen.account["metadata"].get("annotations") or {}).get(_IDENTITY)
    template = (seen.controller.get("spec") or {}).get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    where = f"{seen.namespace}/{seen.account['metadata']['name']}"
    lacking = []
    if not client:
        lacking.append(f"ServiceAccount {where} has no annotation {_IDENTITY}")
    if labels.get(_USE) != "true":
        lacking.append(f'pods of Deployment {where} have no label {_USE}: "true"')
    if lacking:
        return missing(name, f"{' and '.join(lacking)}; see step 4 of docs/aks.md")
    return ok(name, f"ServiceAccount {where} is client {client}")


def _refused(name: str, azure: AzureSeen, found: Unseen) -> Finding:
    """What a person may not see the controller may still do; only its own identity can tell."""
    if azure.in_pod or not found.denied:
        return missing(name, found.why)
    return warning(name, f"not seen with your own login: {found.why}; {_ASK_AS_CONTROLLER}")


def _cluster(azure: AzureSeen) -> Iterator[Finding]:
    name, cluster = "AKS cluster", azure.cluster
    if isinstance(cluster, Unseen):
        yield _refused(name, azure, cluster)
        return
    properties, region = _properties(cluster), str(cluster.get("location") or "")
    power = (properties.get("powerState") or {}).get("code", "Running")
    if power != "Running":
        yield missing(name, f"{azure.settings.cluster} is {power}; start it with az aks start")
        return
    yield ok(name, f"{azure.settings.cluster} in {region}; {_UNTRIED}")
    if azure.settings.location and azure.settings.location.casefold() != region.casefold():
        yield warning(
            "region",
            f"KAIRAY_AKS_LOCATION={azure.settings.location}, the cluster is in {region}; quota is looked up in the "
            "former, nodes come in the latter",
        )
    if (properties.get("nodeProvisioningProfile") or {}).get("mode") == "Auto":
        yield warning(
            "node auto-provisioning",
            "is on: it also brings nodes for pods that wait. Kairay's pods ask for Kairay's own pools, so both work; "
            "KAIRAY_NODES_PROVIDER=karpenter uses it instead",
        )


def _pools(azure: AzureSeen) -> Iterator[Finding]:
    name, pools = "node pools", azure.pools
    if isinstance(pools, Unseen):
        if not isinstance(azure.cluster, Unseen) or pools.why != azure.cluster.why:
            yield _refused(name, azure, pools)
        return
    limit = _POOLS
    if not isinstance(azure.cluster, Unseen):
        limit = int(_properties(azure.cluster).get("maxAgentPools") or _POOLS)
    left = limit - len(pools)
    if left <= 0:
        yield missing(name, f"{len(pools)} of {limit} are used; delete some, each size needs one of its own")
    else:
        sentence = f"{len(pools)} of {limit} are used"
        yield ok(name, sentence) if left >= _FEW else warning(name, f"{sentence}, {left} left")
    if not any(_properties(each).get("mode") == "System" for each in pools):
        yield missing(
            "system pool", "there is none; Ray heads, KubeRay and the controller have no place: add one"
        )


def _quota(azure: AzureSeen) -> Iterator[Finding]:
    """One finding for the families that have room for a machine, and one when there is none."""
    name = "GPU quota"
    if azure.usages is not None:
        yield warning(name, f"not seen, so the create call is the judge: {azure.usages.why}")
        return
    families = dict(_families(azure.market, load_skus().values()))
    if not families:
        yield warning(name, "the region lists no quota of a GPU size that Kairay knows")
        return
    rooms = [_room(usage, sku, azure.market) for usage, sku in families.values()]
    room = [each for each in rooms if each]
    if room:
        yield ok(name, "; ".join(room))
    else:
        used = "; ".join(f"{usage.name} {usage.used} of {usage.limit}" for usage, _ in families.values())
        yield missing(name, f"no family of GPU sizes has room for one machine on demand ({used}); {_ASK}")


def _families(market: Market, skus: Iterable[Sku]) -> Iterator[tuple[str, tuple[Usage, Sku]]]:
    """By family: its counter, and the smallest size of it that can be had."""
    found: dict[str, Sku] = {}
    for sku in skus:
        listed = market.sizes.get(sku.name.casefold())
        if (
            sku.retired_on is not None
            or not sku.gpus
            or not sku.quota_family
            or (listed and listed.restriction)
        ):
            continue
        family = sku.quota_family.casefold()
        if family in market.usages and (family not in found or sku.cores < found[family].cores):
            found[family] = sku
    for family in sorted(found):
        yield family, (market.usages[family], found[family])


def _room(usage: Usage, sku: Sku, market: Market) -> str:
    """Empty: not for one machine."""
    quota = quota_of(Offer(instance_type=sku.name), market, {sku.name: sku})
    if quota is None or not quota.nodes:
        return ""
    return f"{usage.name}: {usage.limit - usage.used} of {usage.limit} left ({quota.nodes} × {sku.name})"


def _properties(body: Manifest | Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = body.get("properties") or {}
    return found
