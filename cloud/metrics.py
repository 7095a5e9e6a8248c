"""What a process counts for whoever watches it, by Prometheus's names; docs/running.md."""

import math
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

REGISTRY: Final = CollectorRegistry()
"""Everything that this process tells; `cloud.monitoring` serves it."""

_FAST: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCHES: Final = (1, 2, 5, 10, 25, 50, 100, 150, 200, 256)

ProcessCollector(registry=REGISTRY)
# A series more for each counter, of which nobody asks.
disable_created_metrics()

HTTP_REQUESTS: Final = Counter(
    "railtix_http_requests",
    "Requests answered over HTTP, by the template of their address.",
    ("method", "route", "status"),
    registry=REGISTRY,
)
HTTP_DURATION: Final = Histogram(
    "railtix_http_request_duration_seconds",
    "From the request's last header to the answer's first.",
    ("method", "route"),
    buckets=_FAST,
    registry=REGISTRY,
)
HTTP_IN_PROGRESS: Final = Gauge(
    "railtix_http_requests_in_progress",
    "Requests that are being answered, open streams included.",
    registry=REGISTRY,
)
POS_REQUESTS: Final = Counter(
    "railtix_pos_requests",
    "Requests of appliances that were answered, by kind and outcome.",
    ("kind", "outcome"),
    registry=REGISTRY,
)
POS_DURATION: Final = Histogram(
    "railtix_pos_answer_duration_seconds",
    "From a request's arrival to its committed answer.",
    buckets=_FAST,
    registry=REGISTRY,
)
POS_UNANSWERED: Final = Counter(
    "railtix_pos_unanswered",
    "Requests of which nothing could be said; the appliance asks again or cancels.",
    registry=REGISTRY,
)
POS_REFUSED: Final = Counter(
    "railtix_pos_refused",
    "Requests that nobody's appliance signed, by reason.",
    ("reason",),
    registry=REGISTRY,
)
POS_BATCH: Final = Histogram(
    "railtix_pos_batch_size",
    "Requests committed together.",
    buckets=_BATCHES,
    registry=REGISTRY,
)
OFFLINE_POSTINGS: Final = Counter(
    "railtix_pos_offline_postings",
    "Sales that an appliance accepted offline and that were posted.",
    registry=REGISTRY,
)
OFFLINE_SHORTFALL: Final = Counter(
    "railtix_pos_offline_shortfall_cents",
    "What wallets could not cover of sales that were taken offline, in cents, by currency.",
    ("currency",),
    registry=REGISTRY,
)
OFFLINE_DOUBLE_SPENDS: Final = Counter(
    "railtix_pos_offline_double_spends",
    "Offline sales whose QR had paid before.",
    registry=REGISTRY,
)
QUARANTINES: Final = Counter(
    "railtix_pos_quarantines",
    "Appliances that said of their journal what no honest one can say, by cause.",
    ("cause",),
    registry=REGISTRY,
)
POS_REPLIES: Final = Counter(
    "railtix_pos_replies",
    "Signed replies handed to the broker.",
    registry=REGISTRY,
)
POS_EXPIRED: Final = Counter(
    "railtix_pos_expired",
    "Requests that waited for longer than their appliance did, and were dropped.",
    registry=REGISTRY,
)
UPDATE_ANNOUNCEMENTS: Final = Counter(
    "railtix_update_announcements",
    "Policies issued since their appliance is due another version, or none any more.",
    registry=REGISTRY,
)
UPDATE_PAUSES: Final = Counter(
    "railtix_update_pauses",
    "Bundles whose releases were paused since too many appliances came back from them.",
    registry=REGISTRY,
)
UPDATE_FETCHES: Final = Gauge(
    "railtix_update_fetches_in_progress",
    "Appliances that fetch a bundle from this process now.",
    registry=REGISTRY,
)
CRL_EXPIRES: Final = Gauge(
    "railtix_crl_expires_seconds",
    "Until the broker refuses every client; not a number where no warden runs.",
    registry=REGISTRY,
)
CRL_EXPIRES.set(math.nan)
CERTIFICATES_EXPIRING: Final = Gauge(
    "railtix_certificates_expiring",
    "Certificates of appliances, workers and servers that end within so many days, or have ended.",
    ("within_days",),
    registry=REGISTRY,
)
WARDEN_FAILING: Final = Gauge(
    "railtix_warden_failing",
    "1 while the warden cannot do this duty; its log says why.",
    ("duty",),
    registry=REGISTRY,
)
