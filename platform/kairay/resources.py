"""Where the data folders lie that ship with Kairay: inside the installed package, or at the top of a
checkout.

The wheel carries `presets/` and `kuberay/` as `kairay/presets` and `kairay/kuberay`; an editable install has
them two folders above this package, so that an edited preset is seen at once.
"""

from __future__ import annotations

from pathlib import Path

from kairay.errors import HostError


def data_dir(name: str) -> Path:
    """The folder of shipped data called `name` (such as `presets`); HostError when the installation lacks
    it."""
    package = Path(__file__).parent
    for folder in (package / name, package.parents[1] / name):
        if folder.is_dir():
            return folder
    raise HostError(f"the installed kairay has no data folder {name!r}; install the wheel again")
