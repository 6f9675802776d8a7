"""Asks magika, which tells the type of a file from its bytes, about contents of different kinds.

Writes the rows that its model is given, and magika's labels and scores, into the file that is its
argument. Prints the path of the model and the names of all classes as JSON.
"""

import gzip
import io
import json
import sys
import zipfile
from pathlib import Path

import magika
import numpy as np
from magika import Magika
from magika.types import Seekable

SOURCE = Path(__file__).read_bytes()
PAGE = b"<!DOCTYPE html><html><head><title>Birds</title></head><body><p>A crane</p></body></html>"
C = b'#include <stdio.h>\n\nint main(void) {\n    printf("%d\\n", 42);\n    return 0;\n}\n'
SQL = b"SELECT kind, COUNT(*) FROM animals WHERE legs > 2 GROUP BY kind ORDER BY kind;\n"


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("source.py", SOURCE)
    return file.getvalue()


def main():
    contents = [SOURCE, PAGE, C, SQL, json.dumps({"legs": list(range(40))}, indent=1).encode()]
    contents += [zipped(), gzip.compress(SOURCE), Path(sys.executable).resolve().read_bytes()]
    asked = Magika()
    answers = [asked.identify_bytes(content) for content in contents]
    rows = []
    for content in contents:
        _, features = asked._get_result_or_features_from_seekable(Seekable(io.BytesIO(content)))
        rows.append([*features.beg[:1024], *features.end[-1024:]])
    labels = [str(answer.dl.label) for answer in answers]
    scores = [answer.score for answer in answers]
    np.savez(sys.argv[1], rows=np.array(rows, np.int32), labels=labels, scores=scores)
    folder = Path(magika.__file__).parent / "models" / asked.get_model_name()
    classes = json.loads((folder / "config.min.json").read_text())["target_labels_space"]
    print(json.dumps({"model": str(folder / "model.onnx"), "classes": classes}))


main()
