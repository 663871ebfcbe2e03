"""Which machine the numbers are of."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """What decides how fast things are here. `load` is the load average of the last minute."""

    cores: int
    processor: str
    memory_mb: int
    kernel: str
    python: str
    load: float

    @property
    def shown(self) -> str:
        """In one line."""
        processor = f"{self.cores} cores ({self.processor})"
        return f"{processor}, {self.memory_mb / 1000:.1f} GB memory, {self.kernel}, load {self.load:.2f}"


def this_machine() -> Machine:
    """Look at the machine that this process runs on; cluster and client share it."""
    return Machine(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        processor=_told("/proc/cpuinfo", r"model name\s*: (.+)") or platform.processor() or platform.machine(),
        memory_mb=int(_told("/proc/meminfo", r"MemTotal:\s+(\d+)") or 0) * 1024 // 1_000_000,
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        load=round(os.getloadavg()[0], 2),
    )


def _told(path: str, pattern: str) -> str:
    """What a file under /proc says, where there is one."""
    place = Path(path)
    found = re.search(pattern, place.read_text()) if place.exists() else None
    return found[1].strip() if found else ""
