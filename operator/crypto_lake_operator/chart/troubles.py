"""What to do about each reason of a condition: a table of docs/kubernetes.md."""

from __future__ import annotations

from typing import Final, NamedTuple

from crypto_lake_operator.api_status import ConditionType
from crypto_lake_operator.reasons import BLOCKING, Reason


class Trouble(NamedTuple):
    """conditions: where the reason shows first; Ready then has it, too, where it keeps the lake from being Ready."""

    conditions: tuple[ConditionType, ...]
    meaning: str
    do: str = "Nothing: it passes by itself."


_NOTHING: Final = "Nothing."
ALL: Final[dict[Reason, Trouble]] = {
    Reason.AS_WANTED: Trouble(("Reconciled",), "All is as spec asks for.", _NOTHING),
    Reason.ALL_LIVE: Trouble(("Collecting",), "Every collector collects and writes.", _NOTHING),
    Reason.ONE_COPY_DOWN: Trouble(
        ("Collecting",),
        "Of a shard's two collectors one does not collect; nothing is missed.",
        "See the message for the pod and why; then as for that reason.",
    ),
    Reason.NO_GAPS: Trouble(("Complete",), "No trade is known to be missing.", _NOTHING),
    Reason.UP_TO_DATE: Trouble(("Uploaded",), "The last uploads were read back and agree.", _NOTHING),
    Reason.NO_BUCKET: Trouble(
        ("Uploaded",), "`spec.bucket` is not set.", "Nothing, if that is meant: the volume is the only copy."
    ),
    Reason.ENOUGH_ROOM: Trouble(("DiskHealthy",), "There is room on every volume.", _NOTHING),
    Reason.SUSPENDED: Trouble(
        ("Collecting", "Complete", "Uploaded", "DiskHealthy"),
        "`spec.suspend` is set: nothing is collected.",
        "Set it to false to go on.",
    ),
    Reason.STARTING: Trouble(
        ("Collecting",),
        "A pod starts.",
        "If it lasts: `kubectl describe pod` shows whether a volume or an image is waited for.",
    ),
    Reason.ROLLING_OUT: Trouble(("Reconciled",), "Collectors restart with new settings, one after another."),
    Reason.CONFIGURATION_PENDING: Trouble(
        ("Reconciled",),
        "A collector has not read its new file yet; the kubelet takes up to a minute and a half.",
    ),
    Reason.MOVING_SYMBOLS: Trouble(
        ("Reconciled",),
        "A symbol goes to another shard and is dropped from the old one when it is live there.",
    ),
    Reason.DRAINING: Trouble(
        ("Reconciled",),
        "A shard or replica that goes fetches what it missed, for a quarter of an hour at most, and uploads what it has, which "
        "may take until its running hour is over.",
        "Without a bucket it waits for good: set one, or annotate the lake "
        '`cryptolake.io/abandon-what-is-not-uploaded: "true"`.',
    ),
    Reason.RELEASING_CLAIMS: Trouble(
        ("Reconciled",), "Before a StatefulSet is made anew its claims are freed of it, so that they stay."
    ),
    Reason.GROWING_VOLUME: Trouble(
        ("Reconciled",),
        "Claims have their new size asked for.",
        "If it lasts: `kubectl describe pvc` shows what the storage provider says.",
    ),
    Reason.DELETING: Trouble(
        ("Reconciled",),
        "A child is being deleted and is made again then.",
        "If it lasts: it has a finalizer.",
    ),
    Reason.NOT_TOLD: Trouble(("DiskHealthy",), "A collector just started and has not measured its disk yet."),
    Reason.NOT_UPLOADED_YET: Trouble(("Uploaded",), "No upload has ended yet."),
    Reason.INVALID_SPEC: Trouble(
        ("Reconciled",),
        "The spec came past an older definition and is wrong; what runs goes on as it was.",
        "Mend the fields that the message names. Bring the definition up to date: `helm upgrade`.",
    ),
    Reason.NOT_OURS: Trouble(
        ("Reconciled",),
        "Somebody else made an object with a name that a child should have; it is left alone.",
        "Rename or delete that object, or give the lake another name.",
    ),
    Reason.REFUSED: Trouble(
        ("Reconciled", "Collecting"),
        "The API server or an admission policy refuses a child, or a collector's pod, or a webhook of admission does not "
        "answer; the message has the words.",
        "Change the policy, or the field of spec.pod that it is about.",
    ),
    Reason.FORBIDDEN: Trouble(
        ("Reconciled",),
        "The operator lacks a right.",
        "Is the lake's namespace among `watch.namespaces`? Are the chart's Roles as they were (`rbac.create`)?",
    ),
    Reason.QUOTA_EXCEEDED: Trouble(
        ("Reconciled", "Collecting"),
        "A ResourceQuota is used up.",
        "Raise it, or ask for less in spec.pod and spec.storage.",
    ),
    Reason.CHANGED_BY_ADMISSION: Trouble(
        ("Reconciled",),
        "A webhook or policy of admission changes what the operator applies; it is applied again every minute.",
        "Exempt the lake's objects from it (label `app.kubernetes.io/managed-by: crypto-lake-operator`), or say it in spec.",
    ),
    Reason.SECRET_MISSING: Trouble(
        ("Reconciled",),
        "The webhook's Secret, or its key, is not there; collecting goes on, alerts are not sent.",
        "`kubectl create secret generic NAME --from-literal=url=https://…`",
    ),
    Reason.STORAGE_CLASS_MISSING: Trouble(
        ("Reconciled",),
        "There is no such StorageClass.",
        "Create it; `kubectl get storageclass` shows those there are. A lake's class can't be changed.",
    ),
    Reason.VOLUME_CANT_GROW: Trouble(
        ("Reconciled",),
        "The class of a claim does not allow expansion.",
        "Set `allowVolumeExpansion: true` on the class if its driver can, else set `spec.storage.size` back.",
    ),
    Reason.VOLUME_CANT_SHRINK: Trouble(
        ("Reconciled",), "`spec.storage.size` is less than the claims have.", "Set it back."
    ),
    Reason.STORAGE_CLASS_FIXED: Trouble(
        ("Reconciled",),
        "The class of claims that are there can't be changed.",
        "Set it back. Another class needs another lake, or new claims: one shard's claim and pod after another.",
    ),
    Reason.CONFIGURATION_REFUSED: Trouble(
        ("Reconciled",),
        "A collector does not take its file and goes on by the older one.",
        "Is its image older than the operator? Else report it, with the message.",
    ),
    Reason.NO_COLLECTOR: Trouble(
        ("Collecting",),
        "A pod is not there.",
        "`kubectl describe statefulset` says why none is made: a quota, or an admission policy.",
    ),
    Reason.UNSCHEDULABLE: Trouble(
        ("Collecting",),
        "A pod fits on no node; the message has the scheduler's words.",
        "Room for its requests, in the zone of its volume; two replicas need two nodes.",
    ),
    Reason.IMAGE_CANT_BE_PULLED: Trouble(
        ("Collecting",),
        "The image can't be pulled.",
        "`spec.image`, or the chart's `image`; `spec.pod.imagePullSecrets`.",
    ),
    Reason.CRASHING: Trouble(
        ("Collecting",),
        "A collector ends again and again.",
        "`kubectl logs --previous` says why: memory, another collector on the volume, a full disk.",
    ),
    Reason.UNREACHABLE: Trouble(
        ("Collecting", "Complete", "Uploaded", "DiskHealthy"),
        "A pod runs and the operator can't ask it; whether it collects is Unknown.",
        "A NetworkPolicy between them (the operator's, the lake's, the namespace's), or a collector that hangs.",
    ),
    Reason.NOT_SUBSCRIBED: Trouble(
        ("Collecting",),
        "Not all streams are live.",
        "The way to the exchange: DNS, `spec.networkPolicy.egressPorts`, a proxy; symbols that it does not know.",
    ),
    Reason.NOT_WRITING: Trouble(
        ("Collecting",),
        "Nothing can be written to the volume.",
        "See CryptoLakeNotWriting in the [runbook](runbook.md).",
    ),
    Reason.GAPS_OPEN: Trouble(
        ("Complete",),
        "Trades are missing that were not fetched.",
        "See CryptoLakeGapsOpen in the [runbook](runbook.md).",
    ),
    Reason.BARS_DIFFER: Trouble(
        ("Complete",),
        "Bars are not what the exchange's own klines say, and the ledger does not explain it.",
        "See CryptoLakeBarsDiffer in the [runbook](runbook.md).",
    ),
    Reason.UPLOAD_FAILING: Trouble(
        ("Uploaded",),
        "The last upload failed; the message has its words.",
        "Credentials and permissions: [Store](store.md). Nothing is deleted meanwhile.",
    ),
    Reason.UPLOAD_LATE: Trouble(
        ("Uploaded",),
        "No upload, or no publish, has succeeded for three periods, three hours at least.",
        "`kubectl get cronjobs,jobs,pods`: Pending for want of room on the collector's node, or failed.",
    ),
    Reason.DISK_FILLING: Trouble(
        ("DiskHealthy",),
        "A volume is beyond `spec.alerts.disk`, or full within a day.",
        "Raise `spec.storage.size`, or shorten `spec.retention.raw`.",
    ),
    Reason.DISK_FULL: Trouble(
        ("DiskHealthy",),
        "A volume is full: what comes now is lost, and counted by id.",
        "Raise `spec.storage.size` now; the collector goes on by itself.",
    ),
    Reason.BUG: Trouble(
        ("Reconciled",),
        "The operator failed in a way that nobody foresaw; what runs goes on.",
        "Report it, with the operator's log.",
    ),
}


def table() -> str:
    lines = ["| reason | condition | means | do |", "|---|---|---|---|"]
    for reason in Reason:
        one = ALL[reason]
        stops = " **Not Ready.**" if reason in BLOCKING else ""
        lines.append(f"| `{reason}` | {', '.join(one.conditions)} | {one.meaning}{stops} | {one.do} |")
    return "\n".join(lines)
