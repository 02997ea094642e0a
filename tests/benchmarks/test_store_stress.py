"""A hundred writers killed in the middle of their work, in a folder and on object storage.

The same as in tests/test_store.py and tests/test_store_s3.py, with other seeds. Minutes; not in
`make test`.
"""

import itertools

import store_writer
from test_store_s3 import bucket, server  # noqa: F401 - fixtures


def test_a_hundred_kills_lose_nothing(tmp_path):
    done = store_writer.until_every_kind(lambda n: tmp_path / str(n), itertools.count(1000), kills=100)
    print(f"\n{store_writer.report(done)}")
    store_writer.hold(done, kills=100)


def test_twenty_kills_on_object_storage(bucket):  # noqa: F811
    done = store_writer.until_every_kind(lambda n: f"{bucket}/{n}", itertools.count(2000), kills=20)
    print(f"\n{store_writer.report(done)}")
    store_writer.hold(done, kills=20)
