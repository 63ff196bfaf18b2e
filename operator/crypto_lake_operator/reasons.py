"""Why a condition is as it is: the word for programs. They do not change; the message beside them may."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    # Well.
    AS_WANTED = "AsWanted"
    ALL_LIVE = "AllLive"
    ONE_COPY_DOWN = "OneCopyDown"
    NO_GAPS = "NoGaps"
    UP_TO_DATE = "UpToDate"
    NO_BUCKET = "NoBucket"
    ENOUGH_ROOM = "EnoughRoom"

    # On the way; nothing is to be done.
    SUSPENDED = "Suspended"
    STARTING = "Starting"
    ROLLING_OUT = "RollingOut"
    CONFIGURATION_PENDING = "ConfigurationPending"
    MOVING_SYMBOLS = "MovingSymbols"
    DRAINING = "Draining"
    RELEASING_CLAIMS = "ReleasingClaims"
    GROWING_VOLUME = "GrowingVolume"
    DELETING = "Deleting"
    NOT_TOLD = "NotTold"
    NOT_UPLOADED_YET = "NotUploadedYet"

    # Something is to be done; the message says what.
    INVALID_SPEC = "InvalidSpec"
    NOT_OURS = "NameTaken"
    REFUSED = "Refused"
    FORBIDDEN = "Forbidden"
    QUOTA_EXCEEDED = "QuotaExceeded"
    CHANGED_BY_ADMISSION = "ChangedByAdmission"
    SECRET_MISSING = "SecretMissing"  # noqa: S105
    STORAGE_CLASS_MISSING = "StorageClassMissing"
    VOLUME_CANT_GROW = "VolumeCantGrow"
    VOLUME_CANT_SHRINK = "VolumeCantShrink"
    STORAGE_CLASS_FIXED = "StorageClassFixed"
    CONFIGURATION_REFUSED = "ConfigurationRefused"
    NO_COLLECTOR = "NoCollector"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_CANT_BE_PULLED = "ImageCantBePulled"
    CRASHING = "Crashing"
    UNREACHABLE = "Unreachable"
    NOT_SUBSCRIBED = "NotSubscribed"
    NOT_WRITING = "NotWriting"
    GAPS_OPEN = "GapsOpen"
    BARS_DIFFER = "BarsDiffer"
    UPLOAD_FAILING = "UploadFailing"
    UPLOAD_LATE = "UploadLate"
    DISK_FILLING = "DiskFilling"
    DISK_FULL = "DiskFull"
    BUG = "OperatorFault"


# What passes by itself, or was asked for.
PASSING: Final = frozenset(
    {
        Reason.SUSPENDED,
        Reason.STARTING,
        Reason.ROLLING_OUT,
        Reason.CONFIGURATION_PENDING,
        Reason.MOVING_SYMBOLS,
        Reason.DRAINING,
        Reason.RELEASING_CLAIMS,
        Reason.GROWING_VOLUME,
        Reason.DELETING,
        Reason.NOT_TOLD,
        Reason.NOT_UPLOADED_YET,
    }
)
# With these Reconciled is False and the lake is not Ready: what runs is not what spec asks for, and will not be by
# itself. With the others a lake that collects is Ready.
BLOCKING: Final = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.NOT_OURS,
        Reason.REFUSED,
        Reason.FORBIDDEN,
        Reason.QUOTA_EXCEEDED,
        Reason.STORAGE_CLASS_MISSING,
        Reason.CONFIGURATION_REFUSED,
        Reason.BUG,
    }
)
