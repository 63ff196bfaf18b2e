"""`crypto-lake config`: what is configured, and where each value came from."""

from __future__ import annotations

import json
from typing import Any

import click

from crypto_lake.cli.common import load_settings, output_option, setting_options


@click.group()
def command() -> None:
    """Show and check the configuration."""


@command.command()
@setting_options
@output_option
def show(output: str, **options: Any) -> None:
    """Print every value and where it came from; secrets are masked.

    Defaults, then config.yml, then the environment (CRYPTO_LAKE_…), then flags: the later wins.
    """
    from crypto_lake.config.load import shown

    loaded = load_settings(options)
    values = shown(loaded)
    if output == "json":
        document = {
            "schema": 1,
            "file": str(loaded.file) if loaded.file else None,
            "values": {
                path: {"value": value, "origin": origin.kind, "where": origin.where}
                for path, (value, origin) in values.items()
            },
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    click.echo(f"file: {loaded.file or 'none'}\n")
    width = max(map(len, values))
    for path, (value, origin) in values.items():
        click.echo(f"{path:{width}}  {_plain(value)}  # {origin}")


@command.command()
@setting_options
def check(**options: Any) -> None:
    """Load the configuration and say whether it can be used: exit code 0, or 2 with every problem."""
    loaded = load_settings(options)
    click.echo(f"{loaded.file or 'no configuration file'}: ok")


def _plain(value: object) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return (
        json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) or value == "" else str(value)
    )
