"""What a run says of itself on a terminal: a summary in a dozen lines, with units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
