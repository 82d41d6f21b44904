"""From what a person calls a model (`gpt2`, `demo`, a folder) to a published version in the embedded bucket."""

import shutil
from pathlib import Path

from rich.console import Console

from handler.registry.manifest import version_of
from handler.registry.names import model_name
from lifecycle.checkpoint import PROVENANCE, read_checkpoint
from lifecycle.hub import HubUnreachableError
from lifecycle.importing import import_model
from lifecycle.promoting import LIVE, promote
from lifecycle.publishing import describe_files, publish
from lifecycle.quality import QualityError, passed_evaluation
from lifecycle.quantizing import quantize
from lifecycle.store import WritableStore

DEMO = Path(__file__).parent.parent / "demo"

# The embedded bucket forgets; what was imported for it, and packed, is kept here.
CACHE = Path(".cache/models")
PACKED = Path(".cache/packed")


def publish_source(source: str, store: WritableStore, console: Console) -> str:
    """Publish a model and make it live.

    Args:
        source: `demo`, a folder with a transformers checkpoint, or a name on the Hugging Face hub. Where the hub does
            not answer, the demo model takes its place, and a line says so.
        store: the bucket.
        console: where to say what is going on.

    Returns:
        The model's name in the registry.
    """
    try:
        folder = checkpoint_folder(source, console)
    except HubUnreachableError as error:
        console.print(f"{error.message}; serving the bundled demo model instead.")
        folder = DEMO
    folder = packed_folder(folder, console)
    manifest = publish(folder, store, model_name(folder.name))
    # Whoever runs a model on their own machine wants to see it, evaluated or not.
    move = promote(store, manifest.name, manifest.version, LIVE, why="for this machine", force=True)
    if move is not None and move.forced:
        console.print(f"Serving it all the same: {move.verdict}.")
    return manifest.name


def checkpoint_folder(source: str, console: Console) -> Path:
    """The checkpoint folder of a source: bundled, imported before, or imported now; its name is the model's.

    Raises:
        HubUnreachableError: the source is on the hub, which does not answer.
    """
    if source == "demo":
        return DEMO
    out, folder = CACHE / model_name(source), Path(source).expanduser()
    if (folder / PROVENANCE).is_file():
        return folder  # what `lifecycle import` and `lifecycle train` make can be published as it is
    if folder.is_dir():
        # It may have changed since it was imported last, and importing it again is a matter of seconds.
        shutil.rmtree(out, ignore_errors=True)
    if not out.is_dir():
        out.parent.mkdir(parents=True, exist_ok=True)
        console.print(f"Importing {source} into {out}.")
        import_model(source, out)
    return out


def packed_folder(folder: Path, console: Console) -> Path:
    """The same model in 8 bits, packed before or now; or the folder itself, where that would cost too much quality.

    It is the folder itself as well where the model is no GPT-2, and cannot be packed.

    It lies in a folder of the model's name, in one of its content's: what has changed is packed anew.
    """
    checkpoint = read_checkpoint(folder)
    if checkpoint.layout is not None or not checkpoint.is_gpt2:
        return folder
    out = PACKED / version_of(describe_files(checkpoint)) / folder.name
    if not out.is_dir():
        console.print(f"Quantizing {folder.name} to 8 bits, into {out}.")
        quantize(folder, out, 8)
    packed = read_checkpoint(out)
    try:
        passed_evaluation(packed, describe_files(packed), None)
    except QualityError as error:
        console.print(f"{error.message}. Publishing it as it is, for the slower reference engine.")
        return folder
    return out
