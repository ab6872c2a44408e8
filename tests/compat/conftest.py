"""What the tests of compatibility share: this tree's wheel, for where no other version's is."""

from support.wheel import installed, packages

__all__ = ["installed", "packages"]
