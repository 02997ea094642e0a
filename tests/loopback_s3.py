"""An S3 server on loopback for the tests: moto's, which keeps the objects in memory.

It answers as S3 does, also to the write that succeeds only if there is no such object yet, on which a
commit rests. It says nothing about the times and the failures of a real network.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

KEYS = {
    "AWS_ALLOW_HTTP": "true",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "course",
    "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-course",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


def read_once(whole: property) -> property:
    """`FakeKey.value` with its bytes kept: moto reads a whole object again for each range asked of it."""

    def value(key) -> bytes:
        if "kept" not in vars(key):
            key.kept = whole.fget(key)
        return key.kept

    def changed(key, new: bytes) -> None:
        vars(key).pop("kept", None)
        whole.fset(key, new)

    return property(value, changed)


@contextmanager
def serving() -> Iterator[dict[str, str]]:
    """A server with an empty bucket `course`, and what the environment must say to reach it.

    Skips the test where moto[server] is not installed.
    """
    moto_server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    import boto3
    from moto.s3.models import FakeKey

    logging.getLogger("werkzeug").setLevel("ERROR")  # or a line a request
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    environment = KEYS | {"AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port())}
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            boto3.client("s3").create_bucket(Bucket="course")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FakeKey, "value", read_once(FakeKey.value))
            yield environment
    finally:
        server.stop()
