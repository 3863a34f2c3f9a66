"""No decoder is left out: each module that makes values of bytes is here, and what tries it.

Where nothing does it says why. docs/security.md tells the same to people.
"""

import re
from pathlib import Path

from tests.fuzz.table import DECODERS

ROOT = Path(__file__).parents[2]
PACKAGES = (
    *("fedmqtt", "edge_client", "coordinator", "learning_tasks", "round_monitor"),
    *("broker_config", "fleet_sim", "keyholder", "site_aggregator"),
)

_DECODES = re.compile(
    r"msgspec\.(json|msgpack)\.(decode|Decoder)|msgpack\.Unpack|unpackb|tomllib\.loads|json\.loads?\("
    r"|np\.frombuffer|int\.from_bytes|np\.load(txt)?\(|safe_open|safetensors\.numpy\.load"
    r"|sqlite3\.connect|ZstdDecompressor|gzip\.|urlsplit\(|csv\.reader|x509\.load_|file_header\.read"
)

ANSWER = ("payload", "answer")
TRIED: dict[str, tuple[str, ...]] = {
    "broker_config/doctor/checks/clock.py": ("round_page",),
    "broker_config/kit.py": ("kit_toml",),
    "coordinator/sums/answers.py": ("answer",),
    "coordinator/models/checkpoint.py": ("checkpoint",),
    "coordinator/persistence/ledger.py": ("ledger", "ledger_cell"),
    "coordinator/intake/quarantine_file.py": ("standings", "order"),
    "coordinator/persistence/recovery.py": ("ledger", "ledger_cell"),
    "coordinator/persistence/sqlite_storage.py": ("ledger", "ledger_cell"),
    "edge_client/device_memory.py": ("device_memory",),
    "edge_client/outbox.py": ("outbox",),
    "edge_client/personal_layers.py": ("personal_layers",),
    "edge_client/remembered.py": ("device_memory",),
    "edge_client/training_job.py": ("trainer_says", "trainer_hears"),
    "edge_client/disclosed_file.py": ("disclosed",),
    "edge_client/known_model.py": ("known_models",),
    "edge_client/rounds_done.py": ("rounds_done",),
    "fedmqtt/chunks.py": ("chunks", "go"),
    "fedmqtt/codec_blocks.py": ANSWER,
    "fedmqtt/codec_chain.py": ("codec_name", *ANSWER),
    "fedmqtt/codecs/bfloat16.py": ANSWER,
    "fedmqtt/codecs/eden.py": ANSWER,
    "fedmqtt/codecs/float16.py": ANSWER,
    "fedmqtt/codecs/full.py": ANSWER,
    "fedmqtt/codecs/int4.py": ANSWER,
    "fedmqtt/codecs/int8.py": ANSWER,
    "fedmqtt/codecs/lowrank.py": ANSWER,
    "fedmqtt/codecs/topk.py": ANSWER,
    "fedmqtt/codecs/zstd.py": ANSWER,
    "fedmqtt/credentials.py": ("credentials",),
    "fedmqtt/data_query.py": ("question", "sums"),
    "fedmqtt/delta_spans.py": ("delta",),
    "fedmqtt/deltas.py": ("delta",),
    "fedmqtt/exact_total.py": ("total",),
    "fedmqtt/file_header.py": ("model_file", "delta"),
    "fedmqtt/masking/attested.py": ("attested",),
    "fedmqtt/masking/committee.py": ("hidden_answer",),
    "fedmqtt/masking/listing.py": ("answer_list",),
    "fedmqtt/masking/measured.py": ("opened_sum",),
    "fedmqtt/masking/packing.py": ("masked_payload",),
    "fedmqtt/masking/commitments.py": ("committed_seeds",),
    "fedmqtt/masking/sealing.py": ("sealed_seeds",),
    "fedmqtt/masking/values.py": ("opened_sum",),
    "fedmqtt/messages.py": (
        *("offer", "presence", "from_client", "to_client", "among_coordinators"),
        *("from_operator", "order_answer", "from_worker", "to_worker", "sum"),
    ),
    "fedmqtt/mqtt_link.py": ("broker_url",),
    "fedmqtt/revocations.py": ("revoked_keys",),
    "fedmqtt/settings.py": ("federation_toml", "client_toml", "override", "fleet_toml"),
    "fedmqtt/signing.py": (
        *("signed_by_device", "signed_by_coordinator", "signed_by_operator", "signed_by_worker"),
        "key",
    ),
    "fedmqtt/status_pages.py": ("status_page",),
    "fedmqtt/topics.py": ("topic", "federation_name"),
    "fedmqtt/weights.py": ("model_file",),
    "keyholder/book.py": ("keyholders_book",),
    "keyholder/taken.py": ("taken",),
    "keyholder/participations.py": ("participations",),
    "round_monitor/run_files.py": ("history", "shut_out", "lab_page"),
    "round_monitor/run_page.py": ("history", "lab_page"),
}

OWN = "what this program itself has just written"
HASHED = "read once its hash is seen to be the one that the ledger, or the file, tells"
OPERATOR = "a file that the operator chose; its own tests damage it"
SETTING = "a setting that the operator wrote; test_checks.py damages it"
CHANCE = "makes chance of a hash, and decodes nothing"
UNTRIED: dict[str, str] = {
    "broker_config/certificates.py": "the kit's own files, by the cryptography package",
    "coordinator/aggregation/inverse_participation.py": HASHED,
    "coordinator/sums/client_store.py": HASHED,
    "coordinator/sums/counted.py": HASHED,
    "coordinator/persistence/earlier_runs.py": OWN,
    "coordinator/persistence/history.py": OWN,
    "coordinator/persistence/ledger_url.py": SETTING,
    "coordinator/persistence/moved_ledger.py": OWN,
    "coordinator/models/object_store.py": SETTING,
    "coordinator/models/s3_store.py": OWN,
    "coordinator/statistics/asked.py": OWN,
    "coordinator/sums/strategy_memory.py": HASHED,
    "coordinator/workers/partial_sum.py": "its length was found right; test_hostile_worker.py",
    "coordinator/task_process.py": "a child's, which this program has started",
    "edge_client/masked_answer.py": "what the agent has just encoded",
    "edge_client/trainer.py": CHANCE,
    "fedmqtt/codec_chance.py": CHANCE,
    "fedmqtt/privacy/noise.py": "its own chance, which nobody else writes",
    "fedmqtt/rotation.py": CHANCE,
    "fedmqtt/sortition.py": CHANCE,
    "fleet_sim/demo.py": OWN,
    "fleet_sim/tables.py": OPERATOR,
    "fleet_sim/training/bench.py": OWN,
    "fleet_sim/training/worker.py": OWN,
    "learning_tasks/har.py": OPERATOR,
    "learning_tasks/linear.py": OPERATOR,
    "learning_tasks/mnist_files.py": OPERATOR,
    "learning_tasks/phonewatch_devices.py": OPERATOR,
    "learning_tasks/split_data.py": OPERATOR,
    "round_monitor/picture.py": OWN,
    "site_aggregator/kept_job.py": HASHED,
}


def _decoding() -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if _DECODES.search(path.read_text())
    }


def test_every_module_that_decodes_is_tried_or_says_why_not() -> None:
    assert _decoding() - TRIED.keys() - UNTRIED.keys() == set()


def test_nothing_is_listed_that_is_not_there_any_more() -> None:
    assert [name for name in TRIED if not (ROOT / name).is_file()] == []
    assert UNTRIED.keys() <= _decoding() and not UNTRIED.keys() & TRIED.keys()


def test_every_decoder_is_of_a_module() -> None:
    assert {name for names in TRIED.values() for name in names} == DECODERS.keys()


def test_people_are_told_of_each() -> None:
    told = (ROOT / "docs" / "security.md").read_text()
    assert [name for name in DECODERS if f"`{name}`" not in told] == []
