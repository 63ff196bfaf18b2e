"""The typed configuration of one machine, and where each value came from."""
