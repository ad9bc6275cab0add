"""The Workspace, KAITO's v1alpha1 and v1beta1 with Kairay's optional fields, and the ConfigMaps beside it.

Rules that need a look-up (a secret, a ConfigMap's content, a preset, a size) or the object's former state are
not here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from kairay.workspace_fields import (
    Flag,
    LabelKey,
    LabelValue,
    NamespaceName,
    ObjectName,
    Problem,
    WorkspaceName,
    Written,
    dig,
)
from kairay.workspace_messages import describe_choice, describe_value
from kairay.workspace_resource import ResourceSpec
from kairay.workspace_work import InferenceSpec, TuningSpec

GROUP = "kaito.sh"
API_VERSIONS = (f"{GROUP}/v1beta1", f"{GROUP}/v1alpha1")
KIND = "Workspace"
CONFIG_MAP = "ConfigMap"

RUNTIME_ANNOTATION = f"{GROUP}/runtime"
ANNOTATION_VALUES = {
    f"{GROUP}/node-image-family": ("azurelinux", "ubuntu"),
    f"{GROUP}/performance-mode": ("balanced", "interactivity", "throughput"),
    f"{GROUP}/use-local-weights": ("true", "false"),
}
"""KAITO's annotations that take one of a few words."""


class Metadata(Written):
    """What a person writes about an object; what only a server writes is read over."""

    server_fields: ClassVar[frozenset[str]] = frozenset({
        "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generation",
        "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid",
    })  # fmt: skip

    name: ObjectName = Field(description="a name")
    namespace: NamespaceName | None = Field(None, description="a namespace")
    labels: dict[LabelKey, LabelValue] = Field({}, description="labels by key")
    annotations: dict[str, str] = Field({}, description="annotations by key")


class WorkspaceMetadata(Metadata):
    """A Workspace's metadata; its name is also that of a Service."""

    name: WorkspaceName = Field(description="a name, such as name: my-model")

    @classmethod
    def problems(cls, written: Mapping[str, Any]) -> Iterator[Problem]:
        """Annotations that take one of a few words."""
        for key, words in ANNOTATION_VALUES.items():
            value = dig(written, "annotations", key)
            if isinstance(value, str) and value not in words:
                yield ("annotations", key), f"give {describe_choice(words)}, found {describe_value(value)}"


class Workspace(Written):
    """One model to serve or to tune."""

    one_of: ClassVar[tuple[str, ...]] = ("inference", "tuning")
    server_fields: ClassVar[frozenset[str]] = frozenset({"status"})

    api_version: Literal["kaito.sh/v1beta1", "kaito.sh/v1alpha1"] = Field(description="kaito.sh/v1beta1")
    kind: Literal["Workspace"] = Field(description="Workspace")
    metadata: WorkspaceMetadata = Field(description="metadata: {name: my-model}")
    resource: ResourceSpec = Field(description="resource: {labelSelector: {matchLabels: {app: my-model}}}")
    inference: InferenceSpec | None = Field(None, description="what to serve")
    tuning: TuningSpec | None = Field(None, description="what to tune")

    @classmethod
    def problems(cls, written: Mapping[str, Any]) -> Iterator[Problem]:
        """A share of a GPU serves only, and vLLM knows no adapter strength."""
        if "tuning" in written and dig(written, "resource", "partition") is not None:
            yield ("resource", "partition"), "leave it out; it is for serving, not for tuning"
        adapters = dig(written, "inference", "adapters")
        if dig(written, "metadata", "annotations", RUNTIME_ANNOTATION) == "vllm" and isinstance(
            adapters, list
        ):
            for index, adapter in enumerate(adapters):
                if dig(adapter, "strength") is not None:
                    location = ("inference", "adapters", index, "strength")
                    yield location, f"leave it out; vLLM has none ({RUNTIME_ANNOTATION}: transformers does)"


class ConfigMap(Written):
    """A ConfigMap beside a Workspace: texts by key."""

    api_version: Literal["v1"] = Field(description="v1")
    kind: Literal["ConfigMap"] = Field(description="ConfigMap")
    metadata: Metadata = Field(description="metadata: {name: my-config}")
    data: dict[str, str] = Field({}, description="texts by key")
    binary_data: dict[str, str] = Field({}, description="base64 by key; not used here")
    immutable: Flag = Field(False, description="true or false")
