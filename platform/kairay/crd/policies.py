"""ValidatingAdmissionPolicies: what CEL in the CRD cannot see (annotations) and what needs our tables.

Written once for v1beta1 with matchPolicy Equivalent. They act when what a person writes has changed and nothing is
being deleted, so that status writes and old objects pass. The tables are ConfigMaps; where one is missing the policy allows,
and the controller's own look says so in status.
"""

from __future__ import annotations

from typing import Any, Final

from kairay.presets import load_presets
from kairay.skus import load_skus
from kairay.workspace_object import ANNOTATION_VALUES, RUNTIME_ANNOTATION

Manifest = dict[str, Any]

SYSTEM: Final = "kairay-system"
PRESETS, SIZES = "kairay-presets", "kairay-sizes"
_CHANGED: Final = (
    "!has(object.metadata.deletionTimestamp) && (oldObject == null || object.resource != oldObject.resource ||"
    " has(object.inference) && object.?inference != oldObject.?inference || has(object.tuning) &&"
    " object.?tuning != oldObject.?tuning || object.metadata.?annotations != oldObject.metadata.?annotations)"
)


def policies() -> list[Manifest]:
    """Policies, their bindings and the tables that they look at."""
    documents = [
        _table(PRESETS, {name.lower(): "" for name in _preset_names()}),
        _table(SIZES, {name.lower(): "" for name in sorted(load_skus())}),
    ]
    for name, table, validations in (
        ("kairay-annotations", None, _annotation_rules()),
        ("kairay-addresses", None, [_address_rule()]),
        ("kairay-presets", PRESETS, [_preset_rule()]),
        ("kairay-sizes", SIZES, [_size_rule()]),
    ):
        documents += [_policy(name, validations, table=table), _binding(name, table)]
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
        " !has(object.inference.adapters) || object.inference.adapters.all(a, !has(a.strength))",
        "message": "inference.adapters: leave strength out; vLLM has none"
        f" ({RUNTIME_ANNOTATION}: transformers does)",
    })  # fmt: skip
    return rules


def _address_rule() -> Manifest:
    """Too costly for a CRD's budget. The job looks again at what a name leads to, on every redirect."""
    host = "url(u).getHostname()"
    bare = f"{host}.replace('[', '').replace(']', '')"
    private = "['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7']"
    inside = (
        f"(ip({bare}).isLoopback() || ip({bare}).isUnspecified() || ip({bare}).isLinkLocalUnicast() ||"
        f" {private}.exists(c, cidr(c).containsIP({bare})))"
    )
    return {
        "expression": "!has(object.tuning) || !has(object.tuning.input.urls) || object.tuning.input.urls.all(u,"
        f" !isURL(u) || ({host} != 'localhost' && (!isIP({bare}) || !{inside})))",
        "message": "tuning.input.urls: an address leads to this machine or a private network; put the data where it is"
        " reachable, into a volume or an image",
    }


def _preset_rule() -> Manifest:
    name = "variables.preset"
    return {
        "expression": f"{name} == '' || {name}.contains('/') || {name}.lowerAscii() in params.data",
        "messageExpression": f"'preset.name: there is no preset ' + {name} + '; kairay presets lists them, and an"
        " org/model id of the hub is taken as well'",
        "message": "preset.name: there is no such preset; `kairay presets` lists them",
    }


def _size_rule() -> Manifest:
    size = "object.resource.instanceType"
    return {
        "expression": f"!has({size}) || {size} == '' || {size}.lowerAscii() in params.data ||"
        f" {size}.matches('^[Ss]tandard_[NnDd]')",
        "messageExpression": f"'resource.instanceType: ' + {size} + ' is no size of Azure that Kairay knows; leave it"
        " out to have one chosen, or give one such as Standard_NC24ads_A100_v4'",
        "message": "resource.instanceType: no size of Azure that Kairay knows",
    }


def _policy(name: str, validations: list[Manifest], *, table: str | None) -> Manifest:
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
        "variables": [{
            "name": "preset",
            "expression": "object.?inference.?preset.?name.orValue(object.?tuning.?preset.?name.orValue(''))",
        }],
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


def _preset_names() -> list[str]:
    return sorted({name for preset in load_presets().values() for name in (preset.name, *preset.aliases)})
