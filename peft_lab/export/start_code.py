"""What an exported file needs for a run that trained on from an adapter of the adapters library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peft_lab.assets import soundness
from peft_lab.errors import BadInput
from peft_lab.export.calls import literal
from peft_lab.export.facts import Facts
from peft_lab.export.source import constants, printed
from peft_lab.methods.shared import adapters_files as files
from peft_lab.methods.shared import adapters_library as library
from peft_lab.runs.record import inputs_of

_FIELD = "start"


@dataclass(frozen=True)
class Started:
    """Code around the method's own.

    Attributes:
        find: sets ADAPTER, and looks whether it is the run's. notebook_find: the same without a command line.
        define: the functions that ``put`` calls, once the method is on ``model``.
    """

    find: str
    notebook_find: str
    define: str
    put: str
    imports: tuple[str, ...]


def start_code(facts: Facts) -> Started | None:
    """The code that puts the adapter that a run started from; ``None`` for a run that started from none.

    Raises:
        BadInput: the run's copy of it is gone, or is another than the one that was trained on.
    """
    if facts.spec.start is None:
        return None
    place = Path(facts.spec.start)
    content, held = files.read_content(place), files.held(place)
    digest = soundness.digest(place)
    noted = (inputs_of(facts.run.events()) or {}).get("start", {}).get(place.name, digest)
    if noted != digest:
        raise BadInput(f"{place.name} of '{facts.run.id}' is not what the run started from.", _FIELD)
    adapter, reader = _reading(held, files.WEIGHTS)
    head, other = _reading(held, files.HEAD) if facts.classifies else ("{}", ())
    put = _PUT.replace("<ADAPTER>", adapter).replace("<HEAD>", head)
    named = f"{constants(library, 'PREFIXES', 'PARTS')}\n\n{printed(library.bare, library.theirs)}"
    check = _CHECK.replace("<DIGEST>", digest)
    return Started(
        find=f"ADAPTER = sys.argv[1] if len(sys.argv) > 1 else {literal(str(place))}\n{check}",
        notebook_find=f"ADAPTER = {literal(str(place))}\n{check}",
        define=f"{named}\n\n{put}",
        put=f"put_start(model, {literal(facts.entry.shape.model_type)}, {literal(str(content.get('name')))})\n",
        imports=tuple(dict.fromkeys(("hashlib", "pathlib:Path", "sys", "torch", "zipfile", *reader, *other))),
    )


def _reading(held: frozenset[str], names: tuple[str, str]) -> tuple[str, tuple[str, ...]]:
    """The expression that reads the tensors of the first of two files that is there, and what it imports."""
    safe, pickled = names
    if safe in held:
        return f"load(packed.read({literal(safe)}))", ("safetensors.torch:load",)
    return f"torch.load(io.BytesIO(packed.read({literal(pickled)})), weights_only=True)", ("io",)


_CHECK = """\
if not Path(ADAPTER).is_file():
    raise SystemExit(
        f"{ADAPTER} is not on this machine: set ADAPTER to your copy of the run's start.zip, which the zip of its "
        "adapter holds too."
    )
if hashlib.sha256(Path(ADAPTER).read_bytes()).hexdigest() != "<DIGEST>":
    raise SystemExit(f"{ADAPTER} is not the adapter that the run started from.")
"""

_PUT = '''\
def put_start(model, model_type, name):
    """Copy the adapter that is trained on into the model, and the head that came with it."""
    with zipfile.ZipFile(ADAPTER) as packed:
        adapter = <ADAPTER>
        head = <HEAD>
    state = {bare(key): tensor for key, tensor in adapter.items()}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            host, _, inside = key.rpartition(".bottleneck.")
            part, _, kind = inside.partition(".")
            if host:
                parameter.copy_(state[bare(f"{theirs(model_type, host, name)}.{PARTS[part]}.{kind}")])
            elif key in head:
                parameter.copy_(head[key])
'''
