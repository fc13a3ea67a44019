"""The one generator: from `*.proto` to Python stubs, the descriptor set and buf's image, all under `proto/gen/`.

Imported protos (google.*, buf.validate) are taken from the installed wheels' own descriptors, so nothing is vendored.

    python proto/generate.py            writes proto/gen/
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import protovalidate
from google.api import annotations_pb2, httpbody_pb2
from google.protobuf import descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import FileDescriptor
from google.rpc import error_details_pb2, status_pb2
from grpc_tools import protoc

ROOT = Path(__file__).parent
OUT = ROOT / "gen"
IMPORTED = (
    annotations_pb2,
    httpbody_pb2,
    status_pb2,
    error_details_pb2,  # Envoy needs it to write the details of google.rpc.Status
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
)
VALIDATE = "buf/validate/validate.proto"
# FileDescriptorProto field 8042 (buf's ImageFileExtension) holding {is_import: true}: keeps buf from linting imports.
BUF_IS_IMPORT = bytes([0xD2, 0xF6, 0x03, 0x02, 0x08, 0x01])


def imported_files() -> descriptor_pb2.FileDescriptorSet:
    """Descriptors of every file that our protos import, dependencies first."""
    files = descriptor_pb2.FileDescriptorSet()
    seen: set[str] = set()

    def add(descriptor: FileDescriptor) -> None:
        if descriptor.name in seen:
            return
        seen.add(descriptor.name)
        for dependency in descriptor.dependencies:
            add(dependency)
        descriptor.CopyToProto(files.file.add())

    for module in IMPORTED:
        add(module.DESCRIPTOR)
    files.file.add().MergeFromString(validate_file())
    return files


def validate_file() -> bytes:
    """Return buf/validate/validate.proto as a serialised FileDescriptorProto; protovalidate carries it compiled."""
    return protovalidate.Violation(message="").proto.desc().file.proto.to_binary()


def run_protoc(*arguments: str) -> None:
    """Run protoc; exit with its own message when it refuses."""
    if protoc.main(["protoc", *arguments]) != 0:
        raise SystemExit("protoc refused the protos; its message is above.")


def write_python_packages(out: Path) -> None:
    """Mark every generated folder as a typed package, so that mypy and importers see one tree."""
    for folder in [out / "parley", *(p for p in (out / "parley").rglob("*") if p.is_dir())]:
        (folder / "__init__.py").touch()
    (out / "parley" / "py.typed").touch()


def mark_imports(image: Path, own: Iterable[str]) -> None:
    """Mark all files of the image but our own as imports, in buf's own extension field."""
    files = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())
    names = set(own)
    for file in files.file:
        if file.name not in names:
            file.MergeFromString(BUF_IS_IMPORT)
    image.write_bytes(files.SerializeToString(deterministic=True))


def generate() -> None:
    """Write proto/gen afresh; the old tree is replaced only when everything succeeded."""
    own = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "parley").rglob("*.proto"))
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".gen-") as scratch:
        out = Path(scratch) / "gen"
        out.mkdir()
        imports = Path(scratch) / "imports.binpb"
        imports.write_bytes(imported_files().SerializeToString(deterministic=True))
        common = [f"-I{ROOT}", f"--descriptor_set_in={imports}"]
        run_protoc(
            *common,
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out=quiet:{out}",
            f"--mypy_grpc_out=quiet,only_async:{out}",
            *own,
            VALIDATE,
        )
        # Envoy's transcoder also needs error_details, which nothing imports.
        extra = [error_details_pb2.DESCRIPTOR.name]
        run_protoc(*common, "--include_imports", f"--descriptor_set_out={out / 'parley.binpb'}", *own, *extra)
        image = out / "buf-image.binpb"
        run_protoc(*common, "--include_imports", "--include_source_info", f"--descriptor_set_out={image}", *own)
        mark_imports(image, own)
        write_python_packages(out)
        shutil.copy(out / "parley.binpb", out / "parley" / "descriptors.binpb")
        shutil.rmtree(OUT, ignore_errors=True)
        out.rename(OUT)


if __name__ == "__main__":
    sys.path.append(str(resources.files("grpc_tools")))
    generate()
