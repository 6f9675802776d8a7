"""Fits classifiers of scikit-learn, XGBoost and LightGBM, and converts each to ONNX.

Writes into the folder that is its argument, for each classifier NAME:

- `NAME.default.onnx`, as the converter does by default, where that has a ZipMap;
- `NAME.onnx`, with arrays instead;
- `NAME.npz` with rows, and the library's own probabilities and decisions for them.

Prints the names of the classes of each as JSON.
"""

import json
import sys
import warnings
from pathlib import Path

import lightgbm
import numpy as np
import onnxruntime
import xgboost
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as OtherFloatTensorType
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.ensemble import AdaBoostClassifier, GradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

FOLDER = Path(sys.argv[1])
SHAPE = [None, 8]
FLOATS = FloatTensorType(SHAPE)
X, Y = make_classification(400, 8, n_informative=5, n_classes=3, random_state=0)
X = X.astype(np.float32)
KINDS = np.array(["bird", "fish", "mammal"])[Y]
ANSWERS = np.where(Y == 0, "no", "yes")
MANY_X, MANY_Y = make_multilabel_classification(400, 8, n_classes=4, random_state=0)
MANY_X = MANY_X.astype(np.float32)
TEXTS = np.array(["rally serve ace", "Latte espresso menu", "Serve espresso", "ace rally rally"])
TOPICS = np.array(["tennis", "coffee", "coffee", "tennis"])

ONE = {
    "logistic": LogisticRegression(),
    "forest": RandomForestClassifier(20, random_state=0),
    "boosting": GradientBoostingClassifier(n_estimators=10, random_state=0),
    "adaboost": AdaBoostClassifier(n_estimators=10, random_state=0),
    "perceptron": MLPClassifier((16,), max_iter=50, random_state=0),
    "bayes": GaussianNB(),
    "neighbors": KNeighborsClassifier(),
    "calibrated-svm": CalibratedClassifierCV(SVC(random_state=0), cv=2),
    "one-vs-rest": OneVsRestClassifier(LogisticRegression()),
    "pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
}
MANY = {
    "many-one-vs-rest": OneVsRestClassifier(LogisticRegression()),
    "many-perceptron": MLPClassifier((16,), max_iter=50, random_state=0),
}
CLASSES = {}


def write(name, model, rows, convert):
    """Write a model in both forms, and the library's own answers to some rows.

    Args:
        name: Name of the files.
        model: The fitted classifier.
        rows: Rows to ask it.
        convert: Converts the model, as the library does by default or with `zipmap=False`.
    """
    converted = convert()
    if any(node.op_type == "ZipMap" for node in converted.graph.node):
        save(converted, f"{name}.default")
        converted = convert(zipmap=False)
    save(converted, name)
    answers = {"probabilities": model.predict_proba(rows), "decisions": model.predict(rows)}
    np.savez(FOLDER / f"{name}.npz", rows=rows.reshape(len(rows), -1), **answers)
    CLASSES[name] = [str(each) for each in model.classes_]


def save(converted, name):
    (FOLDER / f"{name}.onnx").write_bytes(converted.SerializeToString())


def scikit_learn(name, model, rows, targets, kind):
    model.fit(rows, targets)

    def convert(**options):
        return to_onnx(model, initial_types=[("x", kind)], options=options)

    write(name, model, rows[:64], convert)


def neighbors_of_many():
    """Write a model whose answer has an axis for the labels before the rows.

    ONNX Runtime does not load the default form of it. Its neighbors at one distance are not those
    of scikit-learn, so the answers are ONNX Runtime's.
    """
    model = KNeighborsClassifier().fit(MANY_X, MANY_Y)
    converted = to_onnx(model, initial_types=[("x", FLOATS)], options={"zipmap": False})
    save(converted, "many-neighbors")
    session = onnxruntime.InferenceSession(converted.SerializeToString())
    [_, probabilities] = session.run(None, {"x": MANY_X[:64]})
    np.savez(FOLDER / "many-neighbors.npz", rows=MANY_X[:64], probabilities=probabilities)


def boosted(name, targets):
    inputs = [("x", OtherFloatTensorType(SHAPE))]
    one = xgboost.XGBClassifier(n_estimators=10).fit(X, targets)
    write(f"xgboost-{name}", one, X[:64], lambda: convert_xgboost(one, initial_types=inputs))
    other = lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(X, targets)

    def convert(**options):
        return convert_lightgbm(other, initial_types=inputs, **options)

    write(f"lightgbm-{name}", other, X[:64], convert)


def main():
    for name, model in ONE.items():
        scikit_learn(name, model, X, KINDS, FLOATS)
    scikit_learn("two-classes", LogisticRegression(), X, ANSWERS, FLOATS)
    for name, model in MANY.items():
        scikit_learn(name, model, MANY_X, MANY_Y, FLOATS)
    neighbors_of_many()
    # Lower case would need the locale en_US.UTF-8 in ONNX Runtime.
    words = make_pipeline(TfidfVectorizer(lowercase=False), LogisticRegression())
    scikit_learn("texts", words, TEXTS, TOPICS, StringTensorType([None, 1]))
    boosted("three", Y)
    boosted("two", Y % 2)
    print(json.dumps(CLASSES))


warnings.simplefilter("ignore")
main()
