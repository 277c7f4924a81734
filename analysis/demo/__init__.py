"""Small models in standard architectures, really trained on EmojiScenes, so that everything can be shown offline."""

from __future__ import annotations

from typing import Any

import click

from analysis.errors import AnalysisError


class Tool(click.Command):
    """A command of its own. What a user can cause it says in one sentence, as the commands of `python -m analysis` do."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except AnalysisError as error:
            raise click.ClickException(str(error)) from error
