"""Frozen types that every room speaks in. Pure: no files, no sockets, no clock of its own."""
