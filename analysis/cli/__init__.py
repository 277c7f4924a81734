"""The command line: `python -m analysis COMMAND`. Commands choose and print; the work is in the packages.

Exit codes: 0 fine, 1 failed (one sentence on standard error), 2 wrong usage. One file a group of commands."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import click

from analysis import __version__
from analysis.cli import browsing, building, making, measuring, reporting, saes, stores
from analysis.cli.querying import query
from analysis.errors import AnalysisError


class OneSentence(click.Command):
    """A command that turns the errors a user can cause into one sentence and exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        for stream in (
            sys.stdout,
            sys.stderr,
        ):  # a locale without α, a file name that is no UTF-8: replaced, never fatal
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            found = super().invoke(context)
            sys.stdout.flush()
            return found
        except AnalysisError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:  # the reader of our output went away, e.g. `| head`; what is left goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)


class Commands(OneSentence, click.Group):
    """All of them."""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def main() -> None:
    """RetrievalLens: build stores of SAE concepts and retrieval results, and compute any number of the app headless."""


for _command in (
    building.build, building.extract, building.train_sae, building.encode, building.score,
    saes.import_sae, saes.export_sae, saes.import_embeddings,
    stores.list_stores, stores.verify, stores.rescore, stores.concept_effects, stores.name, browsing.concepts,
    measuring.retrieve, query, measuring.effects, measuring.reproduce,
    reporting.deck, reporting.report, reporting.notes,
    making.demo, making.bench,
):  # fmt: skip
    main.add_command(_command)
