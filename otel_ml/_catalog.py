"""Every name this package puts into telemetry: attributes, spans, events and metrics, with units and meaning.

This is the only file that spells a telemetry name; `docs/telemetry.md` is generated from it.
"""

from typing import Literal, NamedTuple

SCOPE = "otel_ml"
# The scope of values replayed through a host's own instruments; our exporters leave it out, or points would count twice.
REPLAY_SCOPE = "otel_ml.replay"
# Keeps a host's collection from being empty and folds before it is read; carries no points.
REPLAY_GAUGE = "otel_ml.replay"
SCHEMA_URL = ""

# ------------------------------------------------------------------------------------------------ attributes
OPERATION = "ml.operation.name"
MODEL = "ml.model.name"
VERSION = "ml.model.version"
PREDICTION_ID = "ml.prediction.id"
PREDICTION_TIME = "ml.prediction.time"
BATCH_SIZE = "ml.prediction.batch.size"
OUTCOME = "ml.prediction.outcome"
CLASS_NAME = "ml.prediction.class.name"
PREDICTED_VALUE = "ml.prediction.value"
SCORE = "ml.prediction.score"
STAGE = "ml.prediction.stage"
SAMPLING_REASON = "ml.sampling.reason"
INPUT_TYPE = "ml.input.type"
INPUT_SHAPE = "ml.input.shape"
INPUT_DTYPE = "ml.input.dtype"
OUTPUT_TYPE = "ml.output.type"
OUTPUT_SHAPE = "ml.output.shape"
OUTPUT_DTYPE = "ml.output.dtype"

RUN_ID = "ml.training.run.id"
RUN_OUTCOME = "ml.training.outcome"
EPOCH = "ml.training.epoch.index"
STEP = "ml.training.step.index"
EPOCH_SECONDS = "ml.training.epoch.duration"
RUN_SECONDS = "ml.training.duration"
STEPS = "ml.training.steps"
EPOCHS = "ml.training.epochs"
PHASE = "ml.training.phase"
HYPERPARAMETER = "ml.training.hyperparameter."
TRAINING_VALUE = "ml.training.value."
SPLIT = "ml.dataset.split"
TENSOR_KIND = "ml.tensor.kind"

CLASS_ACTUAL = "ml.class.actual"
CLASS_PREDICTED = "ml.class.predicted"
ACTUAL_VALUE = "ml.ground_truth.value"
LABEL_RESULT = "ml.ground_truth.result"
LABEL_TIME = "ml.ground_truth.time"

EXPORTER = "otel_ml.exporter.name"
SIGNAL = "otel_ml.exporter.signal"
DROP_REASON = "otel_ml.drop.reason"

ERROR_TYPE = "error.type"
CODE_FUNCTION = "code.function.name"
CODE_FILE = "code.file.path"
CODE_LINE = "code.line.number"
OVERFLOW = "otel.metric.overflow"
SERVICE_NAME = "service.name"
SERVICE_INSTANCE = "service.instance.id"
PROCESS_PID = "process.pid"
DISTRO_NAME = "telemetry.distro.name"
DISTRO_VERSION = "telemetry.distro.version"
OTHER = "_OTHER"

# ------------------------------------------------------------------------------------------------ values
PREDICT = "predict"
TRAIN = "train"
EPOCH_SPAN = "epoch"
EVALUATE = "evaluate"
CHECKPOINT = "checkpoint"

SUCCESS = "success"
ERROR = "error"
CANCELLED = "cancelled"
PARTIAL = "partial"

DATA_LOADING = "data_loading"
EVALUATION = "evaluation"
CHECKPOINT_PHASE = "checkpoint"
OTHER_PHASE = "other"

MATCHED = "matched"
UNMATCHED = "unmatched"
DUPLICATE = "duplicate"
EXPIRED = "expired"

REASON_SLOW = "slow"
REASON_ERROR = "error"

# ------------------------------------------------------------------------------------------------ events
STEP_COMPLETED = "ml.training.step.completed"
EPOCH_COMPLETED = "ml.training.epoch.completed"
TRAINING_STARTED = "ml.training.started"
TRAINING_COMPLETED = "ml.training.completed"
GROUND_TRUTH = "ml.ground_truth.received"


class Text(NamedTuple):
    """A name with the sentence that the documentation prints beside it."""

    name: str
    meaning: str


ATTRIBUTES = (
    Text(OPERATION, "What the model was asked for: `predict`, `train`."),
    Text(MODEL, "The model's name; few values."),
    Text(VERSION, "The model's version, as the registry has it; few values."),
    Text(PREDICTION_ID, "Joins a prediction to its label. Spans and events only."),
    Text(PREDICTION_TIME, "The prediction's own time (ISO 8601), where one was given. Spans and events only."),
    Text(BATCH_SIZE, "Samples in this call. Spans only."),
    Text(OUTCOME, "`success`, `error`, `cancelled` or `partial` (a consumer left a stream early). Spans only."),
    Text(CLASS_NAME, "The predicted class, where `output=` asked for it."),
    Text(PREDICTED_VALUE, "The predicted number, where `output=` asked for it. Spans and events only."),
    Text(SCORE, "The predicted score, where one was given. Events only."),
    Text(STAGE, "A part of the call: `preprocess`, `inference`, `postprocess`, ..."),
    Text(SAMPLING_REASON, "Why an unsampled call or run has a span after all: `slow` or `error`. Spans only."),
    Text(INPUT_TYPE, "Class of the object given to `call.inputs`. Spans only."),
    Text(INPUT_SHAPE, "Its shape. Spans only."),
    Text(INPUT_DTYPE, "Its dtype. Spans only."),
    Text(OUTPUT_TYPE, "Class of the object given to `call.outputs`. Spans only."),
    Text(OUTPUT_SHAPE, "Its shape. Spans only."),
    Text(OUTPUT_DTYPE, "Its dtype. Spans only."),
    Text(RUN_ID, "One training run. Spans and events only."),
    Text(RUN_OUTCOME, "`success`, `error` or `cancelled`, of a run, an epoch, an evaluation. Spans and events only."),
    Text(EPOCH, "Number of the epoch, from 0. Spans and events only."),
    Text(STEP, "Number of the step within the run, from 0. Events only."),
    Text(EPOCH_SECONDS, "How long the epoch took, in seconds. Events only; on metrics, a histogram of that name."),
    Text(RUN_SECONDS, "How long the run took, in seconds. Events only; on metrics, a histogram of that name."),
    Text(STEPS, "Steps of the epoch or run. Events only; on metrics, a counter of that name."),
    Text(EPOCHS, "Epochs of the run. Events only; on metrics, a counter of that name."),
    Text(PHASE, "Where a run's time went: `data_loading`, `evaluation`, `checkpoint`, `other`."),
    Text(HYPERPARAMETER + "<key>", "A hyperparameter given to `train(params=...)`. Spans and events only."),
    Text(TRAINING_VALUE + "<key>", "A value given to `run.log` or `epoch.log`. Events only."),
    Text(SPLIT, "`train`, `validation` or `test`."),
    Text(TENSOR_KIND, "What was not finite: `loss`, `gradient`, `metric`."),
    Text(CLASS_ACTUAL, "The class that turned out to be right; at most 20, then `_OTHER`."),
    Text(CLASS_PREDICTED, "The class that was predicted; at most 20, then `_OTHER`."),
    Text(ACTUAL_VALUE, "The number that turned out to be right. Events only."),
    Text(LABEL_TIME, "The label's own time (ISO 8601), where one was given. Events only."),
    Text(LABEL_RESULT, "`matched`, `unmatched`, `duplicate` or `expired`."),
    Text(EXPORTER, "One of the exporters given to `configure`, as `health()` names it: `otlp-0`."),
    Text(SIGNAL, "`spans`, `events` or `metrics`."),
    Text(DROP_REASON, "Why records were dropped: [the reasons](exporters.md#what-became-of-it)."),
    Text(ERROR_TYPE, "Class of the exception; its text is not recorded."),
    Text(CODE_FUNCTION, "Function in which the exception was raised. Spans only."),
    Text(CODE_FILE, "File in which the exception was raised. Spans only."),
    Text(CODE_LINE, "Line on which the exception was raised. Spans only."),
    Text(OVERFLOW, "True on the one series that holds what came after 2,000 series of an instrument."),
)

SPANS = (
    Text("predict {model}", "One call of the model, child of whatever was current; `ml.operation.name` `predict`."),
    Text("{stage}", "A part of a call, child of it: `call.stage(...)`."),
    Text("train {model}", "One training run."),
    Text("epoch {model}", "One epoch, child of the run."),
    Text("evaluate {model}", "An evaluation, child of the epoch or the run."),
    Text("checkpoint {model}", "The writing of a checkpoint, child of the epoch or the run."),
)

EVENTS = (
    Text(STEP_COMPLETED, "One per `run.log`, every one kept or counted as dropped."),
    Text(EPOCH_COMPLETED, "One per epoch: its duration, steps and the values given to `epoch.log`."),
    Text(TRAINING_STARTED, "A run has begun: its hyperparameters."),
    Text(TRAINING_COMPLETED, "A run has ended: its outcome, duration, epochs and steps."),
    Text(GROUND_TRUTH, "One per label given to `feedback`, in the trace of its prediction where that is known."),
)

# ------------------------------------------------------------------------------------------------ metrics
Kind = Literal["counter", "updowncounter", "gauge", "histogram"]

DURATION_BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
SIZE_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0)
EPOCH_BUCKETS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
DELAY_BUCKETS = (1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0, 604800.0, 2592000.0)


class Instrument(NamedTuple):
    """One metric: its name, kind, UCUM unit, meaning, the attributes it may carry and, for a histogram, its buckets."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_ID = (MODEL, VERSION)

PREDICTION_DURATION = Instrument(
    "ml.prediction.duration", "histogram", "s", "How long calls took.",
    (OPERATION, *_ID, ERROR_TYPE), DURATION_BUCKETS,
)  # fmt: skip
PREDICTION_STAGE_DURATION = Instrument(
    "ml.prediction.stage.duration", "histogram", "s", "How long the stages of calls took.",
    (*_ID, STAGE), DURATION_BUCKETS,
)  # fmt: skip
PREDICTION_ACTIVE = Instrument(
    "ml.prediction.active", "updowncounter", "{prediction}", "Calls running at this moment.", _ID
)
PREDICTION_SAMPLES = Instrument(
    "ml.prediction.samples", "counter", "{sample}", "Rows predicted, not calls.", (*_ID, ERROR_TYPE)
)
PREDICTION_ERRORS = Instrument(
    "ml.prediction.errors", "counter", "{prediction}", "Calls that failed, by model and version only.", _ID
)
PREDICTION_BATCH_SIZE = Instrument(
    "ml.prediction.batch.size", "histogram", "{sample}", "Rows a call.", _ID, SIZE_BUCKETS
)
TRAINING_DURATION = Instrument(
    RUN_SECONDS, "histogram", "s", "How long training runs took.", (*_ID, ERROR_TYPE), EPOCH_BUCKETS
)
TRAINING_EPOCH_DURATION = Instrument(EPOCH_SECONDS, "histogram", "s", "How long epochs took.", _ID, EPOCH_BUCKETS)
TRAINING_STEP_DURATION = Instrument(
    "ml.training.step.duration", "histogram", "s", "How long steps took, waiting for data left out.", _ID, STEP_BUCKETS
)
TRAINING_TIME = Instrument(
    "ml.training.time", "counter", "s", "Where the time of training runs went; the phases sum to the whole.",
    (*_ID, PHASE),
)  # fmt: skip
TRAINING_EPOCHS = Instrument(EPOCHS, "counter", "{epoch}", "Epochs completed.", _ID)
TRAINING_STEPS = Instrument(STEPS, "counter", "{step}", "Steps completed.", _ID)
TRAINING_SAMPLES = Instrument("ml.training.samples", "counter", "{sample}", "Rows trained on.", _ID)
TRAINING_LOSS = Instrument("ml.training.loss", "gauge", "1", "The latest finite loss.", (*_ID, SPLIT))
TRAINING_LEARNING_RATE = Instrument("ml.training.learning_rate", "gauge", "1", "The latest learning rate.", _ID)
TRAINING_GRADIENT_NORM = Instrument("ml.training.gradient.norm", "gauge", "1", "The latest gradient norm.", _ID)
TRAINING_NONFINITE = Instrument(
    "ml.training.nonfinite_values", "counter", "{value}", "Logged values that were NaN or infinite.",
    (*_ID, TENSOR_KIND),
)  # fmt: skip
TRAINING_CHECKPOINT_DURATION = Instrument(
    "ml.training.checkpoint.duration", "histogram", "s", "How long checkpoints took to write.", _ID, EPOCH_BUCKETS
)
EVALUATION_ACCURACY = Instrument("ml.evaluation.accuracy", "gauge", "1", "The latest accuracy.", (*_ID, SPLIT))
EVALUATION_PRECISION = Instrument("ml.evaluation.precision", "gauge", "1", "The latest precision.", (*_ID, SPLIT))
EVALUATION_RECALL = Instrument("ml.evaluation.recall", "gauge", "1", "The latest recall.", (*_ID, SPLIT))
EVALUATION_F1 = Instrument("ml.evaluation.f1", "gauge", "1", "The latest F1.", (*_ID, SPLIT))
EVALUATION_CONFUSIONS = Instrument(
    "ml.evaluation.confusions", "counter", "{sample}", "Labels by actual and predicted class; they add up.",
    (*_ID, CLASS_ACTUAL, CLASS_PREDICTED),
)  # fmt: skip
GROUND_TRUTH_LABELS = Instrument(
    "ml.ground_truth.labels", "counter", "{label}", "Labels received, by what became of them.", (*_ID, LABEL_RESULT)
)
_WAY = (EXPORTER, SIGNAL)

EXPORTER_CREATED = Instrument(
    "otel_ml.exporter.created", "counter", "{record}", "Spans, events and metric points meant for an exporter.", _WAY
)
EXPORTER_DELIVERED = Instrument(
    "otel_ml.exporter.delivered", "counter", "{record}", "Those of them that it has taken.", _WAY
)
EXPORTER_DROPPED = Instrument(
    "otel_ml.exporter.dropped", "counter", "{record}", "Those that were lost; absent where none was.",
    (*_WAY, DROP_REASON),
)  # fmt: skip
EXPORTER_QUEUED = Instrument(
    "otel_ml.exporter.queued", "updowncounter", "{record}", "Those that wait in memory at this moment.", _WAY
)
EXPORTER_SPOOLED = Instrument(
    "otel_ml.exporter.spooled",
    "updowncounter",
    "{record}",
    "Those that wait on disk; absent where none ever did.",
    _WAY,
)

METRICS = (
    PREDICTION_DURATION, PREDICTION_STAGE_DURATION, PREDICTION_ACTIVE, PREDICTION_SAMPLES, PREDICTION_ERRORS,
    PREDICTION_BATCH_SIZE, TRAINING_DURATION, TRAINING_EPOCH_DURATION, TRAINING_STEP_DURATION, TRAINING_TIME,
    TRAINING_EPOCHS, TRAINING_STEPS, TRAINING_SAMPLES, TRAINING_LOSS, TRAINING_LEARNING_RATE,
    TRAINING_GRADIENT_NORM, TRAINING_NONFINITE, TRAINING_CHECKPOINT_DURATION, EVALUATION_ACCURACY,
    EVALUATION_PRECISION, EVALUATION_RECALL, EVALUATION_F1, EVALUATION_CONFUSIONS, GROUND_TRUTH_LABELS,
    EXPORTER_CREATED, EXPORTER_DELIVERED, EXPORTER_DROPPED, EXPORTER_QUEUED, EXPORTER_SPOOLED,
)  # fmt: skip
