"""Does the simulated swarm predict libtorrent? Both run the same flash crowd: the real one over loopback.

One source and twenty peers, each a libtorrent session of its own in this process on its own address; 32 MiB in pieces
of 256 KiB, upload rate limits of 2 MiB/s, nothing else limited, no encryption, every peer told of every other and of
none by another (no peer exchange). A seed creates its sessions at the same times in both, drawn from one second, and
starts the peers half a second later; all else that is random is drawn anew by each.

Errors are those of the means over seeds, simulated against real: last finish, time to half of all bytes, copies that
the source sends. Nothing in the simulator is fitted to them. How late a sleeping thread wakes says whether the machine
disturbed the real runs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import libtorrent

from edgecoder_sim.swarm.settings import DEFAULT, TUNED, Settings, Torrent
from edgecoder_sim.swarm.swarm import START_US, Swarm

MIB = 1 << 20
PIECE_BYTES = 256 * 1024
UPLOAD_BYTES_PER_S = 2 * MIB
POLL_S = 0.05
LIMIT_S = 300
LATE_WAKE_S = 0.020
"""A run whose loop wakes later than this at the 99th percentile is called disturbed."""
FIGURES = ("last_finish_s", "t50_s", "copies", "wasted_share", "uplink_use")
SIMULATED_PER_REAL = 4
"""Seeds are cheap in the simulator."""
LIBTORRENT_NAMES = {
    "unchoke_interval_s": "unchoke_interval",
    "optimistic_unchoke_interval_s": "optimistic_unchoke_interval",
    "request_queue_time_s": "request_queue_time",
    "whole_pieces_threshold_s": "whole_pieces_threshold",
    "request_timeout_s": "request_timeout",
    "piece_timeout_s": "piece_timeout",
    "send_buffer_low_watermark_bytes": "send_buffer_low_watermark",
    "send_buffer_watermark_bytes": "send_buffer_watermark",
    "send_buffer_watermark_percent": "send_buffer_watermark_factor",
    "tick_interval_ms": "tick_interval",
}


@dataclass(frozen=True)
class Measured:
    """One run, real or simulated."""

    last_finish_s: float
    t50_s: float
    copies: float
    wasted_share: float
    """Blocks that came again, of all that was to come."""
    uplink_use: float
    """Bytes of blocks that were sent, of what the upload limits allow up to the last finish."""
    late_wake_s: float = 0.0
    """Of the thread that watches a real run, 99th percentile."""


def simulate(torrent: Torrent, peers: int, settings: Settings, seed: int) -> Measured:
    """The model's run."""
    swarm = Swarm(torrent, [UPLOAD_BYTES_PER_S] * (peers + 1), seed, settings, created_us=created_us(peers, seed))
    outcome = swarm.run(LIMIT_S)
    if len(outcome.finishes_s) < peers or outcome.half_s is None:
        raise RuntimeError(f"seed {seed}: not all simulated peers finished within {LIMIT_S} s")
    return Measured(
        outcome.finishes_s[-1],
        outcome.half_s,
        outcome.source_copies,
        sum(outcome.wasted_bytes) / (peers * torrent.size_bytes),
        uplink_use(sum(outcome.sent_bytes), peers, outcome.finishes_s[-1]),
    )


def uplink_use(sent_bytes: int, peers: int, last_finish_s: float) -> float:
    """What was sent of what could have been."""
    return sent_bytes / ((peers + 1) * UPLOAD_BYTES_PER_S * last_finish_s)


def created_us(peers: int, seed: int) -> list[int]:
    """When each session begins, the source's first, in whole milliseconds."""
    rng = random.Random(seed)
    return [rng.randrange(1000) * 1000 for _ in range(peers + 1)]


class Wakes(threading.Thread):
    """Notes how late a thread that sleeps is woken."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._is_over = threading.Event()
        self.late_s: list[float] = []

    def run(self) -> None:
        """Sleep again and again."""
        while True:
            due_s = time.monotonic() + 0.01
            if self._is_over.wait(0.01):
                return
            self.late_s.append(time.monotonic() - due_s)

    def stop(self) -> float:
        """Returns the 99th percentile."""
        self._is_over.set()
        self.join()
        return sorted(self.late_s)[len(self.late_s) * 99 // 100]


class RealSwarm:
    """Libtorrent sessions on addresses of the loopback network."""

    def __init__(self, torrent: Torrent, peers: int, settings: Settings, seed: int, folder: Path, port: int) -> None:
        self._torrent = torrent
        self._port = port
        self._folder = folder
        source = folder / "0"
        source.mkdir()
        (source / "file").write_bytes(random.Random(seed).randbytes(torrent.size_bytes))
        made = libtorrent.create_torrent(
            libtorrent.list_files(str(source / "file")), torrent.piece_bytes, libtorrent.create_torrent.v1_only
        )
        libtorrent.set_piece_hashes(made, str(source))
        self._info = libtorrent.torrent_info(made.generate())
        self._settings = {
            LIBTORRENT_NAMES.get(field.name, field.name): getattr(settings, field.name) for field in fields(settings)
        }
        self._sessions: list[Any] = [None] * (peers + 1)
        self._handles: list[Any] = [None] * (peers + 1)
        self._start_s = self._create(created_us(peers, seed))

    def _create(self, at_us: Sequence[int]) -> float:
        """Create each session at its time; returns when to start."""
        make_session: Any = libtorrent.session  # its stub does not know that a dict will do
        begin_s = time.monotonic() + 0.1
        for number in sorted(range(len(at_us)), key=at_us.__getitem__):
            time.sleep(max(0.0, begin_s + at_us[number] / 1e6 - time.monotonic()))
            # Without flags there are no plugins: peer exchange would make double connections, which are closed again.
            self._sessions[number] = session = make_session(self._session_settings(number), 0)
            everybody = libtorrent.ip_filter()
            everybody.add_rule("0.0.0.0", "255.255.255.255", 1 << int(libtorrent.session.global_peer_class_id))
            session.set_peer_class_filter(everybody)
            torrent = libtorrent.add_torrent_params()
            torrent.ti = self._info
            torrent.save_path = str(self._folder / str(number))
            torrent.flags = libtorrent.torrent_flags.paused if number else libtorrent.torrent_flags.seed_mode
            self._handles[number] = session.add_torrent(torrent)
        return begin_s + START_US / 1e6

    def _address(self, number: int) -> str:
        return f"127.0.{10 + number // 250}.{1 + number % 250}"

    def _session_settings(self, number: int) -> dict[str, Any]:
        return {
            **self._settings,
            "listen_interfaces": f"{self._address(number)}:{self._port}",
            "outgoing_interfaces": self._address(number),
            **dict.fromkeys(("enable_dht", "enable_lsd", "enable_upnp", "enable_natpmp"), False),
            **dict.fromkeys(("enable_outgoing_utp", "enable_incoming_utp"), False),
            "upload_rate_limit": UPLOAD_BYTES_PER_S,
            "rate_limit_ip_overhead": False,
            "allow_multiple_connections_per_ip": True,
            "connection_speed": 500,
            "connections_limit": 500,
            "out_enc_policy": 2,
            "in_enc_policy": 2,
            "close_redundant_connections": False,
            "alert_mask": 0,
            "aio_threads": 1,
            "hashing_threads": 1,
        }

    def run(self) -> Measured:
        """Start the peers and watch until all have finished."""
        time.sleep(max(0.0, self._start_s - time.monotonic()))
        wakes = Wakes()
        wakes.start()
        peers = range(1, len(self._handles))
        for number in peers:
            self._handles[number].resume()
        for number in peers:
            for other in range(number):
                self._handles[number].connect_peer((self._address(other), self._port))
        whole_and_parts = libtorrent.status_flags_t.query_accurate_download_counters
        half_s, finished_s, all_bytes = None, 0.0, len(peers) * self._torrent.size_bytes
        unfinished = set(peers)
        while unfinished:
            time.sleep(POLL_S)
            now_s = time.monotonic() - self._start_s
            if now_s > LIMIT_S:
                raise RuntimeError(f"not all real peers finished within {LIMIT_S} s")
            done = {number: self._handles[number].status(whole_and_parts).total_wanted_done for number in unfinished}
            finished = {number for number, size in done.items() if size == self._torrent.size_bytes}
            got_bytes = sum(done.values()) + (len(peers) - len(unfinished)) * self._torrent.size_bytes
            if half_s is None and 2 * got_bytes >= all_bytes:
                half_s = now_s - POLL_S / 2
            unfinished -= finished
            finished_s = now_s - POLL_S / 2
        status = [handle.status() for handle in self._handles]
        wasted = sum(one.total_redundant_bytes + one.total_failed_bytes for one in status)
        assert half_s is not None
        return Measured(
            finished_s,
            half_s,
            status[0].total_payload_upload / self._torrent.size_bytes,
            wasted / all_bytes,
            uplink_use(sum(one.total_payload_upload for one in status), len(peers), finished_s),
            wakes.stop(),
        )


def measure_real(torrent: Torrent, peers: int, settings: Settings, seed: int) -> Measured:
    """Libtorrent's run."""
    with tempfile.TemporaryDirectory(prefix="swarm-") as folder:
        return RealSwarm(torrent, peers, settings, seed, Path(folder), 20_000 + os.getpid() % 1000 * 20 + seed).run()


def summary(runs: Sequence[Measured], fluid_s: float) -> dict[str, Any]:
    """Means, and the least and the most, of each figure."""
    columns = {name: [getattr(run, name) for run in runs] for name in FIGURES}
    columns["finish_over_fluid"] = [run.last_finish_s / fluid_s for run in runs]
    return {
        name: [round(value, 3) for value in (statistics.mean(column), min(column), max(column))]
        for name, column in columns.items()
    }


def errors(simulated: Sequence[Measured], real: Sequence[Measured]) -> dict[str, float]:
    """Relative errors of the means."""
    result = {}
    for key, name in (("last_finish_error", "last_finish_s"), ("t50_error", "t50_s"), ("copies_error", "copies")):
        ours, theirs = (statistics.mean(getattr(run, name) for run in runs) for runs in (simulated, real))
        result[key] = round(abs(ours - theirs) / theirs, 4)
    return result


def main() -> None:
    """Run every pair and print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three seeds, 8 MiB")
    parser.add_argument("--tuned", action="store_true", help="settings for a flash crowd, not libtorrent's defaults")
    arguments = parser.parse_args()
    seeds = range(1, 4 if arguments.quick else 6)
    peers = 20
    torrent = Torrent((8 if arguments.quick else 32) * MIB, PIECE_BYTES)
    settings = TUNED if arguments.tuned else DEFAULT
    real = [measure_real(torrent, peers, settings, seed) for seed in seeds]
    more = range(1, 1 + SIMULATED_PER_REAL * len(seeds))
    simulated = [simulate(torrent, peers, settings, seed) for seed in more]
    fluid_s = torrent.size_bytes / UPLOAD_BYTES_PER_S
    conditions = {
        "libtorrent": libtorrent.version,
        "settings": "tuned" if arguments.tuned else "default",
        "changed": {name: value for name, value in asdict(settings).items() if value != getattr(DEFAULT, name)},
        "peers": peers,
        "file_mib": torrent.size_bytes // MIB,
        "seeds": {"real": len(real), "simulated": len(simulated)},
        "mean_min_max": {"real": summary(real, fluid_s), "simulated": summary(simulated, fluid_s)},
        "late_wake_p99_ms": [round(1000 * run.late_wake_s, 1) for run in real],
        "disturbed_runs": sum(run.late_wake_s > LATE_WAKE_S for run in real),
        "quick": arguments.quick,
    }
    print(json.dumps({"benchmark": "sim_vs_libtorrent", "metrics": errors(simulated, real), "conditions": conditions}))


if __name__ == "__main__":
    main()
