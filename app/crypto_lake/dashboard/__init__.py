"""The lake in a browser: candles, volume, spread, and how much of them is known. It reads, and writes nothing."""
