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
TRAINING_TIME_OF = "ml.training.time."
SPLIT = "ml.dataset.split"
TENSOR_KIND = "ml.tensor.kind"

CLASS_ACTUAL = "ml.class.actual"
CLASS_PREDICTED = "ml.class.predicted"
ACTUAL_VALUE = "ml.ground_truth.value"
LABEL_RESULT = "ml.ground_truth.result"
LABEL_TIME = "ml.ground_truth.time"

FEATURE_NAME = "ml.feature.name"
FEATURE_BIN = "ml.feature.bin"
VIOLATION_TYPE = "ml.data.violation.type"
DRIFT_STATE = "ml.drift.state"
DRIFT_REFERENCE = "ml.drift.reference"
EVALUATION_AVERAGE = "ml.evaluation.average"
EVALUATION_SOURCE = "ml.evaluation.source"
EVALUATION_WINDOW = "ml.evaluation.window"
EXPLANATION_METHOD = "ml.explanation.method"
FAIRNESS_FEATURE = "ml.fairness.sensitive_feature.name"
RULE = "ml.diagnostic.rule.id"
SEVERITY = "ml.diagnostic.severity"
FINDING_STATE = "ml.diagnostic.state"
FINDING_SUBJECT = "ml.diagnostic.subject"
FINDING_MESSAGE = "ml.diagnostic.message"
FINDING_ADVICE = "ml.diagnostic.advice"
EVIDENCE = "ml.diagnostic.evidence."
EVALUATION_NAME = "ml.evaluation.name"
EVALUATION_VALUE = "ml.evaluation.value"
EVALUATION_LOW = "ml.evaluation.low"
EVALUATION_HIGH = "ml.evaluation.high"
EVALUATION_COUNT = "ml.evaluation.count"
EVALUATION_START = "ml.evaluation.start"
EVALUATION_END = "ml.evaluation.end"
EVALUATION_REVISION = "ml.evaluation.revision"
EVALUATION_COVERAGE = "ml.evaluation.coverage"
SEGMENT_NAME = "ml.evaluation.segment.name"
SEGMENT_VALUE = "ml.evaluation.segment.value"

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

OPENED = "open"
CLEARED = "cleared"
OBSERVED = "observed"
ESTIMATED = "estimated"

REASON_SLOW = "slow"
REASON_ERROR = "error"

# ------------------------------------------------------------------------------------------------ events
STEP_COMPLETED = "ml.training.step.completed"
EPOCH_COMPLETED = "ml.training.epoch.completed"
TRAINING_STARTED = "ml.training.started"
TRAINING_COMPLETED = "ml.training.completed"
GROUND_TRUTH = "ml.ground_truth.received"
FINDING = "ml.diagnostic.finding"
EVALUATION_RESULT = "ml.evaluation.result"


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
    Text(TRAINING_TIME_OF + "<key>", "Seconds of the epoch that a phase took. Events only."),
    Text(FEATURE_NAME, "A feature that a check was asked to look at."),
    Text(FEATURE_BIN, "Number of the reference's bin, `missing` or `_OTHER`."),
    Text(VIOLATION_TYPE, "`missing`, `range`, `unseen_category`, `type` or `schema`."),
    Text(DRIFT_STATE, "`drifted`, `stable` or `insufficient_data`."),
    Text(DRIFT_REFERENCE, "What windows are compared with: `training`."),
    Text(EVALUATION_WINDOW, "How long the windows of an evaluation are, as `1h`, or how many labels they hold."),
    Text(EVALUATION_AVERAGE, "`binary`, `micro`, `macro` or `weighted`."),
    Text(EVALUATION_SOURCE, "`observed` (from labels) or `estimated` (before they come)."),
    Text(EVALUATION_NAME, "The measure: `f1`, `roc_auc`, ... Events only."),
    Text(EVALUATION_VALUE, "Its value. Events only."),
    Text(EVALUATION_LOW, "Lower end of its 95 % interval. Events only."),
    Text(EVALUATION_HIGH, "Upper end of its 95 % interval. Events only."),
    Text(EVALUATION_COUNT, "Labels it rests on. Events only."),
    Text(EVALUATION_START, "Beginning of the window, by the time of predictions (ISO 8601). Events only."),
    Text(EVALUATION_END, "End of the window. Events only."),
    Text(
        EVALUATION_REVISION, "0 when the window was closed, then one more whenever late labels changed it. Events only."
    ),
    Text(EVALUATION_COVERAGE, "Share of the window's predictions whose label has come. Events only."),
    Text(SEGMENT_NAME, "What divides predictions into segments."),
    Text(SEGMENT_VALUE, "One of the segments; at most 20, then `_OTHER`."),
    Text(EXPLANATION_METHOD, "How rows were explained: `native`, `linear`, `tree_shap`, `permutation_shap`, `lime`."),
    Text(FAIRNESS_FEATURE, "What divides people into groups; the groups themselves are not named."),
    Text(RULE, "What a check looked for: `drift`, `overfit`, ..."),
    Text(SEVERITY, "`info`, `warning` or `critical`."),
    Text(FINDING_STATE, "`open` when a finding begins to hold, `cleared` when it is over. Events only."),
    Text(FINDING_SUBJECT, "What it was found in: a feature, a class, a group, a layer. Events only."),
    Text(FINDING_MESSAGE, "The finding in one sentence. Events only."),
    Text(FINDING_ADVICE, "What to do about it. Events only."),
    Text(EVIDENCE + "<key>", "A number behind the finding. Events only."),
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
    Text(
        EVALUATION_RESULT,
        "One measure of one window of predictions, when it is closed, and again when late labels change it.",
    ),
    Text(FINDING, "A check has found something, or it is over."),
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
TRAINING_GENERALIZATION_GAP = Instrument(
    "ml.training.generalization.gap", "gauge", "1", "How much better the measure is on training than on validation data.",
    _ID,
)  # fmt: skip
TRAINING_NONFINITE = Instrument(
    "ml.training.nonfinite_values", "counter", "{value}", "Logged values that were NaN or infinite.",
    (*_ID, TENSOR_KIND),
)  # fmt: skip
TRAINING_CHECKPOINT_DURATION = Instrument(
    "ml.training.checkpoint.duration", "histogram", "s", "How long checkpoints took to write.", _ID, EPOCH_BUCKETS
)
_EVALUATION = (
    *_ID, SPLIT, EVALUATION_WINDOW, EVALUATION_AVERAGE, EVALUATION_SOURCE, CLASS_NAME, SEGMENT_NAME, SEGMENT_VALUE,
)  # fmt: skip


def _evaluation(measure: str, meaning: str) -> Instrument:
    return Instrument(f"ml.evaluation.{measure}", "gauge", "1", meaning, _EVALUATION)


EVALUATION_ACCURACY = _evaluation("accuracy", "The latest accuracy.")
EVALUATION_PRECISION = _evaluation("precision", "The latest precision.")
EVALUATION_RECALL = _evaluation("recall", "The latest recall.")
EVALUATION_F1 = _evaluation("f1", "The latest F1.")
# What `checks.Quality` measures, by the name it is asked for.
EVALUATIONS = {
    "accuracy": EVALUATION_ACCURACY,
    "precision": EVALUATION_PRECISION,
    "recall": EVALUATION_RECALL,
    "f1": EVALUATION_F1,
    "balanced_accuracy": _evaluation("balanced_accuracy", "The mean recall of all classes."),
    "mcc": _evaluation("mcc", "Matthews correlation coefficient."),
    "cohen_kappa": _evaluation("cohen_kappa", "Cohen's kappa."),
    "specificity": _evaluation("specificity", "The share of negatives that were predicted as such."),
    "roc_auc": _evaluation("roc_auc", "Area under the ROC curve."),
    "average_precision": _evaluation("average_precision", "Average precision."),
    "log_loss": _evaluation("log_loss", "Log loss."),
    "brier_score": _evaluation("brier_score", "Brier score."),
    "calibration_error": _evaluation("calibration_error", "Expected calibration error."),
    "ks_statistic": _evaluation("ks_statistic", "Largest difference between the scores of positives and negatives."),
    "mae": _evaluation("mae", "Mean absolute error."),
    "rmse": _evaluation("rmse", "Root mean squared error."),
    "r2": _evaluation("r2", "Coefficient of determination."),
    "mape": _evaluation("mape", "Mean absolute percentage error."),
    "bias": _evaluation("bias", "Mean of predicted less actual."),
    "ndcg": _evaluation("ndcg", "Normalised discounted cumulative gain."),
    "map": _evaluation("map", "Mean average precision of rankings."),
    "mrr": _evaluation("mrr", "Mean reciprocal rank."),
    "hit_rate": _evaluation("hit_rate", "Share of rankings with a hit."),
    "subset_accuracy": _evaluation("subset_accuracy", "Share of rows whose labels are all right."),
    "hamming_loss": _evaluation("hamming_loss", "Share of labels that are wrong."),
    "coverage": _evaluation("coverage", "Share of predictions whose label has come."),
    "base_rate": _evaluation("base_rate", "Share of the positive class among the labels."),
}
EVALUATION_SAMPLES = Instrument(
    "ml.evaluation.samples", "counter", "{sample}", "Labels that evaluations rest on.", (*_ID, SPLIT)
)
EVALUATION_CONFUSIONS = Instrument(
    "ml.evaluation.confusions", "counter", "{sample}", "Labels by actual and predicted class; they add up.",
    (*_ID, CLASS_ACTUAL, CLASS_PREDICTED),
)  # fmt: skip
GROUND_TRUTH_LABELS = Instrument(
    "ml.ground_truth.labels", "counter", "{label}", "Labels received, by what became of them.", (*_ID, LABEL_RESULT)
)
FEATURE_VALUES = Instrument(
    "ml.feature.values", "counter", "{value}",
    "Values of a feature by bin of the reference; every measure of drift follows from them, and they add up.",
    (*_ID, FEATURE_NAME, FEATURE_BIN),
)  # fmt: skip
DATA_VIOLATIONS = Instrument(
    "ml.data.violations", "counter", "{violation}", "Values that are not what the reference has.",
    (*_ID, FEATURE_NAME, VIOLATION_TYPE),
)  # fmt: skip
_DRIFT = (*_ID, FEATURE_NAME, DRIFT_REFERENCE)
DRIFT_PSI = Instrument(
    "ml.drift.psi", "gauge", "1", "Population stability index of the last window against the reference.", _DRIFT
)
DRIFT_JS_DISTANCE = Instrument("ml.drift.js_distance", "gauge", "1", "Jensen-Shannon distance, likewise.", _DRIFT)
DRIFT_KS_STATISTIC = Instrument(
    "ml.drift.ks_statistic", "gauge", "1", "Largest difference of the cumulative shares, likewise.", _DRIFT
)
DRIFT_WASSERSTEIN_DISTANCE = Instrument(
    "ml.drift.wasserstein_distance",
    "gauge",
    "1",
    "Wasserstein distance in standard deviations of the reference.",
    _DRIFT,
)
DRIFT_P_VALUE = Instrument(
    "ml.drift.p_value",
    "gauge",
    "1",
    "How likely the window would be without drift, corrected for the features.",
    _DRIFT,
)
DRIFT_FEATURE_COUNT = Instrument(
    "ml.drift.feature.count", "gauge", "{feature}",
    "Features that are `drifted`, `stable` or have `insufficient_data`; the one to alarm on.",
    (*_ID, DRIFT_STATE, DRIFT_REFERENCE),
)  # fmt: skip
ATTRIBUTION_DRIFT_NDCG = Instrument(
    "ml.attribution.drift.ndcg", "gauge", "1", "How well the order of important features is that of the reference.", _ID
)
FEATURE_IMPORTANCE = Instrument(
    "ml.feature.importance", "gauge", "1", "Mean absolute attribution of a feature, as a share of all.",
    (*_ID, FEATURE_NAME, EXPLANATION_METHOD),
)  # fmt: skip
EXPLANATION_SAMPLES = Instrument(
    "ml.explanation.samples", "counter", "{sample}", "Rows explained.", (*_ID, EXPLANATION_METHOD)
)
EXPLANATION_DROPPED = Instrument(
    "ml.explanation.dropped", "counter", "{sample}", "Rows left out, to keep within the budget.",
    (*_ID, EXPLANATION_METHOD),
)  # fmt: skip
_FAIRNESS = (*_ID, FAIRNESS_FEATURE)
FAIRNESS_DEMOGRAPHIC_PARITY_DIFFERENCE = Instrument(
    "ml.fairness.demographic_parity.difference", "gauge", "1", "Largest difference of selection rates.", _FAIRNESS
)
FAIRNESS_DEMOGRAPHIC_PARITY_RATIO = Instrument(
    "ml.fairness.demographic_parity.ratio", "gauge", "1", "Smallest selection rate over the largest.", _FAIRNESS
)
FAIRNESS_EQUALIZED_ODDS_DIFFERENCE = Instrument(
    "ml.fairness.equalized_odds.difference", "gauge", "1",
    "The larger of the differences of true and of false positive rates.", _FAIRNESS,
)  # fmt: skip
FAIRNESS_EQUALIZED_ODDS_RATIO = Instrument(
    "ml.fairness.equalized_odds.ratio", "gauge", "1", "The smaller of their ratios.", _FAIRNESS
)
FAIRNESS_EQUAL_OPPORTUNITY_DIFFERENCE = Instrument(
    "ml.fairness.equal_opportunity.difference", "gauge", "1", "Largest difference of true positive rates.", _FAIRNESS
)
FAIRNESS_EQUAL_OPPORTUNITY_RATIO = Instrument(
    "ml.fairness.equal_opportunity.ratio", "gauge", "1", "Smallest true positive rate over the largest.", _FAIRNESS
)
FAIRNESS_DISPARATE_IMPACT = Instrument(
    "ml.fairness.disparate_impact", "gauge", "1", "Selection rate of the least over that of the most favoured group.",
    _FAIRNESS,
)  # fmt: skip
DIAGNOSTIC_FINDINGS = Instrument(
    "ml.diagnostic.findings", "counter", "{finding}", "Findings that began to hold.", (*_ID, RULE, SEVERITY)
)
CHECKS_DROPPED = Instrument(
    "otel_ml.checks.dropped",
    "counter",
    "{row}",
    "Rows that no check has seen, because more came than they could look at.",
)
GROUND_TRUTH_DELAY = Instrument(
    "ml.ground_truth.delay", "histogram", "s", "From a prediction to its label.", _ID, DELAY_BUCKETS
)
GROUND_TRUTH_PENDING = Instrument(
    "ml.ground_truth.pending", "updowncounter", "{prediction}", "Predictions that wait for their labels.", _ID
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
    TRAINING_GRADIENT_NORM, TRAINING_GENERALIZATION_GAP, TRAINING_NONFINITE, TRAINING_CHECKPOINT_DURATION, *EVALUATIONS.values(),
    EVALUATION_SAMPLES, EVALUATION_CONFUSIONS, GROUND_TRUTH_LABELS, GROUND_TRUTH_DELAY, GROUND_TRUTH_PENDING,
    FEATURE_VALUES, DATA_VIOLATIONS, DRIFT_PSI, DRIFT_JS_DISTANCE, DRIFT_KS_STATISTIC, DRIFT_WASSERSTEIN_DISTANCE,
    DRIFT_P_VALUE, DRIFT_FEATURE_COUNT, FEATURE_IMPORTANCE, ATTRIBUTION_DRIFT_NDCG, EXPLANATION_SAMPLES,
    EXPLANATION_DROPPED, FAIRNESS_DEMOGRAPHIC_PARITY_DIFFERENCE, FAIRNESS_DEMOGRAPHIC_PARITY_RATIO,
    FAIRNESS_EQUALIZED_ODDS_DIFFERENCE, FAIRNESS_EQUALIZED_ODDS_RATIO, FAIRNESS_EQUAL_OPPORTUNITY_DIFFERENCE,
    FAIRNESS_EQUAL_OPPORTUNITY_RATIO, FAIRNESS_DISPARATE_IMPACT, DIAGNOSTIC_FINDINGS, CHECKS_DROPPED,
    EXPORTER_CREATED, EXPORTER_DELIVERED, EXPORTER_DROPPED, EXPORTER_QUEUED, EXPORTER_SPOOLED,
)  # fmt: skip
