"""One training run, from its cell to its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling.data.source import Source
    from scaling.data.sources.arrays import keep_arrays
    from scaling.learning.metrics import Metric
    from scaling.models.families.module import annotate, from_module
    from scaling.models.registry import find_preset
    from scaling.specs.base import InputError, Spec
    from scaling.specs.cell import Cell, EstimatorCell, NetworkCell
    from scaling.specs.data import (
        ArraysSource,
        AugmentationSpec,
        BreastCancerSource,
        BytesTokenizer,
        CifarSource,
        CodeSource,
        DataSpec,
        DiabetesSource,
        DigitsSource,
        DocumentsSpec,
        EvaluationSet,
        FileDocuments,
        HuggingFaceDocuments,
        HuggingFaceSource,
        HuggingFaceTokenizer,
        IdxSource,
        ImageFolderSource,
        MarkovSource,
        MixtureDocuments,
        MixturePart,
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
        TokenizerSpec,
        WineSource,
    )
    from scaling.specs.execution import Execution, MeshSpec
    from scaling.specs.fits import FitSpec
    from scaling.specs.metrics import BuiltIn, MetricFacts
    from scaling.specs.models import (
        ConvNetSpec,
        EstimatorSpec,
        GradientBoostingSpec,
        InceptionSpec,
        LinearSVMSpec,
        LogisticRegressionSpec,
        LSTMSpec,
        MLPSpec,
        ModelSpec,
        ModuleSpec,
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
        CodeSchedule,
        ConstantSchedule,
        CosineSchedule,
        InverseSqrtSchedule,
        LinearSchedule,
        Schedule,
        ScheduleSpec,
        WSDSchedule,
    )
    from scaling.specs.study import Series, Study, at_horizons, ladder, resolve_study
    from scaling.specs.task import TaskShape
    from scaling.specs.training import (
        AdamSpec,
        AdamWSpec,
        CodeOptimizerSpec,
        LayerwiseSpec,
        LionSpec,
        MuonSpec,
        OptimizerSpec,
        RMSPropSpec,
        SGDSpec,
        TrainingSpec,
    )
    from scaling.store.record import Record
    from scaling.store.store import Store
    from scaling.training.checkpoints.keeper import Keeping
    from scaling.training.networks import load_state
    from scaling.training.runner import train_cell, train_cells

__version__ = "0.1.0"

# What a study, a script or a notebook needs, by the module that has it; loaded when first used; the imports
# above are for who reads types. See docs/python.md.
FACE = {
    "Source": "data.source",
    "keep_arrays": "data.sources.arrays",
    "Metric": "learning.metrics",
    "annotate": "models.families.module",
    "from_module": "models.families.module",
    "find_preset": "models.registry",
    "InputError": "specs.base",
    "Spec": "specs.base",
    "Cell": "specs.cell",
    "EstimatorCell": "specs.cell",
    "NetworkCell": "specs.cell",
    "ArraysSource": "specs.data",
    "AugmentationSpec": "specs.data",
    "BreastCancerSource": "specs.data",
    "BytesTokenizer": "specs.data",
    "CifarSource": "specs.data",
    "CodeSource": "specs.data",
    "DataSpec": "specs.data",
    "DiabetesSource": "specs.data",
    "DigitsSource": "specs.data",
    "DocumentsSpec": "specs.data",
    "EvaluationSet": "specs.data",
    "FileDocuments": "specs.data",
    "HuggingFaceDocuments": "specs.data",
    "HuggingFaceSource": "specs.data",
    "HuggingFaceTokenizer": "specs.data",
    "IdxSource": "specs.data",
    "ImageFolderSource": "specs.data",
    "MarkovSource": "specs.data",
    "MixtureDocuments": "specs.data",
    "MixturePart": "specs.data",
    "NpzSource": "specs.data",
    "SentencePieceTokenizer": "specs.data",
    "SourceSpec": "specs.data",
    "StdlibDocuments": "specs.data",
    "StdlibSource": "specs.data",
    "TableSource": "specs.data",
    "TeacherSource": "specs.data",
    "TextSource": "specs.data",
    "TfdsDocuments": "specs.data",
    "TfdsSource": "specs.data",
    "TokenizerSpec": "specs.data",
    "WineSource": "specs.data",
    "Execution": "specs.execution",
    "MeshSpec": "specs.execution",
    "FitSpec": "specs.fits",
    "BuiltIn": "specs.metrics",
    "MetricFacts": "specs.metrics",
    "ConvNetSpec": "specs.models",
    "EstimatorSpec": "specs.models",
    "GradientBoostingSpec": "specs.models",
    "InceptionSpec": "specs.models",
    "LSTMSpec": "specs.models",
    "LinearSVMSpec": "specs.models",
    "LogisticRegressionSpec": "specs.models",
    "MLPSpec": "specs.models",
    "ModelSpec": "specs.models",
    "ModuleSpec": "specs.models",
    "NaiveBayesSpec": "specs.models",
    "NetworkSpec": "specs.models",
    "RBFSVMSpec": "specs.models",
    "RandomForestSpec": "specs.models",
    "ResNetSpec": "specs.models",
    "RidgeSpec": "specs.models",
    "TransformerSpec": "specs.models",
    "ViTSpec": "specs.models",
    "XceptionSpec": "specs.models",
    "CodeSchedule": "specs.schedules",
    "ConstantSchedule": "specs.schedules",
    "CosineSchedule": "specs.schedules",
    "InverseSqrtSchedule": "specs.schedules",
    "LinearSchedule": "specs.schedules",
    "Schedule": "specs.schedules",
    "ScheduleSpec": "specs.schedules",
    "WSDSchedule": "specs.schedules",
    "Series": "specs.study",
    "Study": "specs.study",
    "at_horizons": "specs.study",
    "ladder": "specs.study",
    "resolve_study": "specs.study",
    "TaskShape": "specs.task",
    "AdamSpec": "specs.training",
    "AdamWSpec": "specs.training",
    "CodeOptimizerSpec": "specs.training",
    "LayerwiseSpec": "specs.training",
    "LionSpec": "specs.training",
    "MuonSpec": "specs.training",
    "OptimizerSpec": "specs.training",
    "RMSPropSpec": "specs.training",
    "SGDSpec": "specs.training",
    "TrainingSpec": "specs.training",
    "Record": "store.record",
    "Store": "store.store",
    "Keeping": "training.checkpoints.keeper",
    "load_state": "training.networks",
    "train_cell": "training.runner",
    "train_cells": "training.runner",
}

__all__ = list(FACE)


def __getattr__(name: str) -> Any:
    from scaling.specs.lazy import load_name  # here, since importing this package loads nothing of it

    return load_name(__name__, FACE, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *FACE})
