"""Have disk and memory of this machine room for the model?

Its size is in the offer, where there is one. What is needed for it is an estimate: for a device the
model, what it is trained to and its answer on the disk, and in memory besides them gradients,
momentum and torch; for a coordinator the sum of a round in 64 bits, and the last rounds' models.
"""

import shutil
from pathlib import Path

from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, failed, not_checked, ok
from fedmqtt import messages
from fedmqtt.envelope import BadSignature
from fedmqtt.messages import WireError

NEEDS = ()
AFTER = ("login",)

_MIB = 1024 * 1024
_TORCH_BYTES = 300 * _MIB
_DISK_MODELS = {"device": 4, "coordinator": 20}
_MEMORY_MODELS = {"device": 6, "coordinator": 8}
_MEMORY_INFO = Path("/proc/meminfo")


def check(case: Case) -> Finding:
    if case.role in ("monitor", "operator", "worker"):
        return not_checked(f"{case.role}s hold no model")
    size = case.needs.model_bytes or (_offered(case) if case.welcome is not None else None)
    if size is None:
        why = "no offer says" if case.welcome is not None else "no offer was looked at to see"
        return not_checked(f"{why} how large the model is; say it with --model-mb")
    disk = shutil.disk_usage(_existing(case.state)).free
    memory = _memory_available()
    disk_needed = _DISK_MODELS[case.role] * size
    memory_needed = _MEMORY_MODELS[case.role] * size
    memory_needed += _TORCH_BYTES if case.role == "device" else 0
    says = (
        f"model of {_mb(size)}: disk {_mb(disk)} free, about {_mb(disk_needed)} needed; memory "
        + (f"{_mb(memory)} free" if memory is not None else "not told here")
        + f", about {_mb(memory_needed)} needed"
    )
    if disk < disk_needed:
        return failed(
            says,
            "An answer that cannot be written is not given.",
            {"": f"make room at {case.state}, or --state DIR on another disk"},
        )
    if memory is not None and memory < memory_needed:
        return failed(
            says,
            "The system would end the program in the middle of a round.",
            {"": "more memory or swap, a smaller model, or a smaller batch"},
        )
    return ok(says)


def _offered(case: Case) -> int | None:
    try:
        with case.connected() as probe:
            offer = case.offer(probe)
        return messages.read_offer(offer or b"").model.size_bytes
    except (BadSignature, WireError):
        return None


def _existing(folder: Path) -> Path:
    """It, or the folder in which it would be made."""
    while not folder.exists():
        folder = folder.parent
    return folder


def _memory_available() -> int | None:
    """Bytes; None where the system does not say it in Linux's way."""
    if not _MEMORY_INFO.exists():
        return None
    for line in _MEMORY_INFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _mb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size > 1e9 else f"{max(size / 1e6, 0.1):.1f} MB"
