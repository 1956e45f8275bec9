#!/usr/bin/env python3
"""Write an image archive to standard output from the tar files of its layers.

The archive is an OCI layout that `docker load` and `ctr images import` both read. Layers stay
uncompressed: they travel no further than a local containerd. `--skip` names a file of digests that
the reader has already; their bytes are left out.
"""

import argparse
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any


def main() -> None:
    """Write the archive that the command line describes."""
    options = _options()
    layers = {_digest(path): path for path in options.layers}
    config = _json(_config(options, list(layers)))
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": f"sha256:{digest}",
                    "size": path.stat().st_size,
                }
                for digest, path in layers.items()
            ],
        }
    )
    skipped = set(options.skip.read_text().split()) if options.skip else set()
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", _json(_index(options.tag, manifest)))
        _add(archive, "manifest.json", _json(_docker_manifest(options.tag, config, list(layers))))
        for blob in (config, manifest):
            _add(archive, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
        for digest, path in layers.items():
            if f"sha256:{digest}" not in skipped:
                archive.add(path, f"blobs/sha256/{digest}", filter=_plain)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag", required=True, help="name:tag of the image")
    parser.add_argument("--skip", type=Path, help="file of digests to leave out")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--user", default="0")
    parser.add_argument("--workdir", default="/")
    parser.add_argument("--entrypoint", nargs="*", default=[])
    parser.add_argument("--layers", nargs="+", type=Path, required=True, help="lowest first")
    return parser.parse_args()


def _config(options: argparse.Namespace, layers: list[str]) -> dict[str, Any]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": options.user,
            "WorkingDir": options.workdir,
            "Env": options.env,
            "Entrypoint": options.entrypoint,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in layers]},
        "history": [{"created_by": "scripts/image"} for _ in layers],
    }


def _index(tag: str, manifest: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    entry["annotations"] = {
        "io.containerd.image.name": tag,
        "org.opencontainers.image.ref.name": tag.rsplit(":", 1)[-1],
    }
    return {"schemaVersion": 2, "manifests": [entry]}


def _docker_manifest(tag: str, config: bytes, layers: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "Config": f"blobs/sha256/{hashlib.sha256(config).hexdigest()}",
            "RepoTags": [tag],
            "Layers": [f"blobs/sha256/{digest}" for digest in layers],
        }
    ]


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(blob).hexdigest()
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(blob)}


def _digest(path: Path) -> str:
    """Return the digest of a layer, remembered beside it: hashing 2 GB takes seconds."""
    remembered = path.with_suffix(".sha256")
    if remembered.exists() and remembered.stat().st_mtime >= path.stat().st_mtime:
        return remembered.read_text()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    remembered.write_text(digest)
    return digest


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode, member.mtime = 0o644, 0
    return member


if __name__ == "__main__":
    main()
