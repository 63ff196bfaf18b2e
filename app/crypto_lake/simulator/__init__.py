"""A spot exchange on loopback: WebSocket and REST from a seed or a recording, with faults on demand.

It speaks the protocol of Binance spot market data. Its klines follow from its trades by integer arithmetic of
its own and share no code with the lake's bars, so that each can be the other's proof.
"""
