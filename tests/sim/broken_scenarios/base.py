"""Scenarios that are wrong in one way each, and what a user reads about it: how a case is written.

A case replaces one text in `BASE` by another, or gives `--set` flags. The cases stand in the modules beside this one.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

BASE = """\
name: tiny
duration_s: 60
catalog: qwen2.5-coder
devices:
  phone_mid: {load_failure_pct: 1}
phones:
  count: 3
  devices: {phone_mid: 1}
  installed: {qwen2.5-coder-0.5b: 1, qwen2.5-coder-1.5b: 0.5}
  active: {qwen2.5-coder-0.5b: 1}
  network: wifi
agents:
  count: 1
  devices: {laptop: 1}
  installed: {"qwen2.5-coder:7b": 1}
  active: {"qwen2.5-coder:7b": 1}
  network: lan
coordinators:
  count: 2
  device: server
  network: lan
  federation_network: wan
workload:
  tasks:
    - name: chat
      per_node_per_hour: 60
      prompt_bytes: {mean: 100, max: 1000}
      output_tokens: {mean: 10, max: 100}
      min_param_size: {0: 1, 7: 1}
  swaps:
    - name: mind
      source: phones
      per_node_per_hour: 4
      to: {qwen2.5-coder-1.5b: 1}
    - name: storm
      source: phones
      at_s: 10
      within_s: 20
config:
  cluster: {heartbeat_interval_ms: 15000}
  phones: {drain_ms: 1000}
"""


class Broken(NamedTuple):
    """One mistake and its message."""

    name: str
    old: str
    new: str
    sets: tuple[str, ...]
    label: str
    """The flag that the message names; empty where it names the file."""
    line: int | None
    problem: str
    hint: str

    def write(self, path: Path) -> None:
        """Write the broken scenario."""
        path.write_text(BASE.replace(self.old, self.new) if self.old else BASE, encoding="utf-8")

    def message(self, path: str) -> str:
        """What `edgecoder run` says about it."""
        line = "" if self.line is None else f":{self.line}"
        return f"{self.label or path}{line}: {self.problem}; {self.hint}"


def broken(name: str, old: str, new: str, line: int, problem: str, hint: str) -> Broken:
    """A case that changes the file."""
    assert BASE.count(old) == 1, f"{name} must change one place"
    return Broken(name, old, new, (), "", line, problem, hint)


def flag(name: str, *sets: str, problem: str, hint: str, label: str = "", line: int | None = None) -> Broken:
    """A case that gives flags `--set`."""
    return Broken(name, "", "", sets, label, line, problem, hint)


ENTRY = """\
catalog:
  - modelId: tiny
    displayName: Tiny
    paramSize: 0.5
    quantization: Q4_K_M
    fileSizeBytes: 1000
    sha256: "{sha256}"
    minMemoryMb: 300
    platforms: [ios, node]
"""
