"""What operators see: log entries without personal data, and metrics with bounded labels."""

from gateway.telemetry.logs import configure_logging, get_logger, handle_loop_exception
from gateway.telemetry.metrics import Metrics

__all__ = ["Metrics", "configure_logging", "get_logger", "handle_loop_exception"]
