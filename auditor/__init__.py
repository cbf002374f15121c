"""Audits DeepSeek-V3-layout checkpoints: whether one is what its config.json says it is."""

from auditor.version import __version__

__all__ = ["__version__"]
