"""Tokenizers: from the bytes of a text to token ids, by its bytes, by sentencepiece or by Hugging Face's tokenizers."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scaling.specs.base import InputError
from scaling.specs.data import BytesTokenizer, SentencePieceTokenizer, TokenizerSpec


class Tokenizer(Protocol):
    """Text to tokens and back.

    Attributes:
      vocab_size: V; every token is below it. Boundaries between documents are not among them.
      sha256: of the file that defines it.
    """

    vocab_size: int
    sha256: str

    def encode_batch(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        """Returns the tokens of each UTF-8 text, [n] integers, without any that mark beginning or end."""

    def decode(self, tokens: np.ndarray) -> bytes:
        """Returns the text of tokens, UTF-8 as far as they spell whole characters."""


def open_tokenizer(spec: TokenizerSpec) -> Tokenizer:
    """Returns the tokenizer that a specification names.

    Raises:
      InputError: its file is missing or no tokenizer, or its package is not installed.
    """
    if isinstance(spec, BytesTokenizer):
        return _Bytes()
    content = _read(spec.path)
    kind = _SentencePiece if isinstance(spec, SentencePieceTokenizer) else _HuggingFace
    return kind(spec.path, content, hashlib.sha256(content).hexdigest())


def hash_tokenizer(spec: TokenizerSpec) -> str:
    """Returns what identifies a tokenizer, without opening it: the sha256 of its file; `bytes` for bytes.

    Raises:
      InputError: its file is missing.
    """
    return "bytes" if isinstance(spec, BytesTokenizer) else hashlib.sha256(_read(spec.path)).hexdigest()


def _read(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise InputError(
            f"data.source.tokenizer.path={path!r} cannot be read ({error.strerror}); name the tokenizer's file"
        ) from None


def _missing(package: str) -> InputError:
    return InputError(
        f"data.source.tokenizer.kind={package!r} needs scaling[text], but the package {package} is not installed; "
        "pip install 'scaling[text]', or set data.source.tokenizer.kind='bytes'"
    )


class _Bytes:
    vocab_size = 256
    sha256 = "bytes"

    def encode_batch(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        return [np.frombuffer(text, np.uint8) for text in texts]

    def decode(self, tokens: np.ndarray) -> bytes:
        return np.asarray(tokens).astype(np.uint8).tobytes()


class _SentencePiece:
    def __init__(self, path: str, content: bytes, sha256: str) -> None:
        try:
            import sentencepiece
        except ImportError:
            raise _missing("sentencepiece") from None
        self.sha256 = sha256
        try:
            self._processor: Any = sentencepiece.SentencePieceProcessor(model_proto=content)
            self.vocab_size = int(self._processor.get_piece_size())
        except (RuntimeError, OSError, ValueError, TypeError):
            self.vocab_size = 0
        if not self.vocab_size:
            raise InputError(
                f"data.source.tokenizer.path={path!r} is no sentencepiece model; name the .model file that its trainer "
                "wrote"
            )

    def encode_batch(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        found = self._processor.encode([text.decode() for text in texts], out_type=int)
        return [np.array(tokens, np.int32) for tokens in found]

    def decode(self, tokens: np.ndarray) -> bytes:
        text: str = self._processor.decode(np.asarray(tokens).tolist())
        return text.encode()


class _HuggingFace:
    def __init__(self, path: str, content: bytes, sha256: str) -> None:
        try:
            import tokenizers
        except ImportError:
            raise _missing("tokenizers") from None
        self.sha256 = sha256
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(content.decode())
        except Exception as error:  # noqa: BLE001  (the package raises bare Exception)
            raise InputError(
                f"data.source.tokenizer.path={path!r} is no tokenizer.json ({' '.join(str(error).split())[:120]}); "
                "name the file that Hugging Face's tokenizers saved"
            ) from None
        # A file may ask for both; they are for batches of a network and would falsify a corpus.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # Ids may have gaps, so the number of tokens is not enough.
        self.vocab_size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        self._encode = getattr(self._tokenizer, "encode_batch_fast", self._tokenizer.encode_batch)

    def encode_batch(self, texts: Sequence[bytes]) -> list[np.ndarray]:
        found = self._encode([text.decode() for text in texts], add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in found]

    def decode(self, tokens: np.ndarray) -> bytes:
        text: str = self._tokenizer.decode(np.asarray(tokens).tolist(), skip_special_tokens=False)
        return text.encode()
