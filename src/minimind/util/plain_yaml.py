"""YAML as people write it: nothing in it stands for something else."""

from __future__ import annotations

import yaml


class PlainLoader(yaml.SafeLoader):
    """Reads no aliases: a few lines of them can stand for billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):  # type: ignore[no-untyped-call]
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not read; write the value out", mark)
        return super().compose_node(parent, index)  # type: ignore[no-untyped-call,no-any-return]
