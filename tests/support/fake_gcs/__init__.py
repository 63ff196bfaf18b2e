"""A strict fake of Cloud Storage's JSON API, on loopback, with faults on demand.

    with FakeGcs() as server:                       # one bucket, `lake`; the port is the system's choice
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        fault = server.fail("finalise", "reset_after", times=1)
        …                                           # upload something to gs://lake/…
        assert fault.fired == 1
        assert server.objects["raw/x"].data == b"…"
        assert not server.sent("delete")

It honours what the real one honours and other fakes let pass: ifGenerationMatch on every kind of upload and on
delete, checksums declared in the metadata, offsets of resumable uploads (a chunk sent again is not stored twice),
permissions by prefix, retention. Steps of `fail`: multipart, start, chunk, finalise (the chunk that completes), query
(how far a session got), get (metadata), media, list, bucket, delete. Kinds: a status (401, 403, 404, 410, 429, 503 …),
`reset_before` (nothing is taken), `reset_half` (half a chunk is; of media, half is sent), `reset_after` (all is, the answer is lost), `stall`
and `stall_after` (no answer comes), `flip_up` and `flip_down` (a bit of what is sent, or of the answer).

Another process runs it by `python tests/support/fake_gcs [--bucket lake] [--discard]`, which prints one line of JSON
with its `url` and ends when its standard input does; `POST /_fake/fail {"step":…,"kind":…,"times":…}`,
`GET /_fake/objects` and `GET /_fake/requests`, `POST /_fake/data {"name":…}` (its bytes), `POST
/_fake/remove {"name":…}` (all of the first bucket) and `POST /_fake/bucket {"name":…}` (makes one) are for it. With `--address 0.0.0.0:4443` it is reached from elsewhere, and
runs until SIGTERM.
"""

from .faults import Fault
from .server import FakeGcs
from .state import FakeBucket, FakeObject, Sent

__all__ = ["FakeBucket", "FakeGcs", "FakeObject", "Fault", "Sent"]
