"""`kairay plan`: what a Workspace would take, before anything is spent."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import click

from kairay.cli.named_model import named_preset
from kairay.cli.output import print_data
from kairay.cli.prices import price_file, prices_option
from kairay.config_maps import config_of, text_in, text_on_machine
from kairay.data_files import ENDINGS
from kairay.errors import InputError
from kairay.plan import Plan, PlanTarget, make_plan
from kairay.plan_config import read_config
from kairay.plan_data import count_tokens
from kairay.plan_job import TrainingData
from kairay.plan_quota import Quota, parse_usages
from kairay.plan_table import render_plan
from kairay.plan_wishes import TuningWishes, Wishes
from kairay.presets import Preset
from kairay.prices import priced_skus
from kairay.skus import CLOUDS, Sku, local_machine, probe_machine
from kairay.workspace import Documents, Workspace, load_documents

ConfigMaps = Mapping[str, Mapping[str, str]]
"""Data of a file's ConfigMaps, by name."""


class PlanFormat(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInputs:
    """What a plan is made from, besides the Workspace."""

    skus: Mapping[str, Sku]
    target: PlanTarget
    tokens: tuple[int, str] | None = None
    """Of the training data, and how they were counted."""
    epochs: int | None = None
    """None: what the Workspace or its preset says."""
    quota: Quota | None = None
    folder: Path = Path()
    """Of the file: where relative paths in it count from."""


@click.command("plan")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--local", is_flag=True, help="Plan for this machine, as `kairay run` does, instead of cloud sizes."
)
@click.option(
    "--cloud", type=click.Choice([cloud.value for cloud in CLOUDS]),
    help="Whose sizes are compared; default: those of the cloud whose size the file names, else Azure's.",
)  # fmt: skip
@click.option(
    "--data", multiple=True, type=click.Path(path_type=Path),
    help="Training data (a file or a folder; may be given again): says what the job costs.",
)  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), help="Default: what the file says, else the preset.")
@click.option(
    "--quota", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What `az vm list-usage --location REGION -o json` printed: no plan exceeds it.",
)  # fmt: skip
@prices_option
@click.option("--explain", is_flag=True, help="Show every term of the memory as a bar.")
@click.option(
    "-o", "--output", type=click.Choice([f.value for f in PlanFormat]), default=PlanFormat.TABLE.value,
    show_default=True, help="Form of what is printed; wide shows every size and column.",
)  # fmt: skip
def command(
    files: tuple[Path, ...], local: bool, cloud: str | None, data: tuple[Path, ...], epochs: int | None,
    quota: Path | None, prices: Path | None, explain: bool, output: str,
) -> None:  # fmt: skip
    """Show the GPUs, the memory and the price that each Workspace in FILES needs; starts nothing.

    Sizes are compared by cost: serving by dollars an hour at the most replicas, tuning by dollars for the job (with
    --data) or for a million tokens. Ends with exit code 2 when one of the Workspaces cannot run as written.
    """
    _check_flags(files, local=local, cloud=cloud, data=data, epochs=epochs, quota=quota)
    documents = [load_documents(file, drafts=True) for file in files]
    for word in (word for each in documents for word in each.unfilled):
        click.echo(f"note: {word} is a placeholder; fill it in before you run or apply the file", err=True)
    inputs = PlanInputs(
        skus={
            name: sku
            for name, sku in priced_skus(price_file(prices)).items()
            if cloud is None or sku.kind == cloud
        },
        target=PlanTarget.LOCAL if local else PlanTarget.CLUSTER,
        tokens=count_tokens(data) if data else None,
        epochs=epochs,
        quota=None if quota is None else parse_usages(quota.read_text("utf-8"), str(quota)),
    )
    plans = [
        plan
        for file, each in zip(files, documents, strict=True)
        for plan in plan_all(each, replace(inputs, folder=file.resolve().parent))
    ]
    if not plans:
        raise click.UsageError(
            "inference.template brings its own container and runs on a cluster as it stands: nothing to plan"
        )
    show(plans, output, explain=explain)
    if any(plan.problems for plan in plans):
        raise SystemExit(2)


def plan_all(documents: Documents, inputs: PlanInputs) -> list[Plan]:
    """A plan for each Workspace of a file but those that bring their own container."""
    return [
        _plan(workspace, documents.config_maps, inputs)
        for workspace in documents.workspaces
        if workspace.inference is None or workspace.inference.preset is not None
    ]


def plan_to_run(workspace: Workspace, config_maps: ConfigMaps, folder: Path) -> Plan:
    """For this machine, of a Workspace whose file is in `folder`; click.UsageError where there is nothing to plan."""
    if workspace.inference is not None and workspace.inference.preset is None:
        raise click.UsageError(
            f"{workspace.metadata.name}: inference.template runs on a cluster as it stands; there is nothing to plan"
        )
    skus = priced_skus(price_file(None))
    return _plan(workspace, config_maps, PlanInputs(skus=skus, target=PlanTarget.LOCAL, folder=folder))


def show(plans: Sequence[Plan], output: str, *, explain: bool = False) -> None:
    """Print plans in the form that was asked for."""
    if output in (PlanFormat.TABLE, PlanFormat.WIDE):
        wide = output == PlanFormat.WIDE
        click.echo("\n\n".join(render_plan(plan, wide=wide, explain=explain) for plan in plans))
        return
    data = [plan.to_dict() for plan in plans]
    print_data(data[0] if len(data) == 1 else data, output)


def _check_flags(
    files: Sequence[Path], *, local: bool, cloud: str | None, data: Sequence[Path], epochs: int | None,
    quota: Path | None,
) -> None:  # fmt: skip
    """click.UsageError for what would have no effect, and for data in the place of a Workspace."""
    for file in files:
        # A Workspace may be JSON.
        if file.suffix.casefold() in ENDINGS and file.suffix.casefold() != ".json":
            raise click.UsageError(f"{file} is data; give it with --data, after the file of the Workspace")
    if epochs is not None and not data:
        raise click.UsageError("--epochs has no effect without --data: it says how often that is learnt from")
    for flag, given in (("--cloud", cloud), ("--quota", quota)):
        if local and given is not None:
            raise click.UsageError(
                f"{flag} has no effect with --local, which plans for this machine; leave one out"
            )


def _plan(workspace: Workspace, config_maps: ConfigMaps, inputs: PlanInputs) -> Plan:
    work = workspace.tuning or workspace.inference
    assert work is not None
    assert work.preset is not None, "its own container needs no plan"
    preset = named_preset(work.preset.name, inputs.target, inputs.folder)
    wishes = _wishes(workspace, config_maps, inputs.target)
    if inputs.epochs is not None and isinstance(wishes, TuningWishes):
        wishes = replace(wishes, max_steps=None)
    plan = make_plan(
        workspace,
        preset,
        skus=inputs.skus,
        machine=local_machine(probe_machine()),
        target=inputs.target,
        now=datetime.datetime.now(datetime.UTC).date(),
        data=_training_data(workspace, preset, wishes, inputs),
        quota=inputs.quota,
        wishes=wishes,
    )
    if inputs.target is PlanTarget.CLUSTER:
        return plan
    return replace(plan, warnings=(*plan.warnings, *_missing_data(workspace, inputs.folder)))


def _wishes(workspace: Workspace, config_maps: ConfigMaps, target: PlanTarget) -> Wishes | None:
    """What the user's own config says, where it is in the same file; only a cluster may have it elsewhere."""
    named = config_of(workspace)
    if named is None:
        return None
    if target is PlanTarget.LOCAL:
        return read_config(workspace, text_on_machine(workspace, config_maps))
    data = config_maps.get(named.name)
    text = None if data is None else text_in(named, data, workspace.metadata.namespace or "")
    return read_config(workspace, text)


def _missing_data(workspace: Workspace, folder: Path) -> tuple[str, ...]:
    """Why `kairay run` would refuse the data of this machine; a plan can be made without it."""
    from kairay.local.places import find_input

    try:
        find_input(workspace, folder)
    except InputError as error:
        return (f"`kairay run` will refuse the data: {error.message}",)
    return ()


def _training_data(
    workspace: Workspace, preset: Preset, wishes: Wishes | None, inputs: PlanInputs
) -> TrainingData | None:
    if inputs.tokens is None or workspace.tuning is None or preset.tuning is None:
        return None
    tokens, basis = inputs.tokens
    epochs: float = preset.tuning.defaults.epochs
    if isinstance(wishes, TuningWishes):
        tokens = int(tokens * wishes.train_share)
        epochs = wishes.epochs or epochs
    return TrainingData(tokens=tokens, epochs=inputs.epochs or epochs, basis=basis)
