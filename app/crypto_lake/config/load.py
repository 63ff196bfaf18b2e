"""Defaults < file < environment < flags, merged into one Config that knows where each value came from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from crypto_lake.config.durations import InvalidDurationError, parse_retention
from crypto_lake.config.schema import LOG_LEVELS, SECRETS, Condition, Config, MacroConfig
from crypto_lake.config.sources import (
    Layer,
    Origin,
    read_environment,
    read_flags,
    read_yaml,
)
from crypto_lake.config.tree import flatten, leaves, nest
from crypto_lake.model import alerting
from crypto_lake.model.series import InvalidSeriesError, validate_series
from crypto_lake.model.symbols import InvalidSymbolError, nearest, validate_symbol

DEFAULT_FILE = "config.yml"
MASK = "********"


class ConfigError(ValueError):
    """The configuration can't be used. `problems`: one line each, naming the key, the place and what is expected."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, the origin of each of its leaves, and the file it was read from, where there was one.

    `sha256`: of the bytes of that file, in hex.
    """

    config: Config
    origins: Mapping[str, Origin]
    file: Path | None
    sha256: str = ""


def load(
    file: Path | None, environment: Mapping[str, str], flags: Mapping[str, tuple[str, str]] | None = None
) -> Loaded:
    """Read, merge and check. Raises ConfigError with every problem found.

    file: None means config.yml where that exists; a named file must exist.
    flags: path -> (text, the flag as written).
    """
    path = file if file is not None else Path(DEFAULT_FILE)
    layers: list[Layer] = []
    sha256 = ""
    try:
        read = path.read_bytes()
        sha256 = hashlib.sha256(read).hexdigest()
        layers.append(read_yaml(read.decode("utf-8"), str(path)))
    except FileNotFoundError:
        if file is not None:
            raise ConfigError([f"there is no configuration file {file}"]) from None
        path = None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 text: {error.reason} at byte {error.start}"]) from None
    except OSError as error:
        raise ConfigError([f"{path} can't be read: {error.strerror}"]) from None
    layers.append(read_environment(environment))
    layers.append(read_flags(flags or {}))
    config, origins = merge(layers)
    return Loaded(config, origins, path, sha256)


def merge(layers: Sequence[Layer]) -> tuple[Config, dict[str, Origin]]:
    """Later layers win, leaf by leaf; lists are replaced whole. Raises ConfigError. Pure."""
    problems = [problem for layer in layers for problem in layer.problems]
    merged: dict[str, tuple[object, Origin]] = {
        path: (leaf.default, Origin("default")) for path, leaf in leaves().items()
    }
    for layer in layers:
        merged |= layer.values
    values: dict[str, object] = {}
    origins: dict[str, Origin] = {}
    for path, (value, origin) in merged.items():
        origins[path] = origin
        try:
            values[path] = _convert(path, value, origin)
        except _BadValueError as error:
            values[path] = leaves()[path].default
            problems.append(f"{path}: {error} ({origin})")
    config = msgspec.convert(nest(values), Config, from_attributes=True)
    problems += [f"{path}: {text} ({origins[path]})" for path, text in check(config) if path in origins]
    if problems:
        raise ConfigError(problems)
    return config, origins


class _BadValueError(ValueError):
    pass


def _convert(path: str, value: object, origin: Origin) -> object:
    """The value in its leaf's type. Text of variables and flags is read as a number where one is due."""
    leaf = leaves()[path]
    if origin.kind == "default":
        return value
    if path.startswith("logging.") and isinstance(value, str) and leaf.annotation is str:
        value = value.upper()
    try:
        return msgspec.convert(value, leaf.annotation, strict=origin.kind == "file")
    except msgspec.ValidationError as error:
        raise _BadValueError(_in_our_words(str(error), value, origin, secret=path in SECRETS)) from None


def _in_our_words(message: str, value: object, origin: Origin, *, secret: bool) -> str:
    """msgspec's «Expected `int`, got `str` - at `$[0]`» with the value, and the nearest key or word."""
    unknown = re.search(r"unknown field `(\w+)`", message)
    if unknown is not None:
        near = nearest(unknown[1], [field.name for field in msgspec.structs.fields(Condition)])
        return f"unknown key {unknown[1]}" + (f"; did you mean {near}?" if near else "")
    message = message.replace("Invalid RFC3339 encoded date", "Expected a day such as 2024-08-08")
    text = message[:1].lower() + message[1:].replace("`", "")
    shown = MASK if secret else repr(value)
    unquoted = origin.kind == "file" and "expected str, got" in text and not isinstance(value, list | dict)
    hint = "; put it in quotes" if unquoted else ""
    return f"{text}: {shown}{hint}" if len(shown) <= 80 else f"{text}{hint}"


def check(config: Config) -> list[tuple[str, str]]:
    """What the types alone can't say: (path, problem). Pure."""
    collector = config.collector
    found: list[tuple[str, str]] = []
    seen: set[str] = set()
    for symbol in collector.symbols:
        try:
            validate_symbol(symbol)
        except InvalidSymbolError as error:
            found.append(("collector.symbols", str(error)))
        if symbol in seen:
            found.append(("collector.symbols", f"{symbol} stands twice"))
        seen.add(symbol)
    for path, values in (("collector.symbols", collector.symbols), ("collector.streams", collector.streams)):
        if not values and not (collector.idle and path == "collector.symbols"):
            found.append((path, "is empty; name at least one"))
    if len(set(collector.streams)) < len(collector.streams):
        found.append(("collector.streams", "names a stream twice"))
    for path, address, schemes in (
        ("collector.endpoint.websocket", collector.endpoint.websocket, ("wss", "ws")),
        ("collector.endpoint.rest", collector.endpoint.rest, ("https", "http")),
        ("collector.endpoint.archive", collector.endpoint.archive, ("https", "http")),
        ("alerting.webhook_url", config.alerting.webhook_url, ("https", "http")),
    ):
        problem = _address_problem(
            address, schemes, bare=path.startswith("collector."), secret=path in SECRETS
        )
        if problem:
            found.append((path, problem))
    found += [("alerting.conditions", problem) for problem in alerting.problems(config.alerting.conditions)]
    try:
        kept_seconds = parse_retention(config.retention.raw)
        if kept_seconds is not None and kept_seconds <= 0:
            found.append(("retention.raw", "must be more than nothing"))
    except InvalidDurationError as error:
        found.append(("retention.raw", f"{error}, or never"))
    if config.gcs.url and not config.gcs.url.startswith(("gs://", "file:///")):  # the store looks closer
        found.append(("gcs.url", "expected gs://bucket, gs://bucket/prefix or file:///folder"))
    if config.disk.shed_percent > config.disk.stop_derived_percent:
        found.append(("disk.shed_percent", "must not be above disk.stop_derived_percent"))
    for path, level in (("logging.console", config.logging.console), ("logging.file", config.logging.file)):
        if level not in LOG_LEVELS:
            found.append((path, f"{level} is no level; expected one of {', '.join(LOG_LEVELS)}"))
    found += _macro_problems(config.macro)
    if not config.data:
        found.append(("data", "is empty; name a folder"))
    if collector.flush_bytes > collector.queue_bytes:
        found.append(
            ("collector.queue_bytes", f"must hold at least one flush ({collector.flush_bytes} bytes)")
        )
    return found


def _macro_problems(macro: MacroConfig) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for series in macro.series:
        try:
            validate_series(series)
        except InvalidSeriesError as error:
            found.append(("macro.series", str(error)))
    if len(set(macro.series)) < len(macro.series):
        found.append(("macro.series", "names a series twice"))
    problem = _address_problem(macro.proxy, ("http", "https", "socks5", "socks5h"), bare=True, secret=True)
    return [*found, ("macro.proxy", problem)] if problem else found


def _address_problem(address: str, schemes: tuple[str, ...], *, bare: bool, secret: bool) -> str:
    """Why this is no address of these schemes, or nothing. The address itself is not repeated: it may be secret."""
    if not address:
        return ""
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises where it is no number
    except ValueError as error:
        return "is no address" if secret else f"is no address: {error}"  # which quotes pieces of it
    if parts.scheme not in schemes or not parts.hostname:
        return f"expected an address such as {schemes[0]}://host:port"
    if bare and (parts.path.strip("/") or parts.query):
        return f"expected the address alone, without a path: {schemes[0]}://host:port"
    return ""


def changed(old: Config, new: Config) -> list[str]:
    """Paths whose values differ."""
    before, after = flatten(old), flatten(new)
    return [path for path in before if before[path] != after[path]]


def shown(loaded: Loaded) -> dict[str, tuple[object, Origin]]:
    """Every leaf with its value in plain types and its origin; secrets that are set are masked."""
    values = flatten(loaded.config)
    return {
        path: (MASK if path in SECRETS and value else _plain(value), loaded.origins[path])
        for path, value in values.items()
    }


def _plain(value: object) -> object:
    return msgspec.json.decode(msgspec.json.encode(value))  # tuples as lists, enums as text
