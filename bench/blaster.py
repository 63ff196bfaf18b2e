"""A server for the benchmark of the collector: one WebSocket over TLS, one record a message, at Poisson times.

    python bench/blaster.py --folder DIR --rate 20000 --seconds 10

It writes certificate.pem into DIR, prints one line of JSON with its ports, serves one WebSocket client (streams in
the URL, or by SUBSCRIBE), then prints a second line: messages and trades sent, and how far it fell behind its own
schedule, which a client that reads too slowly brings about. On its HTTP port it answers /api/v3/time and
/api/v3/exchangeInfo. It simulates no market; prices do not matter here.
"""

from __future__ import annotations

import argparse
import datetime
import http.server
import ipaddress
import json
import random
import socket
import ssl
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

SYMBOLS = ("BTC", "ETH", "BNB", "SOL", "XRP", "ADA", "DOGE", "TRX", "DOT", "LINK", "LTC", "AVAX", "PEPE")
QUOTE = "USDT"
# Shares of the traffic: a few symbols make most of it.
WEIGHTS = (30, 20, 8, 12, 8, 3, 6, 3, 2, 2, 2, 2, 2)


def certificate(folder: Path) -> ssl.SSLContext:
    """A context with a certificate for 127.0.0.1, left in the folder for the client to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "crypto-lake benchmark")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


class Rest(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/api/v3/time":
            body: object = {"serverTime": time.time_ns() // 1000}
        elif path == "/api/v3/exchangeInfo":
            body = {
                "symbols": [
                    {
                        "symbol": base + QUOTE,
                        "status": "TRADING",
                        "baseAsset": base,
                        "quoteAsset": QUOTE,
                        "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.01"}],
                    }
                    for base in SYMBOLS
                ]
            }
        else:
            self.send_error(404)
            return
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


class Market:
    """Messages of the subscribed streams, with ids that run on and times of now."""

    def __init__(self, streams: list[str], seed: int) -> None:
        self._chance = random.Random(seed)
        weight = {base.lower() + QUOTE.lower(): w for base, w in zip(SYMBOLS, WEIGHTS, strict=True)}
        self._streams = [(name, *name.split("@")) for name in streams]
        self._weights = [weight.get(symbol, 1) for _, symbol, _ in self._streams]
        self._ids = dict.fromkeys(streams, 4000000000)
        self.trades = 0

    def draw(self, count: int) -> list[tuple[str, str, str]]:
        return self._chance.choices(self._streams, self._weights, k=count)

    def message(self, stream: tuple[str, str, str]) -> bytes:
        name, symbol, kind = stream
        self._ids[name] = number = self._ids[name] + 1
        cents = 6_000_000 + number % 1000
        price, next_price = (
            f"{cents // 100}.{cents % 100:02d}000000",
            f"{cents // 100}.{(cents + 1) % 100:02d}000000",
        )
        size, upper = f"0.{number % 99999:05d}000", symbol.upper()
        if kind == "bookTicker":
            data = f'"u":{number},"s":"{upper}","b":"{price}","B":"{size}","a":"{next_price}","A":"{size}"'
        else:
            self.trades += 1
            now_ms = time.time_ns() // 1_000_000
            ids = f'"t":{number}' if kind == "trade" else f'"a":{number},"f":{number},"l":{number}'
            maker = "true" if number & 1 else "false"
            data = (
                f'"e":"{kind}","E":{now_ms},"s":"{upper}",{ids},"p":"{price}","q":"{size}","T":{now_ms},"m":{maker},'
                '"M":true'
            )
        return f'{{"stream":"{name}","data":{{{data}}}}}'.encode()


def serve(
    listener: socket.socket, context: ssl.SSLContext, rate: float, seconds: float, seed: int
) -> dict[str, object]:
    plain, _ = listener.accept()
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with context.wrap_socket(plain, server_side=True) as client:
        protocol = ServerProtocol()
        streams: list[str] = []
        while not streams:
            data = client.recv(65536)
            if not data:
                return {"error": "the client left before it subscribed"}
            protocol.receive_data(data)
            for event in protocol.events_received():
                if isinstance(event, Request):
                    protocol.send_response(protocol.accept(event))
                    streams += [
                        s
                        for s in parse_qs(urlsplit(event.path).query).get("streams", [""])[0].split("/")
                        if s
                    ]
                elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    request = json.loads(bytes(event.data))
                    streams += request["params"]
                    protocol.send_text(json.dumps({"result": None, "id": request["id"]}).encode())
            client.sendall(b"".join(protocol.data_to_send()))
        market = Market(streams, seed)
        chance = random.Random(seed)
        sent, behind = 0, 0.0
        send, clock, gap = client.sendall, time.perf_counter, chance.expovariate
        start = due = clock()
        while due < start + seconds:
            for stream in market.draw(1000):
                due += gap(rate)
                late = clock() - due
                if late < 0:
                    time.sleep(-late)
                elif late > behind:
                    behind = late
                message = market.message(stream)
                size = len(message)  # always from 126 to 65535
                send(bytes((0x81, 126, size >> 8, size & 255)) + message)
                sent += 1
        took = clock() - start
        client.settimeout(60)
        while client.recv(65536):  # until the client has enough
            pass
    return {"sent": sent, "trades": market.trades, "seconds": took, "behind_seconds": behind}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=20_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    context = certificate(options.folder)
    rest = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rest)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ports = {"websocket": listener.getsockname()[1], "rest": rest.server_address[1]}
        print(json.dumps(ports), flush=True)
        try:
            result = serve(listener, context, options.rate, options.seconds, options.seed)
        except (OSError, ssl.SSLError) as error:
            result = {"error": repr(error)}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
