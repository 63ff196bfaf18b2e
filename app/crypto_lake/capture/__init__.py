"""From the socket to an fsynced part."""
