"""Every event source the entry point asks, in this order."""

from starlette.types import ASGIApp

from handler.events.adapter import EventAdapter
from handler.events.bulk import BulkAdapter
from handler.events.direct import DirectAdapter
from handler.events.eventbridge import EventBridgeAdapter, ScheduleAdapter
from handler.events.http import HttpAdapter
from handler.events.messages import MessageWorker
from handler.events.s3 import S3Adapter
from handler.events.sending import Sender
from handler.events.sns import SnsAdapter
from handler.events.sqs import SqsAdapter
from handler.loading import ModelLoading
from handler.settings import Settings


def event_adapters(app: ASGIApp, loading: ModelLoading, settings: Settings) -> tuple[EventAdapter, ...]:
    """The adapters of a process, over one application and one model."""
    sender = Sender()
    worker = MessageWorker(loading, sender, settings.results_bucket)
    s3 = S3Adapter(loading, sender, settings.results_bucket)
    return (
        HttpAdapter(app),
        DirectAdapter(loading),
        SqsAdapter(worker, s3, sender),
        SnsAdapter(worker),
        EventBridgeAdapter(worker),
        ScheduleAdapter(loading),
        s3,
        BulkAdapter(loading, settings.results_bucket),
    )
