"""Model cards: weights and revision, loader, preprocessing, features, text tower, environment, licence.

A card describes one image encoder. ``model`` is its default; ``model@feature`` takes another of its
tensors and ``model@variant`` another way to run it (``llava@projector_patch_mean``, ``llava@official``).
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from discern.errors import DiscernError, did_you_mean, problem
from discern.merge import merged
from discern.sources import HubFile, Name, Nothing, PackageFile, WeightsSource
from discern.validation import Strict, Titled

ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]*(@[a-z0-9][a-z0-9_]*)*$")]

MODEL_GROUPS = {
    "medical_vlm": "Medical VLMs, modality-agnostic",
    "modality_specific": "Medical VLMs, modality-specific",
    "volumetric": "Medical VLMs, volumetric",
    "non_medical_vlm": "General VLMs",
    "non_vlm": "Vision models",
    "control": "Controls",
    "own": "Your models",
}

#: A branch or tag may move; what code is run must not.
COMMIT = re.compile(r"[0-9a-f]{40}")

#: Largest batch of a processor, and of a GPU where the card leaves it open (why: discern.features.memory).
CPU_BATCH, GPU_BATCH = 8, 512

#: Fields of a source that say how to get the files and not which files they are.
WORDS = {"bytes", "gated", "terms", "page", "note"}

Route = Literal[
    "torchvision", "timm", "open_clip", "transformers", "torchscript", "onnx", "python", "pixels",
    "llava_official", "remote_code",
]  # fmt: skip


class Loader(Strict):
    """How an encoder is built and how the published keys become its state dict.

    The published names are filtered by ``prefix``, cleared of ``drop``, rewritten by ``rename`` and
    lose the prefix as far as the encoder's own names demand; what remains must fit one to one.
    """

    route: Route
    arch: str = ""  # architecture in its library; python: package.module:function
    options: dict[str, Any] = {}  # keyword arguments of the architecture
    keys: Literal["named", "converted", "by_order", "random"] = "named"  # converted: by the library
    prefix: str | list[str] = ""  # published tensors that belong to the encoder begin with one of these
    rename: dict[str, str] = {}  # regular expression on published names -> replacement, in this order
    drop: list[str] = []  # regular expressions of published names that are no weights of the encoder
    seed: int | None = None  # of random weights

    @field_validator("rename", "drop")
    @classmethod
    def _compile(cls, patterns: Any) -> Any:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"'{pattern}' is not a regular expression ({error})") from error
        return patterns

    @property
    def prefixes(self) -> list[str]:
        """``prefix`` as a list; an empty one takes every key."""
        return [self.prefix] if isinstance(self.prefix, str) else self.prefix


class Preprocess(Strict):
    """One explicit transform, in this order: RGB, prepare, resize, crop, channels, scale, mean, std."""

    prepare: Literal["", "visionunite"] = ""  # a model's own step before the resize
    resize: Literal["shortest", "squash", "pad", "canvas", "none"]
    size: int | tuple[int, int]  # pixels, target of the resize; [height, width] with squash
    crop: int | None = None  # centre crop after the resize
    fill: Literal["mean", "black"] = "mean"  # colour of the padding of resize 'pad'
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box"] = "bicubic"
    antialias: bool = True  # false: between the nearest pixels only, whatever the reduction
    precision: Literal["uint8", "float32"] = "uint8"  # of the resize: of pictures or of tensors
    channels: Literal["rgb", "bgr", "grey"] = "rgb"
    scale: float = 255.0  # pixel values are divided by this
    stretch: bool = False  # after the scale each picture's own range becomes 0 to 1
    mean: list[float] = [0.0, 0.0, 0.0]
    std: list[float] = [1.0, 1.0, 1.0]

    @field_validator("size")
    @classmethod
    def _positive(cls, size: int | tuple[int, int]) -> int | tuple[int, int]:
        if min(size if isinstance(size, tuple) else (size,)) < 1:
            raise ValueError("must be greater than 0")
        return size

    @model_validator(mode="after")
    def _square(self) -> Preprocess:
        if isinstance(self.size, tuple) and self.resize not in ("squash", "none"):
            raise ValueError(f"size: a height and a width go with resize 'squash', not '{self.resize}'")
        if not self.antialias and self.interpolation not in ("nearest", "bilinear"):
            raise ValueError(f"antialias: false goes with bilinear, not '{self.interpolation}'")
        return self

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the picture that the encoder sees, in pixels."""
        size = self.crop or self.size
        return size if isinstance(size, tuple) else (size, size)


Spacing = Annotated[float, Field(gt=0)]  # mm
Voxels = Annotated[int, Field(gt=0)]


class VolumePreprocess(Strict):
    """Transform of a volume in Hounsfield units: orient, resample, window, scale, crop or pad.

    ``grid`` says where the resampled voxels lie. ``edges``: the volume keeps its outer edges and the
    number of voxels is rounded down (torch's interpolate); ``centres``: the first voxel keeps its centre
    and the last one is the nearest to its old centre (MONAI's Spacing).
    """

    orientation: str = "RAS"  # axis codes of the array handed to the encoder: to the Right, Front, up
    spacing: tuple[Spacing, Spacing, Spacing]  # mm along those axes
    grid: Literal["edges", "centres"] = "centres"
    window: tuple[float, float]  # values are clipped to this range
    window_first: bool = False  # clip before the resampling instead of after it
    scaled: tuple[float, float]  # what the window is mapped to, linearly
    size: tuple[Voxels, Voxels, Voxels]  # voxels after centred crop and padding
    fill: float  # value of the padding, after scaling

    @field_validator("orientation")
    @classmethod
    def _three_axes(cls, orientation: str) -> str:
        axes = [next((a for a in ("LR", "PA", "IS") if code in a), code) for code in orientation]
        if sorted(axes) != ["IS", "LR", "PA"]:
            raise ValueError("must hold one each of L or R, P or A, I or S")
        return orientation

    @field_validator("window", "scaled")
    @classmethod
    def _ascending(cls, values: tuple[float, float]) -> tuple[float, float]:
        if not values[0] < values[1]:
            raise ValueError("must ascend")
        return values

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Voxels of the array that the encoder sees, by axis."""
        return self.size


class Feature(Strict):
    """One named tensor that may serve as the image feature; ``model@name`` selects it."""

    name: Name
    d: int = Field(gt=0)
    output: str = ""  # how the route calls it; empty: the encoder's own output
    tensor: str = ""  # where it is taken, in words
    reason: str = ""
    loader: dict[str, Any] = {}  # fields of `loader` that differ for this feature
    preprocess: dict[str, Any] = {}  # fields of `preprocess` that differ for this feature


class Tokenizer(Strict):
    """How a text becomes token ids.

    ``case``: canonical, lower case without punctuation (SigLIP); wordpunct, lower case with blanks
    between words and punctuation (Merlin).
    """

    kind: Literal["clip_bpe", "huggingface", "conch"]  # clip_bpe: ships with open_clip
    files: list[HubFile | PackageFile] = []  # of huggingface and conch: what the tokenizer reads
    case: Literal["as is", "canonical", "wordpunct"] = "as is"  # what is done to a text first, see below
    padding: Literal["longest", "max_length"] = "max_length"


class TextTower(Strict):
    """The text side of a model: for zero-shot work, not for image features."""

    loader: Loader
    output: str = ""  # how the route calls the embedding
    d: int = Field(gt=0)  # length of the embedding, equal to that of the image embedding
    tokenizer: Tokenizer
    context_length: int = Field(gt=0)  # tokens
    prompt: str  # the authors' convention; {label} stands for the class
    logit_scale: str | float = "logit_scale"  # published name of its logarithm, or the fixed factor
    logit_bias: str = ""  # published name; empty: none
    environment: Name = "torch"
    note: str = ""


class Training(Strict):
    """What a model saw in training: the daggers of the tables."""

    modalities: list[str] = []
    datasets: list[str] = []
    note: str = ""


class Parity(Strict):
    """How this card's loading path was checked; the figures stand in docs/models.md."""

    kind: Literal["official", "structural", "none"] = "none"
    against: str = ""  # official: library and version; otherwise: why there is none


#: Fields that a variant replaces instead of adding to them.
WHOLE = ("weights", "options", "variants", "rename")


class ModelCard(Titled):
    """One image encoder."""

    name: ModelName
    title: str = ""  # as tables print it; empty: the name
    group: Literal[
        "medical_vlm", "modality_specific", "volumetric", "non_medical_vlm", "non_vlm", "control", "own"
    ] = "own"
    summary: str = ""
    paper_row: str | None = None  # the model's name in the published tables
    weights: WeightsSource = Nothing(kind="none")
    loader: Loader
    preprocess: Preprocess | None = None  # of pictures; volumetric models have `volume` instead
    volume: VolumePreprocess | None = None  # of volumes; such a model does not run on 2D data sets
    volume_note: str = ""  # why not; printed with the empty cells of the tables
    features: list[Feature] = Field(min_length=1)  # the first is the default
    variants: dict[Name, dict[str, Any]] = {}  # name -> card fields that differ; selected as model@name
    text: TextTower | None = None
    text_note: str = ""  # why there is no text tower, where that may surprise
    environment: Name = "torch"  # envs/<name>.yaml
    remote_code: bool = False  # runs code published with the weights; needs allow_remote_code in the study
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # of arithmetic; features stay float32
    compile: bool = False  # by torch.compile; needs a C++ compiler, or a GPU
    batch_size: Annotated[int, Field(gt=0)] | Literal["auto"] = 32  # images at once, at most; 8 on a CPU
    gpu: bool = True  # asks for a GPU where the cluster has one
    params: int | None = Field(default=None, gt=0)  # of the modules that the default feature needs
    training: Training = Training()
    parity: Parity = Parity()
    licence: str = "not stated"
    citation: str = ""
    sources: list[str] = []
    notes: list[str] = []

    @model_validator(mode="after")
    def _complete(self) -> ModelCard:
        if (self.preprocess is None) == (self.volume is None):
            raise ValueError("preprocess: give either `preprocess` (pictures) or `volume` (volumes)")
        if self.remote_code and not COMMIT.fullmatch(str(getattr(self.weights, "revision", None))):
            raise ValueError("remote_code: code is only run from a hub repository at a pinned revision")
        if self.loader.route in ("onnx", "pixels") and (self.precision != "float32" or self.compile):
            raise ValueError(f"precision, compile: not with loader.route '{self.loader.route}'")
        if self.loader.route == "remote_code" and not self.remote_code:
            raise ValueError("remote_code: must be true with loader.route 'remote_code'")
        names = [*(f.name for f in self.features), *self.variants]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"features, variants: named twice: {', '.join(twice)}")
        if "@" not in self.name:
            for part in names:  # a mistake in a variant is a mistake in the card
                self._check(part)
        return self

    def _check(self, part: str) -> None:
        try:
            self.selected(part)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise ValueError(f"feature or variant '{part}': {field}: {first['msg']}") from error

    @property
    def feature(self) -> Feature:
        """The default feature."""
        return self.features[0]

    @property
    def volumetric(self) -> bool:
        """Whether the model takes volumes."""
        return self.volume is not None

    @cached_property
    def transform(self) -> Preprocess:
        """The transform of pictures; DiscernError for volumetric models."""
        if self.preprocess is None:
            raise DiscernError(f"model '{self.name}' takes volumes, not pictures")
        return self.preprocess

    def selected(self, part: str) -> ModelCard:
        """This card as its feature or variant ``part``: ``name@part``, with that feature alone."""
        mine = self.model_dump(exclude_unset=True)
        chosen = next((f for f in self.features if f.name == part), None)
        changes: dict[str, Any]
        if chosen is not None:
            changes = {
                "features": [chosen.model_dump(exclude={"loader", "preprocess"})],
                "loader": chosen.loader,
                "params": self.params if chosen is self.feature else None,
            }
            if chosen.preprocess:
                changes["preprocess"] = chosen.preprocess
        elif part in self.variants:
            changes = {"params": None, "parity": {}} | self.variants[part]
            if "weights" in changes:  # another checkpoint may have another text side, or none
                changes = {"text": None, "text_note": f"not written down for {part}"} | changes
        else:
            known = [*(f.name for f in self.features), *self.variants]
            what = f"has no feature or variant '{part}'{did_you_mean(part, known)}"
            raise problem(f"model '{self.name}'", what, allowed=known)
        title = f"{self.title} [{part.replace('_', ' ')}]"
        own = {"name": f"{self.name}@{part}", "title": title, "variants": {}}
        return ModelCard.model_validate(merged(mine | own, changes, WHOLE))

    def extraction_spec(self) -> dict[str, Any]:
        """The fields that the extracted features depend on, and no others."""
        spec = self.selected(self.feature.name) if self.feature.loader or self.feature.preprocess else self
        # Only where a card asks for it, so that a new choice leaves all other features as they are.
        arithmetic = self.model_dump(include={"precision", "compile"}, exclude_defaults=True)
        fields = spec.model_dump(mode="json", include={"loader", "preprocess", "volume"}) | arithmetic
        return fields | {
            "name": self.name,
            "feature": self.feature.model_dump(include={"name", "d", "output"}),
            "weights": self.weights.model_dump(mode="json", exclude=WORDS),
        }

    def wanted_prefixes(self) -> list[str]:
        """Prefixes of every tensor that any feature, or variant with the same weights, may read."""
        cards = [self, *(self.selected(f.name) for f in self.features)]
        cards += [self.selected(v) for v, changes in self.variants.items() if "weights" not in changes]
        found = [prefix for card in cards for prefix in card.loader.prefixes]
        if self.text is not None:
            found += self.text.loader.prefixes
        return sorted(set(found))
