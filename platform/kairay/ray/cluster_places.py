"""Where a Workspace's volumes, images and secrets appear inside its Ray pods, and what jobs and services are told.

The counterpart of `kairay.local.places`. Data, output and the push secret are the head's: the driver checks the data
before a GPU is asked for and pushes after it was given back. Workers see weights and checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

from kairay.errors import InputError
from kairay.objects.configmap import TUNE_FILE
from kairay.objects.metadata import Manifest
from kairay.ray.pods import ROOT, Mount, PodParts
from kairay.ray.target import JobPlaces, ServedAdapter
from kairay.registry.reference import ArtifactReference, RemoteReference
from kairay.workspace import PresetRef, VolumeSource, Workspace

CONFIG = f"{ROOT}/config"
STORAGE = f"{ROOT}/run"
OUTPUT = f"{ROOT}/output"
_LOGINS = f"{ROOT}/logins"
_FETCH = ("python", "-m", "kairay.registry.fetch")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """What the operator of the cluster decides for all pods."""

    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningPods:
    """A tuning job's paths, and the parts of its two kinds of pod."""

    job: JobPlaces
    head: PodParts
    worker: PodParts


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPods:
    """A service's adapters, and the parts of its two kinds of pod."""

    adapters: tuple[ServedAdapter, ...]
    head: PodParts
    worker: PodParts


def tuning_pods(
    workspace: Workspace, *, config_map: str, claim: str | None, settings: PodSettings
) -> TuningPods:
    """`claim` None: checkpoints last as long as the worker's pod. InputError for what no cluster can do."""
    tuning = workspace.tuning
    assert tuning is not None
    mounts = [Mount(name="config", path=CONFIG, volume={"configMap": {"name": config_map}})]
    prepare: tuple[tuple[str, tuple[str, ...]], ...] = ()
    data = tuple(str(url) for url in tuning.input.urls)
    if tuning.input.volume_source is not None:
        path = f"{ROOT}/input"
        mounts.append(
            Mount(name="input", path=path, volume=_volume(tuning.input.volume_source, "tuning.input"))
        )
        data = (path,)
    if tuning.input.image is not None:
        path = f"{ROOT}/data"
        prepare = (("data", (*_FETCH, "data", str(tuning.input.image), path)),)
        data = (path,)
    if tuning.output.volume_source is not None:
        volume = _volume(tuning.output.volume_source, "tuning.output")
        mounts.append(Mount(name="output", path=OUTPUT, volume=volume, read_only=False))
    secrets = [*tuning.input.image_pull_secrets, tuning.output.image_push_secret]
    logins, environment = _logins([*secrets, *tuning.preset.options.image_pull_secrets], settings)
    hub = _hub_token(tuning.preset)
    storage: Manifest = {"emptyDir": {}} if claim is None else {"persistentVolumeClaim": {"claimName": claim}}
    run = Mount(name="run", path=STORAGE, volume=storage, read_only=False)
    return TuningPods(
        job=JobPlaces(config=f"{CONFIG}/{TUNE_FILE}", data=data, output=_new_output(workspace), storage=STORAGE),
        head=PodParts(
            environment=environment, secret_environment=hub, mounts=(*mounts, *logins), prepare=prepare
        ),
        worker=PodParts(
            environment=environment, secret_environment=hub, mounts=(run, *logins),
            prepare=_weights(tuning.preset),
        ),
    )  # fmt: skip


def serving_pods(
    workspace: Workspace, *, tuned: str | None, settings: PodSettings, keys: Mount | None = None
) -> ServingPods:
    """`tuned` is the reference of the adapter that the Workspace itself has tuned."""
    mounts: list[Mount] = [] if keys is None else [keys]
    if workspace.tuning is not None:
        preset, secrets = workspace.tuning.preset, [workspace.tuning.output.image_push_secret]
        own = [] if tuned is None else [ServedAdapter(name=workspace.metadata.name, source=tuned)]
        adapters = tuple(own)
        if (volume := workspace.tuning.output.volume_source) is not None:
            mounts.append(Mount(name="output", path=OUTPUT, volume=_volume(volume, "tuning.output")))
    else:
        inference = workspace.inference
        assert inference is not None
        assert inference.preset is not None
        preset = inference.preset
        adapters, more = _adapters(workspace)
        mounts += more
        secrets = [name for adapter in inference.adapters for name in adapter.source.image_pull_secrets]
    logins, environment = _logins([*secrets, *preset.options.image_pull_secrets], settings)
    parts = PodParts(
        environment=environment,
        secret_environment=_hub_token(preset),
        mounts=(*mounts, *logins),
        prepare=_weights(preset),
    )
    return ServingPods(adapters=adapters, head=PodParts(environment=environment), worker=parts)


def adapter_output(workspace: Workspace) -> str:
    """The reference that the tuned adapter is written to, as pods see it."""
    assert workspace.tuning is not None
    output = workspace.tuning.output
    if output.volume_source is not None:
        return volume_output(workspace.metadata.name)
    return str(ArtifactReference.parse(str(output.image)))


def volume_output(name: str) -> str:
    """That of a Workspace of this name whose adapter goes to a volume."""
    return f"oci:{OUTPUT}:{name}"


def model_override(preset: PresetRef) -> str | None:
    """The image that stands in for the preset's own sources of weights."""
    return None if preset.options.image is None else str(preset.options.image)


def _new_output(workspace: Workspace) -> str:
    output = adapter_output(workspace)
    reference = ArtifactReference.parse(output)
    if isinstance(reference, RemoteReference) and reference.digest:
        raise InputError(
            f"tuning.output.image: {reference} has a digest, which only the adapter decides; give a tag"
        )
    return output


def _adapters(workspace: Workspace) -> tuple[tuple[ServedAdapter, ...], list[Mount]]:
    found, mounts = [], []
    assert workspace.inference is not None
    for index, adapter in enumerate(workspace.inference.adapters):
        where, source = f"inference.adapters[{index}]", adapter.source
        if adapter.strength not in (None, 1.0):
            raise InputError(f"{where}.strength: adapters are served at strength 1; leave it out")
        if source.volume_source is None:
            found.append(ServedAdapter(name=source.name, source=str(source.image)))
            continue
        path = f"{ROOT}/adapters/{index}"
        volume = _volume(source.volume_source, f"{where}.source")
        mounts.append(Mount(name=f"adapter-{index}", path=path, volume=volume))
        found.append(ServedAdapter(name=source.name, source=path))
    return tuple(found), mounts


def _volume(volume: VolumeSource, where: str) -> Manifest:
    if volume.host_path is not None and not volume.host_path.path.startswith("/"):
        raise InputError(
            f"{where}.volumeSource.hostPath.path: {volume.host_path.path!r} is relative, which only `kairay run` can"
            " resolve; give the absolute path of a folder on the nodes"
        )
    return volume.to_dict()


def _weights(preset: PresetRef) -> tuple[tuple[str, tuple[str, ...]], ...]:
    override = model_override(preset)
    flags = ("--preset", preset.name, *(() if override is None else ("--model", override)))
    return (("weights", (*_FETCH, "model", *flags)),)


def _hub_token(preset: PresetRef) -> dict[str, tuple[str, str]]:
    secret = preset.options.model_access_secret
    return {} if secret is None else {"HF_TOKEN": (secret, "HF_TOKEN")}


def _logins(secrets: list[str | None], settings: PodSettings) -> tuple[tuple[Mount, ...], dict[str, str]]:
    """A mount for each registry secret, and the environment that leads to them."""
    names = sorted({name for name in secrets if name is not None})
    mounts = tuple(
        Mount(name=f"login-{index}", path=f"{_LOGINS}/{index}", volume={"secret": {"secretName": name}})
        for index, name in enumerate(names)
    )
    environment = dict(settings.environment)
    if mounts:
        environment["KAIRAY_REGISTRY_LOGINS"] = ":".join(mount.path for mount in mounts)
    return mounts, environment
