"""Specifications of data: one class a source; which of its examples a cell sees, and what is done to them."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, TypeAdapter, model_validator

from scaling.specs.base import Fraction, InputError, Rate, Spec, since, suggest
from scaling.specs.code import CodeReference, FrozenSettings, Settings
from scaling.specs.metrics import BUILT_IN, is_reference

Task = Literal["classify", "regress"]
TokenObjective = Literal["next_token", "masked", "permuted"]
Column = int | str

# --- bundled --------------------------------------------------------------------------------------------------------


class StdlibSource(Spec):
    """Windows of the Python standard library's own source, labelled code, comment or string."""

    kind: Literal["stdlib"] = "stdlib"
    characters_before: Annotated[int, Field(ge=0)] = 8
    characters_after: Annotated[int, Field(ge=0)] = 7
    num_windows: Annotated[PositiveInt, Field(description="labelled windows to draw subsets from")] = 300_000


class DigitsSource(Spec):
    """scikit-learn's bundled 1,797 handwritten digits, 8 × 8 grey."""

    kind: Literal["digits"] = "digits"


class BreastCancerSource(Spec):
    """scikit-learn's bundled 569 tumours, 30 numbers each, benign or malignant."""

    kind: Literal["breast_cancer"] = "breast_cancer"


class WineSource(Spec):
    """scikit-learn's bundled 178 wines, 13 numbers each, of three growers."""

    kind: Literal["wine"] = "wine"


class DiabetesSource(Spec):
    """scikit-learn's bundled 442 patients, 10 numbers each, and how far the disease has gone a year later: a number."""

    kind: Literal["diabetes"] = "diabetes"


# --- arrays and tables ----------------------------------------------------------------------------------------------


class IdxSource(Spec):
    """A folder with the four idx files of MNIST or Fashion-MNIST, gzipped or not."""

    kind: Literal["idx"] = "idx"
    folder: str


class ArraysSource(Spec):
    """Arrays given from Python: `scaling.data.sources.arrays.keep_arrays` keeps them in the cache folder, returns this.

    Attributes:
      sha256: of their content, which is their name.
    """

    kind: Literal["arrays"] = "arrays"
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class NpzSource(Spec):
    """An .npz file without pickled objects, or a folder of .npy files, which are memory-mapped.

    Attributes:
      path: the path of the file or the folder.
      inputs, labels: names of the arrays. Inputs are [n, F] numbers, [n, H, W] or [n, H, W, C] images of bytes or of
        numbers of order one, or [n, T] tokens.
      evaluation_inputs, evaluation_labels: names of an evaluation set's arrays; None holds examples of the pool out.
      task: whether labels are classes (integers from 0) or numbers: [n], or [n, M] for several an example.
      vocab_size: V where inputs are tokens; None where they are numbers.
      groups: name of an array [n] of integers; examples of one group never meet in pool and evaluation set.
    """

    kind: Literal["npz"] = "npz"
    path: str
    inputs: str = "inputs"
    labels: str = "labels"
    evaluation_inputs: str | None = None
    evaluation_labels: str | None = None
    task: Task = "classify"
    vocab_size: PositiveInt | None = None
    groups: str | None = None

    @model_validator(mode="after")
    def _evaluation_is_whole(self) -> Self:
        if (self.evaluation_inputs is None) != (self.evaluation_labels is None):
            raise InputError(
                "data.source.evaluation_inputs and evaluation_labels go together; name both arrays, or neither"
            )
        return self


class CifarSource(Spec):
    """The binary version of CIFAR-10 or CIFAR-100: its folder, or the .tar.gz that it comes in.

    Attributes:
      path: the path of the folder or the archive.
      labels: `fine` are the 10 or 100 classes, `coarse` the 20 superclasses of CIFAR-100.
    """

    kind: Literal["cifar"] = "cifar"
    path: str
    labels: Literal["fine", "coarse"] = "fine"


class TableSource(Spec):
    """A table, one example a row: delimited text, gzipped or not, or Parquet.

    Attributes:
      path: the path of the file; `.parquet` is Parquet, anything else is text.
      label_column: by position (0 is the first, -1 the last) or, where there is a header, by name; several columns
        where several numbers are regressed.
      delimiter: the delimiter of text. Values between tabs are taken as they are, others may stand in double quotes.
      header: whether the first line of text names the columns. Parquet always names them.
      evaluation_path: a table of the same columns to evaluate on; None holds rows of the first one out.
      task: whether the label is a class or a number.
      categorical: columns that hold categories: one input for each of their `max_categories` most frequent values in
        the pool, one for all others.
      text: columns that hold words: counted into `text_features` hashed inputs.
      ignore: columns to leave out.
      missing: the text of a missing value, beside the empty one ('' for that alone); None allows none. A missing
        number becomes the median of the pool, and one more input says that it was missing; a missing category is a
        category.
      group_column: rows of one group (patient, author, …) never meet in pool and evaluation set; not an input.
    """

    kind: Literal["table"] = "table"
    path: str
    label_column: Annotated[
        Column | Annotated[tuple[Column, ...], Field(min_length=1)],
        Field(description="0 is the first column, -1 the last; several to regress several numbers"),
    ] = -1
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    header: bool = False
    evaluation_path: str | None = since(None)
    task: Task = since("classify")
    categorical: tuple[Column, ...] = since(())
    max_categories: PositiveInt = since(100)
    text: tuple[Column, ...] = since(())
    text_features: PositiveInt = since(1024)
    ignore: tuple[Column, ...] = since(())
    missing: str | None = since(None)
    group_column: Column | None = since(None)

    @model_validator(mode="after")
    def _classes_have_one_column(self) -> Self:
        if isinstance(self.label_column, tuple) and self.task == "classify":
            raise InputError(
                f"data.source.label_column={list(self.label_column)} are several columns, which is for numbers; name "
                "one column, or set data.source.task='regress'"
            )
        return self


class ImageFolderSource(Spec):
    """A folder of images, one folder a class, with folders inside or not; classes are in the order of their names.

    Files that are no images are passed over, and counted in the record.

    Attributes:
      folder: the folder that holds the class folders, or an archive (.tar, .tar.gz, .zip) of them.
      evaluation_folder: alike, with the same classes; None holds images of the pool out.
      side: images are resized so that their shorter side has so many pixels, and cropped to its square in the middle.
      channels: 1 for grey, 3 for colour.
    """

    kind: Literal["image_folder"] = "image_folder"
    folder: str
    evaluation_folder: str | None = None
    side: PositiveInt
    channels: Literal[1, 3] = 3


class CodeSource(Spec):
    """Data of the user's own: what `load(evaluation_size, **settings)` returns, of a study's file or a package.

    It returns (inputs, labels), out of which an evaluation set is held; or a dict of them, whose further entries are
    `evaluation_inputs` and `evaluation_labels`, `groups`, `task` and `vocab_size` as those of `NpzSource`; or a
    `scaling.data.source.Source`. What it returns must be the same each time: a record keeps its hash.

    Attributes:
      code: `name:function`.
      settings: what the function is given beside the size of the evaluation set.
    """

    kind: Literal["code"] = "code"
    code: CodeReference
    settings: Settings = FrozenSettings()


# --- text -----------------------------------------------------------------------------------------------------------


class StdlibDocuments(Spec):
    """The Python standard library's own source, a file a document, distinct files only."""

    kind: Literal["stdlib"] = "stdlib"


class FileDocuments(Spec):
    """Text or JSON-lines files, gzipped or not, UTF-8.

    Attributes:
      path: a file, or a folder whose files are taken in the order of their paths.
      pattern: which files of a folder; `**` reaches into its folders.
      unit: what a document of a text file is: the `file`, each `line`, or each `paragraph` between blank lines. A line
        of a .jsonl file is always a document.
      field: the field of the JSON objects, which holds the text.
    """

    kind: Literal["files"] = "files"
    path: str
    pattern: str = "**/*"
    unit: Literal["file", "line", "paragraph"] = "file"
    field: str = "text"


class TfdsDocuments(Spec):
    """The text of a TensorFlow Datasets dataset.

    Attributes:
      name: as `tfds.builder` takes it, for instance `lm1b` or `c4/en:3.1.0`.
      split: the split of the dataset, slices included: `train[:1%]`.
      field: feature that holds the text.
      data_dir: where the dataset is prepared; None for `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
      download: whether to download and prepare it where it is missing.
    """

    kind: Literal["tfds"] = "tfds"
    name: str
    split: str = "train"
    field: str = "text"
    data_dir: str | None = None
    download: bool = False


class HuggingFaceDocuments(Spec):
    """The text of a dataset of Hugging Face's `datasets`.

    Attributes:
      name: a folder that `save_to_disk` wrote, a folder of data files (Parquet, say), or a dataset's name on the Hub.
      config: which configuration of the dataset.
      split: slices included, `train[:1%]`.
      field: column that holds the text.
      revision: branch, tag or commit of a dataset on the Hub.
      download: whether to ask the Hub; else what this machine has is read.
    """

    kind: Literal["hugging_face"] = "hugging_face"
    name: str
    config: str | None = None
    split: str = "train"
    field: str = "text"
    revision: str | None = None
    download: bool = False


CorpusSpec = Annotated[
    StdlibDocuments | FileDocuments | TfdsDocuments | HuggingFaceDocuments, Field(discriminator="kind")
]


class MixturePart(Spec):
    """One corpus of a mixture.

    Attributes:
      name: of the corpus in records and in columns of the table.
      weight: its share of the tokens is this over the sum of all weights.
      documents: of the corpus.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]
    weight: Annotated[PositiveFloat, Field(allow_inf_nan=False)]
    documents: CorpusSpec


class MixtureDocuments(Spec):
    """Corpora in fixed proportions of tokens, in every subset and in the evaluation set.

    Attributes:
      parts: the corpora. Each is tokenised by itself, once for all mixtures that it is in.
    """

    kind: Literal["mixture"] = "mixture"
    parts: Annotated[tuple[MixturePart, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        names = [part.name for part in self.parts]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"data.source.documents.parts: two are called {name!r}; give each its own name")
        return self

    def shares(self) -> dict[str, float]:
        """Returns each part's share of the tokens, by its name."""
        total = math.fsum(part.weight for part in self.parts)
        return {part.name: part.weight / total for part in self.parts}


DocumentsSpec = Annotated[
    StdlibDocuments | FileDocuments | TfdsDocuments | HuggingFaceDocuments | MixtureDocuments,
    Field(discriminator="kind"),
]


class BytesTokenizer(Spec):
    """The 256 bytes of UTF-8."""

    kind: Literal["bytes"] = "bytes"


class SentencePieceTokenizer(Spec):
    """A sentencepiece model file."""

    kind: Literal["sentencepiece"] = "sentencepiece"
    path: str


class HuggingFaceTokenizer(Spec):
    """A `tokenizer.json` of Hugging Face's tokenizers."""

    kind: Literal["tokenizers"] = "tokenizers"
    path: str


TokenizerSpec = Annotated[BytesTokenizer | SentencePieceTokenizer | HuggingFaceTokenizer, Field(discriminator="kind")]


class TextSource(Spec):
    """Documents as tokens, one after another with a boundary token after each, cut into sequences of equal length.

    The documents are tokenised once. Distinct ones only count, and whole documents are held out for evaluation. The
    subset's permutation is of documents: its sequences are cut from them in that order.

    Attributes:
      documents: where the text comes from.
      tokenizer: text → tokens. One more token, V - 1, is the boundary.
      sequence_length: T, the tokens that a network sees at once. An example is a sequence.
      objective: which tokens are predicted: the `next_token`, `masked` ones or in a `permuted` order.
      held_out: share of the documents, by the hash of their text, that evaluation sequences are cut from.
      evaluation_documents: documents to evaluate on instead; documents that are in both are left out of training.
      skip_empty: whether documents without text are passed over, and counted, or refused.
      prepared: folder of the tokens, to share them between machines; None for one in the cache folder.
    """

    kind: Literal["text"] = "text"
    documents: DocumentsSpec = StdlibDocuments()
    tokenizer: TokenizerSpec = BytesTokenizer()
    sequence_length: Annotated[int, Field(ge=2)] = 128
    objective: TokenObjective = "next_token"
    held_out: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    evaluation_documents: CorpusSpec | None = None
    skip_empty: bool = False
    prepared: str | None = None


# --- TensorFlow Datasets --------------------------------------------------------------------------------------------


class TfdsSource(Spec):
    """A labelled dataset of TensorFlow Datasets, read through `tfds.data_source`: random access, without TensorFlow.

    Attributes:
      name: as `tfds.builder` takes it, for instance `mnist` or `cifar10:3.0.2`.
      split, evaluation_split: slices included, `train[:90%]`. None for the second holds examples of the first out.
      inputs, labels: names of the features: an image or a vector of numbers; a class, a number or a vector of them.
      side: images of varying size are resized and cropped to a square of so many pixels; None takes them as they are.
      data_dir: where the dataset is prepared; None for `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
      download: whether to download and prepare it where it is missing.
    """

    kind: Literal["tfds"] = "tfds"
    name: str
    split: str = "train"
    evaluation_split: str | None = "test"
    inputs: str = "image"
    labels: str = "label"
    side: PositiveInt | None = None
    data_dir: str | None = None
    download: bool = False


# --- Hugging Face datasets ------------------------------------------------------------------------------------------


class HuggingFaceSource(Spec):
    """A labelled dataset of Hugging Face's `datasets`: saved to disk, of data files, or of the Hub.

    Attributes:
      name: a folder that `save_to_disk` wrote, a folder of data files (Parquet, say), or a dataset's name on the Hub.
      config: which configuration of the dataset.
      split, evaluation_split: slices included, `train[:90%]`. None for the second holds examples of the first out.
      inputs: an image, numbers of one shape, or several columns of numbers, by their names.
      labels: a class, an integer from 0, or a float, which is regressed on.
      side: images are resized and cropped to a square of so many pixels; None takes them as they are, of one size.
      revision: branch, tag or commit of a dataset on the Hub.
      download: whether to ask the Hub; else what this machine has is read.
    """

    kind: Literal["hugging_face"] = "hugging_face"
    name: str
    config: str | None = None
    split: str = "train"
    evaluation_split: str | None = "test"
    inputs: str | Annotated[tuple[str, ...], Field(min_length=1)] = "image"
    labels: str = "label"
    side: PositiveInt | None = None
    revision: str | None = None
    download: bool = False


# --- synthetic, with known laws -------------------------------------------------------------------------------------


class TeacherSource(Spec):
    """Regression on a linear teacher with power-law spectra, whose learning curve is known.

    Feature k of F has variance k^-spectrum_exponent, and the teacher's weights give it the power k^-target_exponent of
    the label's variance; features are independent and normal. Without noise, for a spectrum_exponent above 1, the error
    of least squares falls about as m^-min(target_exponent - 1, 2 spectrum_exponent) while m is well below F (Bordelon
    et al. 2020); `scaling.data.sources.synthetic.expected_error` has it exactly.

    Attributes:
      num_features: F.
      spectrum_exponent, target_exponent: above 0, and above 1.
      noise: standard deviation of what is added to labels of variance 1; its square is the error's floor.
      num_examples: the number of examples of the pool.
      seed: the seed of teacher and examples.
    """

    kind: Literal["teacher"] = "teacher"
    num_features: PositiveInt = 1_000
    spectrum_exponent: PositiveFloat = 1.5
    target_exponent: Annotated[float, Field(gt=1.0)] = 2.0
    noise: Annotated[float, Field(ge=0.0)] = 0.0
    num_examples: PositiveInt = 20_000
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class MarkovSource(Spec):
    """A language of known entropy: after every context the same Zipf law, over the tokens in an order of its own.

    So the entropy per token is that of the Zipf law, p(rank) ∝ rank^-zipf_exponent, whatever the context.

    Attributes:
      vocab_size: V.
      zipf_exponent: 0 for uniform.
      order: tokens of context that decide the next.
      sequence_length: T. Sequences are independent; each begins with `order` uniform tokens.
      num_sequences: the number of sequences of the pool.
      seed: the seed of language and sequences.
    """

    kind: Literal["markov"] = "markov"
    vocab_size: Annotated[int, Field(ge=2, lt=2**16)] = 64
    zipf_exponent: Annotated[float, Field(ge=0.0)] = 1.0
    order: PositiveInt = 1
    sequence_length: Annotated[int, Field(ge=2)] = 64
    num_sequences: PositiveInt = 20_000
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


AnySource = (
    StdlibSource
    | DigitsSource
    | BreastCancerSource
    | WineSource
    | DiabetesSource
    | IdxSource
    | ArraysSource
    | NpzSource
    | CodeSource
    | CifarSource
    | TableSource
    | ImageFolderSource
    | TextSource
    | TfdsSource
    | HuggingFaceSource
    | TeacherSource
    | MarkovSource
)
SourceSpec = Annotated[AnySource, Field(discriminator="kind")]

# --- subsets --------------------------------------------------------------------------------------------------------


class AugmentationSpec(Spec):
    """Random changes of training images, drawn anew each time an image is seen.

    Attributes:
      crop: pixels of zeros around an image, out of which its own size is cropped anywhere.
      flip: whether half of the images are mirrored left to right.
    """

    crop: Annotated[int, Field(ge=0)] = 0
    flip: bool = False


# Words that names of columns begin with, so that no evaluation set may.
RESERVED = (
    "ema",
    "train",
    "noise",
    "params",
    "flops",
    "top5",
    "bits",
    "num",
    "data",
    "peak",
    "batch",
    "wall",
    "device",
)


class EvaluationSet(Spec):
    """A further evaluation set: what another source, of the same task, holds out.

    Attributes:
      name: before the loss and the metrics of its columns, as in `ood_loss`.
      source: where its examples come from; the training examples of that source are not used.
      size: its number of examples.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
    source: SourceSpec
    size: PositiveInt = 5_000

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        word = self.name.partition("_")[0]
        if word in RESERVED:
            raise InputError(
                f"data.evaluation_sets.name={self.name!r} begins with {word!r}, as other columns do; choose another "
                "name"
            )
        return self


class DataSpec(Spec):
    """Which examples a cell sees: the first `size` of one seeded permutation of a source.

    Attributes:
      source: where the examples come from.
      size: m, the number of examples; of text, sequences.
      order: how the permutation is drawn. `independent` shuffles all examples (of text, all documents); `stratified`
        keeps every prefix within one example of the class proportions; `balanced` keeps every prefix within one of
        equal classes; `grouped` shuffles the source's groups, and takes one after the other.
      evaluation_size: examples of the fixed evaluation set, the same for every cell with this source.
      label_noise: share of the examples, each by its own draw, whose class is replaced by another one, all equally
        likely. The evaluation set keeps its own.
      duplication: share of the examples that repeat an earlier one, evenly spread; m counts them, `data_unique` of the
        record does not.
      augmentation: the augmentation of training images.
      normalize: whether each channel of images is scaled by the mean and deviation of the subset's.
      metrics: measured beside those that every record of the task has: names of `scaling.specs.metrics`, or
        `"name:attribute"` for a `Metric` of one's own.
      evaluation_sets: sets to evaluate on beside the fixed one.
    """

    source: SourceSpec
    size: PositiveInt
    order: Literal["independent", "stratified", "balanced", "grouped"] = "independent"
    evaluation_size: PositiveInt = 5_000
    label_noise: Fraction = since(0.0)
    duplication: Rate = since(0.0)
    augmentation: AugmentationSpec | None = since(None)
    normalize: bool = since(False)
    metrics: tuple[str, ...] = since(())
    evaluation_sets: tuple[EvaluationSet, ...] = since(())

    @model_validator(mode="after")
    def _metrics_are_known(self) -> Self:
        for metric in self.metrics:
            if is_reference(metric):
                TypeAdapter(CodeReference).validate_python(metric)
            elif metric not in BUILT_IN:
                raise InputError(
                    f"data.metrics={metric!r} is no metric of this package; {suggest(metric, BUILT_IN)}, or name one "
                    "of your own as 'name:attribute'"
                )
        _check_distinct("data.metrics", self.metrics)
        _check_distinct("data.evaluation_sets.name", [each.name for each in self.evaluation_sets])
        return self


def _check_distinct(field: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{field}={name!r} is there {names.count(name)} times; name it once")


def count_unique(size: int, share: float) -> int:
    """Returns how many of m examples are distinct when a share of them repeats earlier ones.

    >>> count_unique(10, 0.25)
    8
    """
    return size - math.floor(size * share)
