"""Models in an S3-compatible store.

    s3://BUCKET/PREFIX/<federation>/<run>/models/12-<program>-<count>.safetensors

The run is named as its ledger has it: by its folder and by chance, as folders of one name may
belong to several runs.

No account is known here: boto3 finds it by itself, in AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, in ~/.aws/credentials, or by the role of the machine.
"""

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as NoConnection

from coordinator.persistence import patient_sleep
from coordinator.persistence.file_pieces import PIECE_BYTES
from coordinator.persistence.run_errors import ObjectStoreError
from fedmqtt.settings import SettingsError
from fedmqtt.topics import RunId

FIRST_WAIT_S, WAIT_MAX_S = 0.5, 10.0
_LEFT_BEHIND_AFTER = timedelta(days=1)
_DELETED_AT_ONCE = 1000
"""At most, by the interface."""

_BUSY = 500
"""From this HTTP status on it is the store's fault, and may pass."""
_HINTS = {
    "NoSuchBucket": "make the bucket",
    "404": "there is no such bucket: make it",
    "403": "the account may not use this bucket, or is not known",
    "AccessDenied": "the account may not do that",
    "InvalidAccessKeyId": "AWS_ACCESS_KEY_ID or ~/.aws/credentials gives another account",
    "SignatureDoesNotMatch": "the secret is not that of the account",
    "NoCredentialsError": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY give an account, or"
    " ~/.aws/credentials does",
    "EndpointConnectionError": "nobody answers there: start the store, or correct"
    " checkpoint.endpoint",
}
"""What to do, by the store's code of the error, or by boto3's class of it."""

_log = logging.getLogger("coordinator")
for _chatty in ("boto3", "botocore", "s3transfer"):
    # They tell where they found the account, and with --verbose each request and its signature.
    logging.getLogger(_chatty).setLevel(logging.WARNING)

_T = TypeVar("_T")


class S3Store:
    """As it is made, the store has to be there: later on it is waited for."""

    def __init__(
        self, address: str, endpoint: str, federation: str, gives_up: Callable[[], bool]
    ) -> None:
        """`endpoint`: of the service, as a URL; empty: as boto3 finds it."""
        url = urlsplit(address)
        self._address = address
        self._bucket = url.netloc
        self._folder = PurePosixPath(url.path.lstrip("/")) / federation
        self._gives_up = gives_up
        self._program = secrets.token_hex(4)
        self._counter = count()
        try:
            self._client: Any = boto3.Session().client(
                "s3",
                endpoint_url=endpoint or None,
                config=Config(
                    connect_timeout=10,
                    read_timeout=60,
                    retries={"mode": "standard", "max_attempts": 2},
                    # Others than Amazon's do not know the newer checksums; ours is in the ledger.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )
        except (BotoCoreError, ValueError) as bad:
            raise SettingsError(f"checkpoint.store {address}: {_sentence(bad)}") from bad
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except (BotoCoreError, ClientError) as bad:
            raise self._error(bad) from bad

    def put(self, run: RunId, name: str, path: Path) -> str:
        within = PurePosixPath(name)
        once = f"{within.stem}-{self._program}-{next(self._counter)}{within.suffix}"
        key = str(self._folder / run / within.parent / once)
        self._done(lambda: self._client.upload_file(str(path), self._bucket, key))
        return f"s3://{self._bucket}/{key}"

    def pieces(self, address: str) -> Iterator[bytes]:
        reading = _Reading(self._client, *_parted(address))
        while piece := self._done(reading.piece):
            yield piece

    def delete(self, addresses: Iterable[str]) -> None:
        keys: dict[str, list[str]] = {}
        for address in addresses:
            bucket, key = _parted(address)
            keys.setdefault(bucket, []).append(key)
        for bucket, some in keys.items():
            for start in range(0, len(some), _DELETED_AT_ONCE):
                objects = [{"Key": key} for key in some[start : start + _DELETED_AT_ONCE]]
                try:
                    self._client.delete_objects(
                        Bucket=bucket, Delete={"Objects": objects, "Quiet": True}
                    )
                except (BotoCoreError, ClientError) as bad:
                    # It costs room, and nothing else.
                    _log.warning("%s; %d objects are left there", self._error(bad), len(objects))

    def left_behind(self, run: RunId) -> list[str]:
        prefix = f"{self._folder / run}/"
        pages = self._client.get_paginator("list_objects_v2")
        found = self._done(lambda: list(pages.paginate(Bucket=self._bucket, Prefix=prefix)))
        lying = [one for page in found for one in page.get("Contents", ())]
        if not lying:
            return []
        # By its own clock: who writes there now has just written.
        newest = max(one["LastModified"] for one in lying)
        return [
            f"s3://{self._bucket}/{one['Key']}"
            for one in lying
            if one["LastModified"] < newest - _LEFT_BEHIND_AFTER
        ]

    def _done(self, act: Callable[[], _T]) -> _T:
        """What comes of it, as soon as the store can be asked."""
        wait_s, is_told = FIRST_WAIT_S, False
        while True:
            try:
                done = act()
            except (BotoCoreError, ClientError, boto3.exceptions.Boto3Error) as bad:
                failure = self._error(bad)
                if not _may_pass(bad) or not patient_sleep.sleep(wait_s, self._gives_up):
                    raise failure from bad
                if not is_told:
                    _log.warning("%s; it is tried again until it is back", failure)
                is_told, wait_s = True, min(2 * wait_s, WAIT_MAX_S)
            else:
                if is_told:
                    _log.info("checkpoint.store %s is back", self._address)
                return done

    def _error(self, bad: Exception) -> ObjectStoreError:
        return ObjectStoreError(f"checkpoint.store {self._address}: {_sentence(bad)}")


class _Reading:
    """Of one object, from where it broke off: it is the same one, as nobody writes it again."""

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        self._client = client
        self._named = {"Bucket": bucket, "Key": key}
        self._body: Any = None
        self._read = 0

    def piece(self) -> bytes:
        """The next one, empty at the end. To be called again after an error that may pass."""
        try:
            if self._body is None:
                # Of an empty object there is no first byte to ask for.
                rest = {"Range": f"bytes={self._read}-"} if self._read else {}
                self._body = self._client.get_object(**self._named, **rest)["Body"]
            piece: bytes = self._body.read(PIECE_BYTES)
        except BaseException:
            self._body = None
            raise
        self._read += len(piece)
        return piece


def _parted(address: str) -> tuple[str, str]:
    """Bucket and key."""
    url = urlsplit(address)
    return url.netloc, url.path.lstrip("/")


def _may_pass(bad: Exception) -> bool:
    """Whether to try again may help."""
    cause: BaseException | None = bad
    if isinstance(bad, boto3.exceptions.Boto3Error):
        # Of what it met when it uploaded a file.
        cause = bad.__cause__ or bad.__context__
    if isinstance(cause, ClientError):
        status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return int(status) >= _BUSY
    return isinstance(cause, HTTPClientError | NoConnection | IncompleteReadError)


def _sentence(bad: Exception) -> str:
    said = " ".join(str(bad).split())
    code = type(bad).__name__
    if isinstance(bad, ClientError):
        code = bad.response.get("Error", {}).get("Code", "")
    for word, hint in _HINTS.items():
        # What uploads a file only quotes it.
        if word == code or f"({word})" in said:
            return f"{said}; {hint}"
    return said
