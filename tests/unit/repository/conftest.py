import contextlib
import functools
import http.server
import os
import tempfile
import threading
import types
import uuid
import zipfile
from pathlib import Path

import h5py
import pytest

from serve.repository.repository import Repository


@pytest.fixture(params=["local", "memory"])
def repository(request, tmp_path):
    """An empty repository on a disk, and one in an object store that lives in this process."""
    roots = {"local": str(tmp_path / "root"), "memory": f"memory://{uuid.uuid4().hex}"}
    (tmp_path / "root").mkdir()
    return Repository(roots[request.param], tmp_path / "cache")


@pytest.fixture(params=["local", "s3"])
def repository_url(request, tmp_path):
    """The root of an empty repository that other processes see as well."""
    if request.param == "s3":
        return request.getfixturevalue("s3")
    (tmp_path / "root").mkdir()
    return str(tmp_path / "root")


@pytest.fixture
def local(tmp_path):
    (tmp_path / "root").mkdir()
    return Repository(str(tmp_path / "root"), tmp_path / "cache")


@pytest.fixture
def readable_root():
    """A repository's root that every user may read, as far as the modes of what is in it allow."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@contextlib.contextmanager
def unprivileged():
    """Have the modes of files count in the block, also where the tests run as root."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.fixture
def put(tmp_path):
    """Copy a folder into a repository by hand, without a manifest."""

    def put(repository, folder, model, version):
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            target = f"{model}/{version}/{path.relative_to(folder).as_posix()}"
            if repository.is_local:
                repository.store.local_path(target).parent.mkdir(parents=True, exist_ok=True)
            repository.store.upload(path, target)

    return put


@pytest.fixture
def keras_file(tmp_path):
    return make_keras(tmp_path / "source.keras")


@pytest.fixture
def saved_model(tmp_path):
    return make_saved_model(tmp_path / "saved")


@pytest.fixture
def http_root(tmp_path):
    """A folder and the URL at which a plain HTTP server lists it."""
    folder = tmp_path / "www"
    folder.mkdir()
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *a: None})
    handler = functools.partial(quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def s3_server():
    """Run a server that speaks S3; yield its URL."""
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """The URL of an empty bucket on a real S3-like server, with the environment to reach it."""
    s3fs = pytest.importorskip("s3fs", minversion="2025.3")
    import boto3

    for key, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(key, value)
    s3fs.S3FileSystem.clear_instance_cache()  # the one before may know another server
    bucket = f"models-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}"


@pytest.fixture(scope="session")
def make():
    """What writes models: make.keras(file), make.h5(file), make.saved_model(folder)."""
    return types.SimpleNamespace(keras=make_keras, h5=make_h5, saved_model=make_saved_model)


def make_keras(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", "{}")
        file.writestr("model.weights.h5", os.urandom(3000))
    return path


def make_h5(path):
    with h5py.File(path, "w") as file:
        file["weights"] = list(range(500))
    return path


def make_saved_model(folder, shards=2):
    """Write what TensorFlow 2 writes, as far as its lengths go: 600 bytes in each shard."""
    (folder / "variables").mkdir(parents=True)
    (folder / "assets").mkdir()
    graph = field(2, b"graph" * 100) + field(7, b"objects" * 30)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01" + field(2, graph))
    entries = {b"": b""} | {
        b"weights/%d" % i: b"\x18" + varint(i) + b"\x20" + varint(100) + b"\x28" + varint(500)
        for i in range(shards)
    }
    (folder / "variables/variables.index").write_bytes(table(entries))
    for i in range(shards):
        shard = folder / f"variables/variables.data-{i:05d}-of-{shards:05d}"
        shard.write_bytes(os.urandom(600))
    return folder


def field(number, payload):
    return varint(number * 8 + 2) + varint(len(payload)) + payload


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def table(entries):
    """A LevelDB table of one block; keys share their prefix with the key before."""
    data, last = b"", b""
    for key, value in entries.items():
        shared = len(key) - 1 if last and key[:-1] == last[:-1] else 0
        data += varint(shared) + varint(len(key) - shared) + varint(len(value))
        data, last = data + key[shared:] + value, key
    block = data + bytes(4) + (1).to_bytes(4, "little")
    handle = varint(0) + varint(len(block))
    index = varint(0) + varint(1) + varint(len(handle)) + b"x" + handle
    index += bytes(4) + (1).to_bytes(4, "little")
    footer = varint(0) * 2 + varint(len(block) + 5) + varint(len(index))
    magic = 0xDB4775248B80FB57.to_bytes(8, "little")
    return block + bytes(5) + index + bytes(5) + footer.ljust(40, b"\0") + magic
