"""Models in a real S3-compatible store: what was put is found, or it is said why it is not."""

import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import structs

from coordinator.config import CheckpointSettings, FederationConfig
from coordinator.models import object_store as object_stores
from coordinator.models import published_model, s3_store
from coordinator.models.object_store import ObjectStore
from coordinator.models.s3_store import S3Store
from coordinator.pacing import Pace
from coordinator.persistence import file_pieces
from coordinator.persistence.ledger import Beginning, Carried
from coordinator.persistence.run_errors import LedgerDamaged, ObjectStoreError
from coordinator.persistence.run_folder import RunFolder
from fedmqtt.settings import SettingsError
from fedmqtt.topics import RoundId, RunId
from fedmqtt.weights import Layout
from tests.coordinator.ledger_books import Books, at_once, books_at
from tests.coordinator.records import RECORD
from tests.own_object_store import BUCKET, SECRET, Store, new_address
from tests.programs import wait_until

RUN = RunId("run-1")
LAYOUT = Layout((("w", (4,)),))
CARRIED = Carried(pace=Pace(over_selection=1.5, deadline_s=60.0), late=0, typical_s=0.0)


def _stored(store: Store, address: str) -> S3Store:
    return S3Store(address, store.endpoint, "fleet", lambda: False)


def test_what_was_put_is_found_under_a_name_that_comes_once(
    object_store: Store, store_address: str, tmp_path: Path
) -> None:
    store = _stored(object_store, store_address)
    path = tmp_path / "1.safetensors"
    # More than is sent at once, and than is read at once.
    large = np.random.default_rng(0).bytes(9_000_000)
    addresses = []
    for data in (large, b"another of that name"):
        path.write_bytes(data)
        addresses.append(store.put(RUN, "models/1.safetensors", path))
    assert [b"".join(store.pieces(one)) for one in addresses] == [large, b"another of that name"]
    keys = object_store.keys(store_address)
    assert all(
        re.fullmatch(r"fleet/run-1/models/1-[0-9a-f]{8}-[01]\.safetensors", key) for key in keys
    )
    store.delete(addresses[:1])
    store.delete(addresses[:1])
    assert object_store.keys(store_address) == [addresses[1].removeprefix(f"{store_address}/")]
    with pytest.raises(ObjectStoreError, match="NoSuchKey"):
        list(store.pieces(addresses[0]))


def test_only_what_is_old_by_the_stores_own_clock_was_left_behind(
    object_store: Store, store_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _stored(object_store, store_address)
    (tmp_path / "file").write_bytes(b"model")
    for name in ("models/1", "models/2"):
        store.put(RUN, name, tmp_path / "file")
    store.put(RunId("run-2"), "models/1", tmp_path / "file")
    assert store.left_behind(RUN) == []
    now = datetime.now(UTC)
    pages = [{"Contents": [{"Key": "a", "LastModified": now - timedelta(hours=25)}]}]
    pages += [{"Contents": [{"Key": "b", "LastModified": now}]}, {}]
    monkeypatch.setattr(store, "_client", _Listing(pages))
    assert store.left_behind(RUN) == [f"s3://{BUCKET}/a"]


class _Listing:
    """A store that says what it has: nobody can wait for a day."""

    def __init__(self, pages: list[dict[str, Any]]) -> None:
        self._pages = pages

    def get_paginator(self, _name: str) -> "_Listing":
        return self

    def paginate(self, **_asked: str) -> list[dict[str, Any]]:
        return self._pages


@contextmanager
def run_folder(books: Books, folder: Path, objects: ObjectStore | None) -> Iterator[RunFolder]:
    place = books.among.take(folder)
    run = RunFolder(
        folder,
        at_once,
        lambda failure: None,
        keeps_models=1,
        storage=place.storage,
        objects=objects,
    )
    try:
        yield run
    finally:
        run.ledger.close()
        place.release()


def _model(value: int) -> published_model.PublishedModel:
    return published_model.make(LAYOUT, np.full(4, value, np.float32), value, 1024)


def _begin(run: RunFolder) -> Beginning:
    beginning = run.name_run("t", LAYOUT)
    run.begin(beginning, _model(0), CARRIED)
    return beginning


def _close(run: RunFolder, beginning: Beginning, number: int) -> None:
    closed = structs.replace(RECORD, round=RoundId(number))
    memory = {"velocity": np.full(4, number, np.float32)}
    run.close_round(closed, (), CARRIED, _model(number), beginning, strategy="s", memory=memory)


def test_another_machine_has_the_ledger_from_the_server_and_the_models_from_the_store(
    object_store: Store, store_address: str, tmp_path: Path, database: str
) -> None:
    with books_at(database, tmp_path) as books:
        there = tmp_path / "there" / books.folder.name
        there.mkdir(parents=True)
        with run_folder(books, books.folder, _stored(object_store, store_address)) as run:
            key = run.noise_key(is_new=True)
            beginning = _begin(run)
            for number in (1, 2, 3):
                _close(run, beginning, number)
        # The newest, and one before it, each with what was remembered; and never the noise's key.
        within = f"fleet/{beginning.run}"
        lying = [key.rsplit("-", 2)[0] for key in object_store.keys(store_address)]
        names = ("memory/2", "memory/3", "models/2", "models/3")
        assert lying == [f"{within}/{name}" for name in names]
        with run_folder(books, there, _stored(object_store, store_address)) as run:
            recovered = run.recover()
            assert recovered is not None and recovered.trained_rounds == 3
            np.testing.assert_array_equal(recovered.flat, np.full(4, 3))
            np.testing.assert_array_equal(recovered.memory["velocity"], np.full(4, 3))
            assert run.noise_key(is_new=False) == key
            _, flat, _ = run.read_model(RoundId(2), LAYOUT)
            np.testing.assert_array_equal(flat, np.full(4, 2))


def test_a_model_that_is_lost_in_the_folder_comes_back_from_the_store(
    object_store: Store, store_address: str, tmp_path: Path
) -> None:
    with books_at("sqlite", tmp_path) as books:
        store = _stored(object_store, store_address)
        with run_folder(books, books.folder, store) as run:
            _close(run, _begin(run), 1)
        (books.folder / "models" / "1.safetensors").write_bytes(b"damaged")
        with run_folder(books, books.folder, store) as run:
            recovered = run.recover()
            assert recovered is not None
            np.testing.assert_array_equal(recovered.flat, np.ones(4))
        (books.folder / "models" / "1.safetensors").unlink()
        with (
            run_folder(books, books.folder, None) as run,
            pytest.raises(LedgerDamaged, match=f"it lies in {store_address}/.*store is empty"),
        ):
            run.recover()


def test_runs_whose_folders_have_one_name_leave_each_others_models_alone(
    object_store: Store,
    store_address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with books_at("sqlite", tmp_path) as books:
        folders = [tmp_path / above / "first" for above in ("train", "evaluations")]
        for folder in folders:
            folder.mkdir(parents=True)
            with run_folder(books, folder, _stored(object_store, store_address)) as run:
                _begin(run)
        lying = object_store.keys(store_address)
        # More than a day later, when one of them has just written.
        monkeypatch.setattr(s3_store, "_LEFT_BEHIND_AFTER", timedelta(days=-1))
        for folder in folders:
            with run_folder(books, folder, _stored(object_store, store_address)) as run:
                run.recover()
        assert len(lying) == 2 and object_store.keys(store_address) == lying


def test_a_model_is_found_and_deleted_where_the_ledger_says_that_it_lies(
    object_store: Store, store_address: str, tmp_path: Path
) -> None:
    with books_at("sqlite", tmp_path) as books:
        store = _stored(object_store, store_address)
        with run_folder(books, books.folder, store) as run:
            beginning = _begin(run)
            (name,) = run.ledger.files()
            path = books.folder / name
            # Below the name of the folder, as in runs that were begun when that was the key.
            address = store.put(RunId(books.folder.name), name, path)
            store.delete(str(file.address) for file in run.ledger.files().values())
            run.ledger.name_file(name, file_pieces.digest_of(path), address)
        path.unlink()
        with run_folder(books, books.folder, store) as run:
            assert run.recover() is not None and path.exists()
            for number in (1, 2):
                _close(run, beginning, number)
        assert {key.split("/")[1] for key in object_store.keys(store_address)} == {beginning.run}


def test_an_object_that_was_changed_is_found_out(
    object_store: Store, store_address: str, tmp_path: Path
) -> None:
    with books_at("sqlite", tmp_path) as books:
        store = _stored(object_store, store_address)
        with run_folder(books, books.folder, store) as run:
            _begin(run)
        prefix = store_address.rpartition("/")[2]
        (key,) = object_store.keys(store_address)
        object_store.client.put_object(Bucket=BUCKET, Key=f"{prefix}/{key}", Body=b"another model")
        (books.folder / "models" / "0.safetensors").unlink()
        with (
            run_folder(books, books.folder, store) as run,
            pytest.raises(LedgerDamaged, match="is not the file that was written there"),
        ):
            run.recover()
        assert not (books.folder / "models" / "0.safetensors").exists()


def test_a_store_that_is_away_is_waited_for(
    own_object_store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "model"
    path.write_bytes(b"model")
    address = new_address()
    store = _stored(own_object_store, address)
    own_object_store.stop()
    addresses: list[str] = []
    putting = threading.Thread(target=lambda: addresses.append(store.put(RUN, "models/1", path)))
    putting.start()
    wait_until(lambda: "it is tried again until it is back" in caplog.text)
    assert addresses == []
    own_object_store.start()
    putting.join()
    assert b"".join(store.pieces(addresses[0])) == b"model"
    assert f"checkpoint.store {address} is back" in caplog.text


def test_a_store_that_goes_away_in_the_middle_of_an_object_is_waited_for(
    own_object_store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model"
    # More than lies between it and us when it goes.
    path.write_bytes(large := np.random.default_rng(0).bytes(40_000_000))
    store = _stored(own_object_store, new_address())
    pieces = store.pieces(store.put(RUN, "models/1", path))
    read = [next(pieces)]
    own_object_store.stop()
    reading = threading.Thread(target=lambda: read.extend(pieces))
    reading.start()
    wait_until(lambda: "it is tried again until it is back" in caplog.text)
    assert sum(map(len, read)) < len(large)
    own_object_store.start()
    reading.join()
    assert b"".join(read) == large


def test_who_is_stopped_meanwhile_says_that_the_store_is_away(
    own_object_store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"model")
    store = S3Store(new_address(), own_object_store.endpoint, "fleet", lambda: True)
    own_object_store.stop()
    with pytest.raises(ObjectStoreError, match=r"checkpoint\.store .*Could not connect"):
        store.put(RUN, "models/1", path)
    own_object_store.start()


@pytest.mark.parametrize(
    ("changed", "account", "complaint"),
    [
        ({"store": "s3://nowhere"}, {}, "there is no such bucket: make it"),
        (
            {"endpoint": "http://127.0.0.1:1"},
            {},
            "Could not connect .*; nobody answers there: start",
        ),
        ({"endpoint": "minio"}, {}, "Invalid endpoint: minio"),
        ({}, {"AWS_SECRET_ACCESS_KEY": "another"}, "may not use this bucket, or is not known"),
        ({}, {"AWS_ACCESS_KEY_ID": "another"}, "may not use this bucket, or is not known"),
        (
            {},
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "Unable to locate credentials; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY give",
        ),
    ],
    ids=["no bucket", "no store", "no endpoint", "wrong secret", "wrong account", "no account"],
)
def test_what_is_wrong_with_the_way_to_the_store_is_said_in_a_sentence(
    object_store: Store,
    store_address: str,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, str],
    account: dict[str, str],
    complaint: str,
) -> None:
    # Neither this machine's account, nor its role's: that is looked for elsewhere for seconds.
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in account.items():
        monkeypatch.setenv(name, value)
    chosen = {"store": store_address, "endpoint": object_store.endpoint, **changed}
    config = FederationConfig(
        name="fleet", task="digits", checkpoint=msgspec.convert(chosen, CheckpointSettings)
    )
    with pytest.raises((SettingsError, ObjectStoreError), match=complaint) as found:
        object_stores.of(config, lambda: False)
    said = str(found.value)
    assert said.startswith(f"checkpoint.store {chosen['store']}: ")
    assert "\n" not in said and SECRET not in said


def test_without_its_client_it_is_said_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "coordinator.models.s3_store")
    monkeypatch.setitem(sys.modules, "boto3", None)
    config = FederationConfig(
        name="fleet", task="digits", checkpoint=CheckpointSettings(store="s3://bucket")
    )
    with pytest.raises(SettingsError, match=r"needs what `pip install 'fedmqtt\[s3\]'` brings"):
        object_stores.of(config, lambda: False)
