"""What the command does to its own process before anything else, so that it begins sooner."""

import os
import sys
from typing import Any

_PLUGINS = "pydantic.plugin._loader"
_LARGE = 24 << 20  # bytes, never touched


def without_plugins() -> None:
    """Plugins of other packages have no part in a verdict, and looking for them reads all that is installed.

    What would look costs a tenth of an audit to import, and Pydantic imports it before it asks the variable. So a
    module that knows of no plugin stands there, and makes way where more is wanted of it.
    """
    if os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__") != "__all__" or _PLUGINS in sys.modules:
        return

    def more(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        from importlib import import_module

        sys.modules.pop(_PLUGINS, None)
        return getattr(import_module(_PLUGINS), name)

    known: Any = type(sys)(_PLUGINS)
    known.get_plugins, known.__getattr__ = tuple, more
    sys.modules[_PLUGINS] = known


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, up to the largest block it has seen freed: a new page costs more than its use."""
    bytes(_LARGE)
