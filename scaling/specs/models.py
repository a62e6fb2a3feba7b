"""Specifications of models: one class a family; what a cell says of its model, and nothing of data or training."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from scaling.specs.base import InputError, Rate, Spec, since
from scaling.specs.code import CodeReference, FrozenSettings, Settings

Activation = Literal["relu", "tanh", "sigmoid", "gelu", "silu", "elu", "leaky_relu", "scaled_tanh"]
Normalization = Literal["none", "batch", "layer", "group", "rms"]
ParamConvention = Literal["total", "non_embedding", "matmul"]
Aspect = Literal["fixed_depth", "fixed_width", "kaplan", "levine", "compound"]


class NetworkSpec(Spec):
    """What all networks share. Exactly one of `num_params` and `width` sets the size.

    Attributes:
      num_params: N asked for; the family finds the nearest shape along its aspect rule.
      width: the family's unit of width instead: D, or the channels of the last stage.
      convention: which parameters N counts: `total`, `non_embedding` (without token and position tables) or `matmul`
        (entries of matrices that activations are multiplied by).
      initializer: of the matrices; `auto` is `he` before rectifiers in MLPs and convolutional networks, and
        `lecun` else.
      dropout: rate, where the family has its places for it.
      parametrization: `standard`, `mup` (Yang et al. 2022) or `completep` (Dey et al. 2025); the last two are equal to
        standard at `base_width` and `base_depth`, and let its learning rate serve other widths (and depths).
      base_width, base_depth: where the learning rate was tuned.
    """

    num_params: PositiveInt | None = None
    width: PositiveInt | None = since(None)
    convention: ParamConvention = since("total")
    initializer: Literal["auto", "he", "lecun", "glorot", "uniform"] = since("auto")
    dropout: Rate = since(0.0)
    parametrization: Literal["standard", "mup", "completep"] = since("standard")
    base_width: PositiveInt = since(64)
    base_depth: PositiveInt = since(4)

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.num_params is not None and getattr(self, "aspect", None) == "fixed_width":
            if self.width is None:
                raise InputError("model.aspect=fixed_width: model.width is missing; set the width that is fixed")
        elif (self.num_params is None) == (self.width is None):
            given = "neither is" if self.width is None else "both are"
            raise InputError(f"model.num_params and model.width: {given} set; set the one that decides the size")
        return self


class MLPSpec(NetworkSpec):
    """A multilayer perceptron; integer inputs are embedded first.

    Attributes:
      depth: number of hidden layers, L.
      embedding_width: features per token; unused for dense inputs.
      proportions: relative widths of the hidden layers, the first being `width`; None for equal ones.
      residual: adds each hidden layer after the first to its input: x + W · activation(norm(x)).
      aspect: `fixed_depth` varies the width alone, `kaplan` keeps width / depth at `aspect_ratio`.
    """

    kind: Literal["mlp"] = "mlp"
    depth: Annotated[int, Field(ge=1)] = 1
    embedding_width: PositiveInt = 8
    activation: Activation = "relu"
    normalization: Normalization = since("none")
    residual: bool = since(False)
    proportions: tuple[PositiveInt, ...] | None = since(None)
    aspect: Literal["fixed_depth", "fixed_width", "kaplan"] = since("fixed_depth")
    aspect_ratio: PositiveFloat = since(64.0)


class ConvNetSpec(NetworkSpec):
    """A plain stack of convolutions, pools and dense layers, after LeNet, AlexNet or VGG.

    `width` is the channels of the last convolution, or the units of the last hidden layer of a LeNet.

    Attributes:
      form: the net whose layers are scaled. `lenet5` has the sparse third layer, trainable subsampling and fixed radial
        outputs of 1998, `lenet5_dense` none of these, `lenet1989` its ancestor; `alexnet` two groups and response
        normalisation; `vgg` stages of 3×3 convolutions.
      depth: convolutions per stage for `vgg`; for the others 1 as published, and each more adds a convolution.
      stages: convolutions of each stage for `vgg`, in place of `depth`.
      dense_width: of the two hidden dense layers of `alexnet` and `vgg` at their published width; scales with `width`,
        0 for none.
      normalization: after each convolution.
    """

    kind: Literal["convnet"] = "convnet"
    form: Literal["lenet1989", "lenet5", "lenet5_dense", "alexnet", "alexnet_torchvision", "vgg"] = "vgg"
    depth: PositiveInt = 1
    stages: tuple[PositiveInt, ...] | None = None
    dense_width: Annotated[int, Field(ge=0)] = 0
    activation: Activation = "relu"
    normalization: Normalization = "none"
    aspect: Literal["fixed_depth", "fixed_width", "compound"] = "fixed_depth"


class ResNetSpec(NetworkSpec):
    """A residual network (He et al. 2015), or its plain twin without shortcuts.

    `width` is the channels of the last stage, inside its bottlenecks if it has any.

    Attributes:
      form: `cifar` has a 3×3 stem and three stages, `imagenet` a 7×7 stem, a pool and four.
      block: `basic` two 3×3 convolutions, `bottleneck` 1×1, 3×3, 1×1 with four times the channels.
      stages: blocks of each stage, in place of `depth`.
      depth: blocks per stage.
      stride_in: which convolution of a bottleneck subsamples: `first` is v1 (the paper), `middle` v1.5.
      shortcut: where the size changes: `pad` (option A, no parameters) or `projection` (option B).
      residual: false gives the plain twin.
    """

    kind: Literal["resnet"] = "resnet"
    form: Literal["cifar", "imagenet"] = "cifar"
    block: Literal["basic", "bottleneck"] = "basic"
    depth: PositiveInt = 3
    stages: tuple[PositiveInt, ...] | None = None
    stride_in: Literal["first", "middle"] = "middle"
    shortcut: Literal["pad", "projection"] = "pad"
    residual: bool = True
    activation: Activation = "relu"
    normalization: Normalization = "batch"
    aspect: Literal["fixed_depth", "fixed_width", "compound"] = "fixed_depth"


class InceptionSpec(NetworkSpec):
    """GoogLeNet (Szegedy et al. 2014) or Inception-v3 (2015).

    `width` is the channels that the last module ends in.

    Attributes:
      form: `googlenet` as published, `googlenet_torchvision` with batch norm and 3×3 in place of 5×5, `inception_v3`.
      depth: copies of each module that keeps its dims (1 as published).
      auxiliary: whether the auxiliary classifiers are built and trained.
    """

    kind: Literal["inception"] = "inception"
    form: Literal["googlenet", "googlenet_torchvision", "inception_v3"] = "googlenet_torchvision"
    depth: PositiveInt = 1
    auxiliary: bool = False
    activation: Activation = "relu"
    normalization: Normalization = "batch"
    aspect: Literal["fixed_depth", "fixed_width", "compound"] = "fixed_depth"


class XceptionSpec(NetworkSpec):
    """Depthwise separable convolutions with residual connections (Chollet 2016).

    `width` is the channels of the last convolution, 2048 as published.

    Attributes:
      depth: modules of the middle flow, 8 as published.
    """

    kind: Literal["xception"] = "xception"
    depth: PositiveInt = 8
    residual: bool = True
    activation: Activation = "relu"
    normalization: Normalization = "batch"
    aspect: Literal["fixed_depth", "fixed_width", "compound"] = "fixed_depth"


class LSTMSpec(NetworkSpec):
    """A stack of LSTMs over tokens: a language model (Zaremba et al. 2014) or, on labelled sequences, a classifier.

    Attributes:
      depth: layers.
      embedding_width: the width of the embedded tokens; None for the width of the network.
    """

    kind: Literal["lstm"] = "lstm"
    depth: PositiveInt = 2
    embedding_width: PositiveInt | None = None
    residual: bool = False
    normalization: Literal["none", "layer", "rms"] = "none"
    aspect: Literal["fixed_depth", "fixed_width", "kaplan"] = "fixed_depth"
    aspect_ratio: PositiveFloat = 128.0


def _check_depth(spec: Any) -> None:
    """Raises InputError unless depth and width are settled once, by themselves or by `num_params` and the aspect."""
    sized = spec.num_params is not None
    if spec.depth is None and (not sized or spec.aspect == "fixed_depth"):
        raise InputError("model.depth is missing; set it, or give num_params and an aspect rule that finds it")
    if spec.aspect == "fixed_width" and sized and spec.depth is not None:
        raise InputError(f"model.depth={spec.depth}: num_params and width decide the depth; leave one of the three out")


class TransformerSpec(NetworkSpec):
    """A transformer over tokens; on labelled sequences, its pooled output is classified.

    Attributes:
      form: `decoder` (causal), `encoder` or `encoder_decoder`.
      initializer: `auto` is `lecun`.
      depth: blocks (of the encoder and of the decoder each, where there are both), which rule over the aspect; None
        where the aspect decides.
      head_size: K; None for the split nearest to 64.
      num_kv_heads: G, heads of keys and values; None for as many as heads.
      ff_ratio: F / D of the feed-forward block.
      is_gated: whether the block is gated, as in SwiGLU (with `activation` silu).
      positions: `learned`, `sinusoidal`, `rotary` or `relative` (XLNet); or none.
      norm_position: `pre` or `post` the sublayer.
      bias: the bias of the linear layers.
      tied: whether the readout is the embedding table.
      num_experts, top_k: routed experts in each block; 0 for a dense block.
      num_segments: learnt segment vectors (BERT: 2); with `relative`, any number above 0 lets two tokens' sharing a
        segment enter the attention.
      has_pooler: a dense layer with tanh on the first token (BERT), where examples are pooled: not where tokens are
        predicted.
      has_embedding_norm: a norm after the embeddings (BERT).
      document_mask: whether attention stops where a document ends, in sequences that are packed from several.
      aspect: `kaplan` keeps width / depth at `aspect_ratio`; `levine` is ln D = 5.039 + 0.0555 L (Levine et al. 2020).
    """

    kind: Literal["transformer"] = "transformer"
    form: Literal["decoder", "encoder", "encoder_decoder"] = "decoder"
    depth: PositiveInt | None = None
    head_size: PositiveInt | None = None
    num_kv_heads: PositiveInt | None = None
    ff_ratio: PositiveFloat = 4.0
    is_gated: bool = False
    activation: Activation = "gelu"
    normalization: Literal["none", "layer", "rms"] = "layer"  # the others would show a decoder the later tokens
    residual: bool = True
    positions: Literal["none", "learned", "sinusoidal", "rotary", "relative"] = "rotary"
    norm_position: Literal["pre", "post"] = "pre"
    bias: bool = True
    tied: bool = False
    num_experts: Annotated[int, Field(ge=0)] = 0
    top_k: PositiveInt = 2
    num_segments: Annotated[int, Field(ge=0)] = 0
    has_pooler: bool = False
    has_embedding_norm: bool = False
    document_mask: bool = since(False)
    aspect: Literal["fixed_depth", "fixed_width", "kaplan", "levine"] = "kaplan"
    aspect_ratio: PositiveFloat = 64.0

    @model_validator(mode="after")
    def _depth_and_width(self) -> Self:
        _check_depth(self)
        return self


class ViTSpec(NetworkSpec):
    """A vision transformer (Dosovitskiy et al. 2020).

    Attributes:
      initializer: `auto` is `lecun`.
      depth: blocks, which rule over the aspect; None where the aspect decides.
      patch_size: side of the square patches, which must tile the image.
      head_size: K; None for the split nearest to 64.
      ff_ratio: F / D.
      pooling: `class_token` or `mean`.
    """

    kind: Literal["vit"] = "vit"
    depth: PositiveInt | None = None
    patch_size: PositiveInt = 4
    head_size: PositiveInt | None = None
    ff_ratio: PositiveFloat = 4.0
    activation: Activation = "gelu"
    normalization: Normalization = "layer"
    residual: bool = True
    pooling: Literal["class_token", "mean"] = "class_token"
    aspect: Literal["fixed_depth", "fixed_width", "kaplan", "levine"] = "kaplan"
    aspect_ratio: PositiveFloat = 48.0

    @model_validator(mode="after")
    def _depth_and_width(self) -> Self:
        _check_depth(self)
        return self


class ModuleSpec(NetworkSpec):
    """A network of the user's own: the Flax module that `make(width, task, **settings)` gives, of NNX or of Linen.

    `scaling.from_module(make, num_params=…)` makes this specification. N is met within 3 % by searching the width.

    Attributes:
      code: `name:make`, the function: of a study's file, of a module beside it, or of an installed package.
      settings: its further arguments.
      parametrization: `mup` rests on the roles of arrays, which are guessed where the code does not say them. Initial
        values, dropout and whatever depends on the depth are the module's own.
    """

    kind: Literal["module"] = "module"
    code: CodeReference
    settings: Settings = FrozenSettings()

    @model_validator(mode="after")
    def _code_keeps_its_own(self) -> Self:
        for name in ("initializer", "dropout"):
            if getattr(self, name) != NetworkSpec.model_fields[name].default:
                raise InputError(
                    f"model.{name}={getattr(self, name)!r}: a module has its own; pass it as model.settings.{name}"
                )
        if self.parametrization == "completep":
            raise InputError(
                "model.parametrization='completep' puts factors on residual branches, which a module of code has to "
                "itself; choose mup or standard"
            )
        return self


class LogisticRegressionSpec(Spec):
    """Multinomial logistic regression; `inverse_regularization` is scikit-learn's C."""

    kind: Literal["logistic_regression"] = "logistic_regression"
    inverse_regularization: PositiveFloat = 1.0
    max_iterations: PositiveInt = 1000


class LinearSVMSpec(Spec):
    """A one-against-rest linear support vector machine; `inverse_regularization` is scikit-learn's C."""

    kind: Literal["linear_svm"] = "linear_svm"
    inverse_regularization: PositiveFloat = 0.1
    max_iterations: PositiveInt = 10_000


class RBFSVMSpec(Spec):
    """A support vector machine with a Gaussian kernel; its cost grows at least with the square of m."""

    kind: Literal["rbf_svm"] = "rbf_svm"
    inverse_regularization: PositiveFloat = 3.0


class RandomForestSpec(Spec):
    """A random forest; token inputs enter as integer codes."""

    kind: Literal["random_forest"] = "random_forest"
    num_trees: PositiveInt = 100


class GradientBoostingSpec(Spec):
    """Histogram gradient boosting of trees; token inputs enter as integer codes."""

    kind: Literal["gradient_boosting"] = "gradient_boosting"
    num_iterations: PositiveInt = 100
    learning_rate: PositiveFloat = 0.1
    max_leaves: Annotated[int, Field(ge=2)] = 31


class NaiveBayesSpec(Spec):
    """Naive Bayes: Gaussian for numbers, categorical for tokens."""

    kind: Literal["naive_bayes"] = "naive_bayes"
    smoothing: Annotated[PositiveFloat, Field(description="pseudo-counts of each token (Laplace)")] = 1.0


class RidgeSpec(Spec):
    """Ridge regression of numbers: the w and b that minimise ||y - X w - b||² + regularization · ||w||².

    Attributes:
      regularization: λ, against a sum over examples and not their mean; 0 is least squares, and among its solutions the
        one of the smallest ||w||.
    """

    kind: Literal["ridge"] = "ridge"
    regularization: Annotated[float, Field(ge=0.0)] = 1.0


class EstimatorSpec(Spec):
    """Any class with scikit-learn's interface, and its parameters.

    Attributes:
      code: `sklearn.neighbors:KNeighborsClassifier`, or `name:Class` of the user's own code.
      settings: arguments of the class; `random_state` is the cell's seed where the class takes one.
      tokens: how tokens enter: as `one_hot` rows, sparse, or as integer `codes`.
    """

    kind: Literal["estimator"] = "estimator"
    code: CodeReference
    settings: Settings = FrozenSettings()
    tokens: Literal["one_hot", "codes"] = "one_hot"


AnyNetworkSpec = (
    MLPSpec
    | ConvNetSpec
    | ResNetSpec
    | InceptionSpec
    | XceptionSpec
    | LSTMSpec
    | TransformerSpec
    | ViTSpec
    | ModuleSpec
)
AnyEstimatorSpec = (
    LogisticRegressionSpec
    | LinearSVMSpec
    | RBFSVMSpec
    | RandomForestSpec
    | GradientBoostingSpec
    | NaiveBayesSpec
    | RidgeSpec
    | EstimatorSpec
)
ModelSpec = Annotated[AnyNetworkSpec | AnyEstimatorSpec, Field(discriminator="kind")]
