"""This checkout as an archive in the bucket: packed once, uploaded once."""

import pytest

pytest.importorskip("google.cloud.tpu_v2")

from tests.launch.engines.cloud_tpu.orders import ORDER, make

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, of archives


def test_the_same_checkout_is_uploaded_once(server, store, buckets):
    engine = make(server, store)
    engine.submit(ORDER, 1)
    engine.submit(ORDER, 2)
    assert len(list(buckets.names("gs://bucket/store/code/"))) == 1
    uploads = [path for method, path in buckets.requests if method == "POST" and "name=store/code" in path]
    assert len(uploads) == 1
