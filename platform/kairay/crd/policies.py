"""ValidatingAdmissionPolicies: what CEL in the CRD cannot see (annotations) and what needs our tables.

Written once for v1beta1 with matchPolicy Equivalent. They act when what a person writes has changed and nothing is
being deleted, so that status writes and old objects pass. The tables are ConfigMaps; where one is missing or empty the
policy allows, and the controller's own look says so in status. failurePolicy is Fail: there is no server to be down, so
an error can only be one of an expression, and those are tested.
"""

from __future__ import annotations

import re
from typing import Any, Final

from kairay.plan_replica import MAX_NODES
from kairay.presets import load_deprecated, load_presets
from kairay.skus import load_skus
from kairay.workspace_object import ANNOTATION_VALUES, RUNTIME_ANNOTATION

Manifest = dict[str, Any]

SYSTEM: Final = "kairay-system"
PRESETS, SIZES, MEMORY = "kairay-presets", "kairay-sizes", "kairay-memory"
_MIB = 2**20
_CHANGED: Final = (
    "!has(object.metadata.deletionTimestamp) && (oldObject == null || object.resource != oldObject.resource ||"
    " has(object.inference) && object.?inference != oldObject.?inference || has(object.tuning) &&"
    " object.?tuning != oldObject.?tuning || object.metadata.?annotations != oldObject.metadata.?annotations)"
)
_VARIABLES: Final = {
    "preset": "object.?inference.?preset.?name.orValue(object.?tuning.?preset.?name.orValue(''))",
    "urls": "object.?tuning.?input.?urls.orValue([])",
    # What is no address at all is the CRD's to refuse.
    "hosts": "variables.urls.filter(u, isURL(u)).map(u,"
    " url(u).getHostname().lowerAscii().replace('[', '').replace(']', ''))",
}
"""Computed only where a rule names them."""
_ALIKE: Final = 4
"""First letters that a name has in common with those that are near it."""


def policies() -> list[Manifest]:
    """Policies, their bindings and the tables that they look at."""
    documents = [
        _table(PRESETS, _preset_table()),
        _table(SIZES, {name.lower(): "" for name in sorted(load_skus())}),
        _table(MEMORY, _memory_table()),
    ]
    for name, table, validations in (
        ("kairay-annotations", None, _annotation_rules()),
        ("kairay-addresses", None, _address_rules()),
        ("kairay-presets", PRESETS, [_preset_rule()]),
        ("kairay-sizes", SIZES, [_size_rule()]),
        ("kairay-memory", MEMORY, [_memory_rule()]),
    ):
        variables = _VARIABLES | (_near_presets() if name == PRESETS else {})
        documents += [_policy(name, validations, table=table, variables=variables), _binding(name, table)]
    return documents


def _annotation_rules() -> list[Manifest]:
    rules = [
        {
            "expression": f"!has(object.metadata.annotations) || !('{key}' in object.metadata.annotations) ||"
            f" object.metadata.annotations['{key}'] in {list(words)}",
            "message": f"metadata.annotations[{key}]: give {' or '.join(words)}",
        }
        for key, words in ANNOTATION_VALUES.items()
    ]
    rules.append({
        "expression": "!has(object.metadata.annotations) ||"
        f" !('{RUNTIME_ANNOTATION}' in object.metadata.annotations) ||"
        f" object.metadata.annotations['{RUNTIME_ANNOTATION}'] != 'vllm' || !has(object.inference) ||"
        " !has(object.inference.adapters) || object.inference.adapters.all(a, !has(a.strength) || a.strength == '')",
        "message": "inference.adapters: leave strength out; vLLM has none"
        f" ({RUNTIME_ANNOTATION}: transformers does)",
    })  # fmt: skip
    return rules


def _address_rules() -> list[Manifest]:
    """Too costly for a CRD's budget. The job looks again at what a name leads to, on every redirect."""
    return [
        {
            "expression": "variables.urls.all(u, !u.matches('^[^/]*//[^/?#]*@'))",
            "message": "tuning.input.urls: an address carries no user or password; put data that needs them into a"
            " volume or an image",
        },
        {
            "expression": f"variables.hosts.all(h, isIP(h) ? {_public_ip('h')} : {_outside_name('h')})",
            "message": "tuning.input.urls: an address leads to this machine, a metadata service or a private network;"
            " put the data where it is reachable, into a volume or an image",
        },
    ]


def _public_ip(host: str) -> str:
    """What `kairay.hosts` takes for the outside; of IPv6, global unicast that carries no IPv4 address."""
    inside_4 = (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/3",
    )  # fmt: skip
    inside_6 = ("2001::/23", "2001:db8::/32", "2002::/16")
    return (
        f"(ip({host}).family() == 4 ? !{list(inside_4)}.exists(c, cidr(c).containsIP({host})) :"
        f" cidr('2000::/3').containsIP({host}) && !{list(inside_6)}.exists(c, cidr(c).containsIP({host})))"
    )


def _outside_name(host: str) -> str:
    """No name of the inside, and no number that only the C library takes for an address (2130706433, 0x7f.1)."""
    names = (
        "(metadata([.]google[.]internal|[.]goog)?|instance-data|localhost[.]localdomain|([^.]+[.])*localhost)"
    )
    number = "([^.]*[.])*(0x[0-9a-f]*|[0-9]+)"
    return f"{host} != '' && !{host}.contains(':') && !{host}.matches('^({names}|{number})[.]?$')"


def _preset_rule() -> Manifest:
    name, key = "variables.preset", "variables.preset.lowerAscii()"
    return {
        "expression": f"{name} == '' || {name}.contains('/') || !has(params.data) || {key} in params.data &&"
        f" params.data[{key}] == ''",
        "messageExpression": f"{key} in params.data ? 'preset.name: ' + params.data[{key}] :"
        f" 'preset.name: there is no preset ' + {name} + '; ' + (variables.near.size() > 0 ? 'near it: ' +"
        f" variables.near.join(', ') : 'there are: {_families()}') +"
        " '; `kairay presets` lists them, an org/model id of the hub is taken as well'",
        "message": "preset.name: there is no such preset; `kairay presets` lists them",
    }


def _near_presets() -> dict[str, str]:
    """Names that begin as the one that was asked for, in their order: a ConfigMap's keys have none."""
    names, asked = sorted(name for name, gone in _preset_table().items() if not gone), "variables.preset"
    start = f"{asked}.lowerAscii().substring(0, {asked}.size() < {_ALIKE} ? {asked}.size() : {_ALIKE})"
    living = "k in params.data && params.data[k] == ''"
    return {"near": f"has(params.data) ? {names}.filter(k, k.startsWith({start}) && {living}) : []"}


def _families() -> str:
    """The beginnings of all names, up to the first digit or dash."""
    words = {re.split(r"[-0-9]", name)[0] for name, gone in _preset_table().items() if not gone}
    return ", ".join(f"{word}…" for word in sorted(words))


def _size_rule() -> Manifest:
    size = "object.resource.instanceType"
    return {
        "expression": f"!has({size}) || {size} == '' || !has(params.data) || {size}.lowerAscii() in params.data ||"
        f" {size}.matches('^[Ss]tandard_[NnDd]')",
        "messageExpression": f"'resource.instanceType: ' + {size} + ' is no machine size that Kairay knows; leave it"
        " out to have one chosen, or give one such as Standard_NC24ads_A100_v4'",
        "message": "resource.instanceType: no machine size that Kairay knows",
    }


def _memory_rule() -> Manifest:
    """A service whose weights alone are more than all GPUs of as many machines as a replica may have.

    All else about memory is a condition. A config may load the weights in another format, so that nothing is said
    where there is one.
    """
    size = "object.?resource.?instanceType.orValue('').lowerAscii()"
    weights, room = (
        f"int(params.data['{kind}.' + {name}])"
        for kind, name in (("weights", "variables.preset.lowerAscii()"), ("gpus", size))
    )
    return {
        "expression": f"!has(params.data) || !has(object.inference) || object.?inference.?config.orValue('') != '' ||"
        f" !('weights.' + variables.preset.lowerAscii() in params.data) || !('gpus.' + {size} in params.data) ||"
        f" {weights} <= {MAX_NODES} * {room}",
        "messageExpression": f"'resource.instanceType: the weights of ' + variables.preset + ' are ' + string({weights}"
        f" / 1024) + ' GiB; {MAX_NODES} machines of ' + object.resource.instanceType + ', as many as a replica may"
        f" have, hold ' + string({MAX_NODES} * {room} / 1024) + ' GiB; leave it out to have one chosen (kairay plan)'",
        "message": "resource.instanceType: too small for the weights of this preset; leave it out to have one chosen",
    }


def _policy(
    name: str, validations: list[Manifest], *, table: str | None, variables: dict[str, str]
) -> Manifest:
    spec: Manifest = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "resourceRules": [{
                "apiGroups": ["kaito.sh"], "apiVersions": ["v1beta1"], "operations": ["CREATE", "UPDATE"],
                "resources": ["workspaces"],
            }],
        },
        "matchConditions": [{"name": "written-anew", "expression": _CHANGED}],
        "variables": [{"name": name, "expression": expression} for name, expression in variables.items()],
        "validations": validations,
    }  # fmt: skip
    if table is not None:
        spec["paramKind"] = {"apiVersion": "v1", "kind": "ConfigMap"}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def _binding(name: str, table: str | None) -> Manifest:
    spec: Manifest = {"policyName": name, "validationActions": ["Deny"]}
    if table is not None:
        spec["paramRef"] = {"name": table, "namespace": SYSTEM, "parameterNotFoundAction": "Allow"}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": spec,
    }


def _table(name: str, data: dict[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": SYSTEM},
        "data": data,
    }


def _memory_table() -> dict[str, str]:
    """MiB of the published weights by preset, and of all GPUs of one machine by size, where both are known."""
    table = {
        f"gpus.{sku.name.lower()}": str(sku.gpus * sku.bytes_per_gpu // _MIB)
        for sku in load_skus().values()
        if sku.gpus and sku.bytes_per_gpu
    }
    for preset in load_presets().values():
        for name in (preset.name, *preset.aliases):
            table[f"weights.{name.lower()}"] = str(preset.model.weight_bytes // _MIB)
    return dict(sorted(table.items()))


def _preset_table() -> dict[str, str]:
    """Names that may be asked for, and, with a sentence for a value, those that no longer may."""
    names = {name.lower() for preset in load_presets().values() for name in (preset.name, *preset.aliases)}
    gone = {name: str(deprecated) for name, deprecated in load_deprecated().items()}
    return dict(sorted({**dict.fromkeys(names, ""), **gone}.items()))
