"""Cells of every family, optimiser, schedule and source, whose canonical JSON and fingerprints are golden."""

from collections.abc import Sequence
from typing import Any

from scaling.specs.cell import Cell
from scaling.specs.data import (
    ArraysSource,
    AugmentationSpec,
    BreastCancerSource,
    BytesTokenizer,
    CifarSource,
    DataSpec,
    DiabetesSource,
    DigitsSource,
    FileDocuments,
    HuggingFaceTokenizer,
    IdxSource,
    ImageFolderSource,
    MarkovSource,
    NpzSource,
    SentencePieceTokenizer,
    SourceSpec,
    StdlibDocuments,
    StdlibSource,
    TableSource,
    TeacherSource,
    TextSource,
    TfdsDocuments,
    TfdsSource,
    WineSource,
)
from scaling.specs.models import (
    ConvNetSpec,
    GradientBoostingSpec,
    InceptionSpec,
    LinearSVMSpec,
    LogisticRegressionSpec,
    LSTMSpec,
    MLPSpec,
    ModelSpec,
    NaiveBayesSpec,
    NetworkSpec,
    RandomForestSpec,
    RBFSVMSpec,
    ResNetSpec,
    RidgeSpec,
    TransformerSpec,
    ViTSpec,
    XceptionSpec,
)
from scaling.specs.schedules import (
    ConstantSchedule,
    CosineSchedule,
    InverseSqrtSchedule,
    LinearSchedule,
    ScheduleSpec,
    WSDSchedule,
)
from scaling.specs.study import at_horizons
from scaling.specs.training import (
    AdamSpec,
    AdamWSpec,
    LayerwiseSpec,
    LionSpec,
    MuonSpec,
    OptimizerSpec,
    RMSPropSpec,
    SGDSpec,
    TrainingSpec,
)

MODELS: Sequence[ModelSpec] = (
    MLPSpec(num_params=10_000),
    MLPSpec(width=64, depth=3, embedding_width=16, activation="tanh", normalization="rms", residual=True),
    MLPSpec(width=300, depth=2, proportions=(3, 1), initializer="uniform", activation="scaled_tanh"),
    MLPSpec(num_params=10**6, aspect="kaplan", aspect_ratio=32.0, parametrization="completep", base_depth=2),
    MLPSpec(num_params=10**6, width=128, aspect="fixed_width", parametrization="mup", base_width=128, dropout=0.1),
    MLPSpec(num_params=10**5, convention="matmul", initializer="glorot", activation="leaky_relu"),
    ConvNetSpec(num_params=30_000),
    ConvNetSpec(form="lenet1989", width=30, activation="sigmoid"),
    ConvNetSpec(form="lenet5", width=84, activation="scaled_tanh"),
    ConvNetSpec(form="lenet5_dense", num_params=60_000, activation="silu"),
    ConvNetSpec(form="alexnet", width=256, dense_width=4096, dropout=0.5),
    ConvNetSpec(form="alexnet_torchvision", width=256, dense_width=4096),
    ConvNetSpec(form="vgg", width=512, stages=(1, 1, 2, 2, 2), dense_width=4096, normalization="batch"),
    ConvNetSpec(form="vgg", num_params=10**6, depth=2, aspect="compound", normalization="group"),
    ResNetSpec(num_params=300_000),
    ResNetSpec(form="imagenet", block="bottleneck", width=512, stages=(3, 4, 6, 3), shortcut="projection"),
    ResNetSpec(num_params=10**6, stride_in="first", residual=False, activation="elu", initializer="he"),
    ResNetSpec(num_params=10**6, aspect="compound", normalization="layer", parametrization="mup"),
    InceptionSpec(num_params=10**7),
    InceptionSpec(form="googlenet", width=1024, auxiliary=True, normalization="none"),
    InceptionSpec(form="inception_v3", num_params=2 * 10**7, depth=2, auxiliary=True),
    XceptionSpec(num_params=10**7),
    XceptionSpec(width=2048, depth=4, residual=False, activation="gelu"),
    LSTMSpec(num_params=10**6),
    LSTMSpec(width=200, depth=1, embedding_width=100, residual=True, normalization="layer", dropout=0.2),
    LSTMSpec(num_params=10**6, aspect="kaplan", aspect_ratio=64.0, convention="non_embedding"),
    TransformerSpec(num_params=10**6),
    TransformerSpec(width=64, depth=2, head_size=16, num_kv_heads=2, is_gated=True, activation="silu", bias=False),
    TransformerSpec(num_params=10**7, aspect="levine", positions="learned", tied=True, document_mask=True),
    TransformerSpec(num_params=10**7, width=256, aspect="fixed_width", positions="sinusoidal", norm_position="post"),
    TransformerSpec(num_params=10**7, depth=4, aspect="fixed_depth", num_experts=8, top_k=1, ff_ratio=2.0),
    TransformerSpec(width=128, depth=2, form="encoder", num_segments=2, has_pooler=True, has_embedding_norm=True),
    TransformerSpec(width=128, depth=2, form="encoder", positions="relative", normalization="rms"),
    TransformerSpec(width=128, depth=2, form="encoder_decoder", positions="none"),
    TransformerSpec(num_params=10**8, aspect_ratio=128.0, parametrization="completep", base_width=256, base_depth=8),
    ViTSpec(num_params=10**6),
    ViTSpec(width=192, depth=12, patch_size=16, head_size=64, pooling="mean", dropout=0.1),
    ViTSpec(num_params=10**6, aspect="levine", ff_ratio=3.0, normalization="rms", residual=False),
    LogisticRegressionSpec(),
    LogisticRegressionSpec(inverse_regularization=0.5, max_iterations=50),
    LinearSVMSpec(),
    RBFSVMSpec(inverse_regularization=1.0),
    RandomForestSpec(num_trees=10),
    GradientBoostingSpec(num_iterations=20, learning_rate=0.05, max_leaves=7),
    NaiveBayesSpec(),
    RidgeSpec(regularization=0.0),
)

OPTIMIZERS: Sequence[OptimizerSpec] = (
    SGDSpec(peak_lr=0.1),
    SGDSpec(peak_lr=0.1, momentum=0.8, nesterov=True, weight_decay=1e-4),
    SGDSpec(peak_lr=1.0, momentum=0.0),
    AdamSpec(peak_lr=1e-3),
    AdamSpec(peak_lr=1e-3, b1=0.8, b2=0.95, eps=1e-6),
    AdamWSpec(peak_lr=3e-4),
    AdamWSpec(peak_lr=3e-4, b1=0.8, b2=0.95, eps=1e-10, weight_decay=0.1),
    RMSPropSpec(peak_lr=1e-3),
    RMSPropSpec(peak_lr=1e-3, decay=0.99, eps=1e-3, momentum=0.9, weight_decay=1e-5),
    LionSpec(peak_lr=1e-4),
    LionSpec(peak_lr=1e-4, b1=0.95, b2=0.98, weight_decay=1.0),
    MuonSpec(peak_lr=0.02),
    MuonSpec(peak_lr=0.02, momentum=0.9, newton_schulz_steps=6, nesterov=False, b1=0.8, b2=0.95, weight_decay=0.01),
)

SCHEDULES: Sequence[ScheduleSpec] = (
    ConstantSchedule(),
    ConstantSchedule(warmup_fraction=0.25),
    CosineSchedule(),
    CosineSchedule(warmup_fraction=0.0, final_fraction=0.1),
    CosineSchedule(warmup_fraction=1.0),
    LinearSchedule(),
    LinearSchedule(warmup_fraction=0.3, final_fraction=0.2),
    InverseSqrtSchedule(warmup_steps=4),
    WSDSchedule(),
    WSDSchedule(warmup_steps=5, decay_fraction=0.5, decay="linear", final_fraction=0.1),
    WSDSchedule(warmup_steps=3, decay_fraction=0.01),
)

TRAININGS: Sequence[dict[str, Any]] = (
    {"batch_size": 32, "num_evaluations": 1},
    {"pretraining": LayerwiseSpec(num_steps=10, peak_lr=0.1)},
    {"pretraining": LayerwiseSpec(num_steps=10, peak_lr=0.1, corruption=0.3)},
    {"evaluate_every": 7, "target_loss": 0.5},
    {"precision": "bfloat16", "moments": "bfloat16"},
    {"clip_norm": 1.0, "z_loss": 1e-4, "ema_decay": 0.99, "noise_scale_parts": 4},
)

SOURCES: Sequence[SourceSpec] = (
    StdlibSource(),
    StdlibSource(characters_before=2, characters_after=3, num_windows=1_000),
    DigitsSource(),
    BreastCancerSource(),
    WineSource(),
    DiabetesSource(),
    IdxSource(folder="data/mnist"),
    ArraysSource(sha256="0123456789abcdef" * 4),
    NpzSource(path="data/a.npz"),
    NpzSource(path="data/b", inputs="x", labels="y", vocab_size=100, groups="author"),
    NpzSource(path="data/c.npz", evaluation_inputs="x", evaluation_labels="y", task="regress"),
    CifarSource(path="data/cifar-100-binary.tar.gz", labels="coarse"),
    TableSource(path="data/letters.csv"),
    TableSource(
        path="data/patients.tsv", label_column="outcome", delimiter="\t", header=True, task="regress",
        evaluation_path="data/later.tsv", categorical=("town", 3), max_categories=10, text=("notes",),
        text_features=64, ignore=("id",), missing="NA", group_column="patient",
    ),
    ImageFolderSource(folder="data/images", side=32),
    ImageFolderSource(folder="data/images.zip", evaluation_folder="data/others", side=28, channels=1),
    TextSource(),
    TextSource(
        documents=FileDocuments(path="data/ä.jsonl", pattern="*.jsonl", unit="line", field="body"),
        tokenizer=SentencePieceTokenizer(path="data/t.model"), sequence_length=32, objective="masked", held_out=0.2,
        skip_empty=True, prepared="data/prepared",
    ),
    TextSource(
        documents=TfdsDocuments(name="lm1b", split="train[:1%]", data_dir="data/tfds", download=True),
        tokenizer=HuggingFaceTokenizer(path="data/tokenizer.json"), objective="permuted",
        evaluation_documents=StdlibDocuments(),
    ),
    TextSource(documents=FileDocuments(path="data/books"), tokenizer=BytesTokenizer(), sequence_length=256),
    TfdsSource(name="mnist"),
    TfdsSource(name="x:1.0.0", split="a", evaluation_split=None, inputs="i", labels="l", side=64, data_dir="d"),
    TeacherSource(),
    TeacherSource(num_features=50, spectrum_exponent=1.2, target_exponent=1.5, noise=0.1, num_examples=500, seed=3),
    MarkovSource(),
    MarkovSource(vocab_size=8, zipf_exponent=0.0, order=2, sequence_length=16, num_sequences=100, seed=7),
)  # fmt: skip

DATAS: Sequence[dict[str, Any]] = (
    {"order": "stratified", "evaluation_size": 400},
    {"order": "balanced"},
    {"order": "grouped"},
    {"label_noise": 0.1, "duplication": 0.25},
    {"augmentation": AugmentationSpec(crop=4, flip=True), "normalize": True},
    {"augmentation": AugmentationSpec()},
)


def vary() -> dict[str, Cell]:
    """Returns the cells by fingerprint: each varies one thing of a plain one; and the leaves of a branch tree."""

    def train(**changes: Any) -> TrainingSpec:
        return TrainingSpec(**{"optimizer": AdamWSpec(peak_lr=0.01), "num_steps": 100, **changes})

    def look(**changes: Any) -> DataSpec:
        return DataSpec(**{"source": DigitsSource(), "size": 100, **changes})

    plain = {"model": MLPSpec(num_params=1_000), "data": look(), "training": train()}

    def cell(**changes: Any) -> Cell:
        return Cell(**{**plain, **changes})

    trunk = cell(training=train(schedule=WSDSchedule(warmup_steps=10)))
    cells = [
        *(cell(model=model, training=train() if isinstance(model, NetworkSpec) else None) for model in MODELS),
        *(cell(training=train(optimizer=optimizer)) for optimizer in OPTIMIZERS),
        *(cell(training=train(schedule=schedule)) for schedule in SCHEDULES),
        *(cell(training=train(**changes)) for changes in TRAININGS),
        *(Cell(model=RidgeSpec(), data=look(source=source)) for source in SOURCES),
        *(Cell(model=RidgeSpec(), data=look(**changes)) for changes in DATAS),
        *at_horizons(trunk, (50, 100, 200)),
        cell(seed=2**32 - 1),
    ]
    return {one.fingerprint(): one for one in cells}
