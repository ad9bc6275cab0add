"""Where data comes from and where results go: volumes, images, addresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema

from kairay.errors import InputError
from kairay.references import DataUrl
from kairay.workspace_fields import Flag, Image, ObjectName, Problem, Written
from kairay.workspace_messages import describe_value, exactly_one, problem, unknown_field

ALLOWED_HOSTS = "allowed_hosts"
"""Key of the validation context: hosts of the inside that addresses may name."""

_VOLUMES = (
    *(
        "awsElasticBlockStore",
        "azureDisk",
        "azureFile",
        "cephfs",
        "cinder",
        "configMap",
        "csi",
        "downwardAPI",
    ),
    *("emptyDir", "ephemeral", "fc", "flexVolume", "flocker", "gcePersistentDisk", "gitRepo", "glusterfs"),
    *("hostPath", "image", "iscsi", "nfs", "persistentVolumeClaim", "photonPersistentDisk", "portworxVolume"),
    *("projected", "quobyte", "rbd", "scaleIO", "secret", "storageos", "vsphereVolume"),
)
"""Kubernetes' volume sources (core/v1 VolumeSource)."""


def _url(value: object, info: ValidationInfo) -> DataUrl:
    if isinstance(value, DataUrl):
        return value
    if not isinstance(value, str):
        raise problem(f"give an http(s) address, found {describe_value(value)}")
    try:
        return DataUrl.parse(value, allowed_hosts=(info.context or {}).get(ALLOWED_HOSTS, ()))
    except InputError as error:
        raise problem(error.message) from error


Url = Annotated[
    DataUrl, PlainValidator(_url), PlainSerializer(str, return_type=str), WithJsonSchema({"type": "string"})
]


class HostPathVolume(Written):
    """A folder of the machine; `kairay run` takes a relative path from the Workspace file's folder."""

    path: str = Field(description="a folder, such as path: /data")
    type: (
        Literal[
            "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"
        ]
        | None
    ) = Field(None, description="what must be there")


class ClaimVolume(Written):
    """A volume claim of the Workspace's namespace."""

    claim_name: ObjectName = Field(description="the claim's name")
    read_only: Flag = Field(False, description="true to mount it read-only")


class VolumeSource(Written):
    """One of Kubernetes' volumes; those that we do not look into are kept as written, for the pod."""

    model_config = ConfigDict(extra="allow")

    host_path: HostPathVolume | None = Field(None, description="a folder of the machine")
    persistent_volume_claim: ClaimVolume | None = Field(None, description="a volume claim")

    @property
    def kind(self) -> str:
        """Kubernetes' name of the volume, such as hostPath."""
        return next(iter(self.to_dict()))

    @classmethod
    def problems(cls, written: Mapping[str, Any]) -> Iterator[Problem]:
        """Exactly one volume, of a kind that Kubernetes has, with its settings as a mapping."""
        yield from (((key,), unknown_field(key, _VOLUMES)) for key in written if key not in _VOLUMES)
        if len(written) != 1:
            choice = exactly_one(("hostPath", "persistentVolumeClaim", "another volume"), sorted(written))
            yield (), choice
        for key in sorted(written.keys() - cls.field_names().keys()):
            if key in _VOLUMES and not isinstance(written[key], Mapping):
                yield (key,), f"give a mapping of its settings, found {describe_value(written[key])}"


class DataSource(Written):
    """Data from addresses, a volume or an image."""

    one_of: ClassVar[tuple[str, ...]] = ("urls", "volumeSource", "image")

    name: ObjectName | None = Field(None, description="a name for the data")
    urls: tuple[Url, ...] = Field((), description="http(s) addresses; all of them are read")
    volume_source: VolumeSource | None = Field(None, description="a volume that holds the data")
    image: Image | None = Field(None, description="an image that holds the data in its folder data")
    image_pull_secrets: tuple[ObjectName, ...] = Field((), description="secrets to pull the image with")


class AdapterSource(DataSource):
    """An adapter from an image or a volume, served under its name."""

    one_of: ClassVar[tuple[str, ...]] = ("image", "volumeSource")

    name: ObjectName = Field(description="the adapter's name, under which it is served")

    @classmethod
    def problems(cls, written: Mapping[str, Any]) -> Iterator[Problem]:
        """Adapters are not downloaded from addresses."""
        if "urls" in written:
            yield ("urls",), "leave it out; an adapter comes from image or volumeSource"


class DataDestination(Written):
    """Where the adapter goes: an image in a registry, or a volume."""

    one_of: ClassVar[tuple[str, ...]] = ("image", "volumeSource")

    volume_source: VolumeSource | None = Field(None, description="a volume to write to")
    image: Image | None = Field(
        None, description="an image to push, such as contoso.azurecr.io/my-adapter:0.0.1"
    )
    image_push_secret: ObjectName | None = Field(None, description="the secret to push with")

    @classmethod
    def problems(cls, written: Mapping[str, Any]) -> Iterator[Problem]:
        """A push needs its secret."""
        if "image" in written and "imagePushSecret" not in written:
            yield ("imagePushSecret",), "required with image; name the registry secret that may push to it"
