"""Text as a source of sequences: its documents are tokenised once into a folder of mapped files, and cut from there."""

import functools
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from scaling.data.source import SPLIT_SEED, Source
from scaling.data.text.corpus import MANIFEST, SIDES, Identity, Manifest, hash_json, open_manifest
from scaling.data.text.documents import Document, MissingDocumentsError, document_files, read_documents
from scaling.data.text.packing import MappedArray, PackedSequences
from scaling.data.text.preparation import Preparation, complete, locked
from scaling.data.text.tokenizers import hash_tokenizer, open_tokenizer
from scaling.specs.base import InputError, canonical_json
from scaling.specs.data import (
    CorpusSpec,
    FileDocuments,
    HuggingFaceDocuments,
    MixtureDocuments,
    StdlibDocuments,
    TextSource,
    TfdsDocuments,
)
from scaling.store.cache import cache_folder


class Prepared(NamedTuple):
    """A folder of tokens, checked."""

    folder: Path
    manifest: Manifest


def load_text(spec: TextSource, evaluation_size: int) -> Source:
    """Returns sequences of documents' tokens; no document, and no text twice, is in both pool and evaluation set.

    Raises:
      InputError: documents or tokenizer cannot be read, the tokens cannot be kept, or there are too few.
    """
    folder, manifest = prepare(spec)
    length = spec.sequence_length + (spec.objective == "next_token")  # the last target is no input
    for side in SIDES:
        counts = manifest.tally.sides[side]
        if counts.tokens < length:
            raise InputError(
                f"data.source.sequence_length={spec.sequence_length} needs {length} tokens, but the {side} documents "
                f"of {name_text(spec)} hold {counts.tokens}; choose shorter sequences, more text or another "
                "data.source.held_out"
            )
    pack = functools.partial(_pack, folder, manifest.dtype, length, spec.sequence_length)
    most = (manifest.tally.sides["held_out"].tokens - length) // spec.sequence_length + 1
    vocab_size = manifest.vocab_size + 1 + (spec.objective == "masked")  # the boundary, and the mask
    train, held_out = (manifest.tally.sides[side] for side in SIDES)
    cut = f"{length} {spec.sequence_length}"
    return Source(
        name=name_text(spec),
        inputs=pack("train", None, None),
        labels=None,
        eval_inputs=pack("held_out", SPLIT_SEED, min(evaluation_size, most)),
        eval_labels=None,
        num_classes=vocab_size,
        objective=spec.objective,
        vocab_size=vocab_size,
        pack=functools.partial(pack, "train"),
        boundary=manifest.vocab_size,
        bytes_per_token=held_out.bytes / held_out.tokens,
        facts={
            "documents": train.documents,
            "tokens": train.tokens,
            "bytes": train.bytes,
            "evaluation_documents": held_out.documents,
            "duplicates_dropped": manifest.tally.duplicates_dropped,
            "empty_skipped": manifest.tally.empty_skipped,
            "tokenizer_sha256": str(manifest.identity.tokenizer_sha256),
        },
        known_hashes=(
            hash_json([manifest.files[f"train.{what}"].sha256 for what in ("tokens", "ends")] + [cut]),
            hash_json(
                [manifest.files[f"held_out.{what}"].sha256 for what in ("tokens", "ends")] + [cut, evaluation_size]
            ),
        ),
    )


def prepare(spec: TextSource) -> Prepared:
    """Returns the folder of a source's tokens; tokenises the documents where that has not been done.

    A preparation that was killed goes on where it was, and ends with the same files. Of several processes one prepares,
    and the others wait.

    Raises:
      InputError: documents or tokenizer cannot be read, or the folder cannot be written, is damaged or holds others.
    """
    is_given = spec.prepared is not None and (Path(spec.prepared).expanduser() / MANIFEST).exists()
    wanted = _identify(spec, is_optional=is_given)
    folder = _kept_folder(spec, wanted) if spec.prepared is None else Path(spec.prepared).expanduser()
    if not (folder / MANIFEST).exists():
        with locked(folder):
            if not complete(folder, wanted):  # nobody did it while this process waited
                _check_place(spec, folder)
                _tokenise(spec, wanted, folder)
    manifest = open_manifest(folder)
    _check_identity(spec, folder, wanted, manifest.identity)
    return Prepared(folder, manifest)


def _tokenise(spec: TextSource, identity: Identity, folder: Path) -> None:
    """Makes the folder of a source's tokens."""
    with Preparation(folder, identity, open_tokenizer(spec.tokenizer), _expected_bytes(spec)) as preparation:
        bar = tqdm(
            desc=f"tokenising {name_text(spec)}", unit=" documents", initial=preparation.consumed, disable=None, delay=2
        )
        with bar:
            for document, is_evaluation in itertools.islice(_stream(spec), preparation.consumed, None):
                bar.update()
                if not document.text.strip():
                    if not spec.skip_empty:
                        raise InputError(
                            f"{document.where} is empty; set data.source.skip_empty=true to pass over documents "
                            "without text, or remove it"
                        )
                    preparation.skip_empty()
                    continue
                digest = hashlib.sha256(document.text).digest()
                preparation.add(document.text, _side(spec, is_evaluation, digest), digest)
        preparation.checkpoint()
        refusal = _refusal(spec, preparation)
        if refusal is None and _identify(spec, is_optional=False) != identity:
            refusal = (
                f"documents or tokenizer of {name_text(spec)} changed while they were read; run again when they rest"
            )
        if refusal is not None:
            preparation.discard()
            raise InputError(refusal)
        preparation.finish()


def _stream(spec: TextSource) -> Iterator[tuple[Document, bool]]:
    """Yields (document, whether it is of those to evaluate on); these come first."""
    for documents, field in _all_documents(spec):
        for document in read_documents(documents, field):
            yield document, field.endswith("evaluation_documents")


def _side(spec: TextSource, is_evaluation: bool, digest: bytes) -> str:
    if spec.evaluation_documents is None:
        is_evaluation = int.from_bytes(digest[:8], "big") / 2**64 < spec.held_out
    return SIDES[is_evaluation]


def _refusal(spec: TextSource, preparation: Preparation) -> str | None:
    """Returns why the documents make no pool and evaluation set, or None if they do."""
    train, held_out = (preparation.sides[side].documents for side in SIDES)
    name = name_text(spec)
    if train and held_out:
        return None
    if spec.evaluation_documents is not None:
        field, what = ("documents", "them") if held_out else ("evaluation_documents", "these")
        return (
            f"data.source.{field}: none with text is left of {what}, when training leaves out all that evaluation "
            "uses; name others"
        )
    if train + held_out == 0:
        return f"data.source.documents: {name} holds no document with text; name another"
    remedy = "data.source.evaluation_documents"
    if isinstance(spec.documents, FileDocuments) and spec.documents.unit == "file":
        remedy = f"data.source.documents.unit='paragraph' or 'line', or {remedy}"
    if train + held_out == 1:
        return f"data.source.documents: {name} holds 1 document, which cannot be split; set {remedy}"
    return (
        f"data.source.held_out={spec.held_out} leaves none of the {train + held_out} documents of {name} to "
        f"{'train' if held_out else 'evaluate'} on; change it, or set {remedy}"
    )


def _expected_bytes(spec: TextSource) -> int | None:
    """Returns how much text there is, UTF-8, as far as files tell without being read."""
    total = 0
    for documents, field in _all_documents(spec):
        if documents.kind != "files":
            return None
        files = document_files(documents, field)
        if any(str(name).endswith(".gz") for name, *_ in files):
            return None
        total += sum(int(size) for _, size, _ in files)
    return total


def _pack(
    folder: Path, dtype: str, length: int, stride: int, side: str, seed: int | None, num_sequences: int | None
) -> PackedSequences:
    tokens, ends = MappedArray(folder / f"{side}.tokens", dtype), MappedArray(folder / f"{side}.ends", "<i8")
    return PackedSequences(tokens, ends, length, num_sequences, seed, stride)


def name_text(spec: TextSource) -> str:
    """Returns what people call a source of text."""
    if isinstance(spec.documents, StdlibDocuments):
        return "stdlib text"
    if isinstance(spec.documents, MixtureDocuments):
        return f"mixture of {', '.join(spec.documents.shares())}"
    return Path(spec.documents.path).name if isinstance(spec.documents, FileDocuments) else spec.documents.name


# --- what the tokens are of -----------------------------------------------------------------------------------------


def _all_documents(spec: TextSource) -> list[tuple[CorpusSpec, str]]:
    """Returns (documents, field); those to evaluate on come first, so that training leaves theirs out."""
    assert not isinstance(spec.documents, MixtureDocuments)  # noqa: S101  (its parts are prepared one by one)
    found: list[tuple[CorpusSpec, str]] = [(spec.documents, "data.source.documents")]
    if spec.evaluation_documents is not None:
        found.insert(0, (spec.evaluation_documents, "data.source.evaluation_documents"))
    return found


def _identify(spec: TextSource, *, is_optional: bool) -> Identity:
    """Returns the identity of a source's tokens; where files are optional and missing, without them."""
    settings: dict[str, Any] = {"held_out": spec.held_out, "skip_empty": spec.skip_empty, "evaluation_documents": None}
    for documents, field in _all_documents(spec):
        # Where documents lie is left out: a folder of tokens may be used where they lie elsewhere, or nowhere.
        settings[field.rpartition(".")[2]] = documents.model_dump(mode="json", exclude={"path", "data_dir", "download"})
    tokenizer = documents_state = None
    if not (is_optional and not _tokenizer_exists(spec)):
        tokenizer = hash_tokenizer(spec.tokenizer)
    try:
        documents_state = hash_json(
            [document_files(_at_hand(found, is_optional), at) for found, at in _all_documents(spec)]
        )
    except MissingDocumentsError:
        if not is_optional:
            raise
    return Identity(settings=settings, tokenizer_sha256=tokenizer, documents_sha256=documents_state)


def _at_hand(documents: CorpusSpec, is_optional: bool) -> CorpusSpec:
    """Returns documents that are not downloaded where their tokens are there already."""
    if is_optional and isinstance(documents, TfdsDocuments | HuggingFaceDocuments):
        return documents.model_copy(update={"download": False})
    return documents


def _tokenizer_exists(spec: TextSource) -> bool:
    return spec.tokenizer.kind == "bytes" or Path(spec.tokenizer.path).expanduser().exists()


def _kept_folder(spec: TextSource, identity: Identity) -> Path:
    places = [
        str(Path(found.path).expanduser().resolve()) for found, _ in _all_documents(spec) if found.kind == "files"
    ]
    return cache_folder() / "text" / hash_json([identity.canonical_json(), places])[:16]


def _check_place(spec: TextSource, folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(
            f"data.source.prepared={str(folder)!r} is no folder of tokens (it has no {MANIFEST}); name a new folder, "
            "or delete it"
        )
    for documents, field in _all_documents(spec):
        if documents.kind == "files" and folder.resolve().is_relative_to(Path(documents.path).expanduser().resolve()):
            raise InputError(
                f"data.source.prepared={str(folder)!r} is inside {field}.path={documents.path!r}, so the tokens would "
                "become documents; name a folder outside"
            )


def _check_identity(spec: TextSource, folder: Path, wanted: Identity, found: Identity) -> None:
    remedy = f"set data.source.prepared to another folder, or delete {folder} to tokenise again"
    for name, value in wanted.settings.items():
        if found.settings.get(name) != value:
            made_with = canonical_json(found.settings.get(name))
            raise InputError(
                f"data.source.{name}={canonical_json(value)} but {folder} was made with {made_with}; {remedy}"
            )
    if wanted.tokenizer_sha256 not in (None, found.tokenizer_sha256):
        tokenizer = spec.tokenizer.canonical_json()
        raise InputError(f"data.source.tokenizer={tokenizer} is not the one that made {folder}; {remedy}")
    if wanted.documents_sha256 not in (None, found.documents_sha256):
        raise InputError(
            f"data.source.documents: {name_text(spec)} has changed since {folder} was made (names, sizes, times of "
            f"modification, or Python's version); {remedy}"
        )
