"""What the tests of a release share: its packages, and an environment that has them."""

from cli.conftest import traces
from support.wheel import installed, packages

__all__ = ["installed", "packages", "traces"]
