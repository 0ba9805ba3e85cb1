"""What libraries log, among what EdgeCoder logs: one form, one line each."""

from __future__ import annotations

import logging

import structlog


class _TakenIn(logging.Handler):
    """Passes on what comes through Python's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        more = {"exc_info": record.exc_info} if record.exc_info else {}
        structlog.get_logger().log(record.levelno, record.getMessage().strip(), logger=record.name, **more)


def take_in_others(level: str) -> None:
    """From now on; of libraries, warnings and worse only."""
    root = logging.getLogger()
    root.handlers = [*(handler for handler in root.handlers if not isinstance(handler, _TakenIn)), _TakenIn()]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
