"""Resources of containers where spec names none. They are no schema defaults: one that is given replaces all."""

from __future__ import annotations

from typing import Final

from crypto_lake_operator.api_pod import Resources

COLLECTOR: Final = Resources(requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "1Gi"})
TASK: Final = Resources(requests={"cpu": "50m", "memory": "384Mi"}, limits={"memory": "768Mi"})
