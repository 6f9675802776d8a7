"""The public names exist, are listed, and are loaded only when used."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import sigmax
from sigmax import _errors


def test_every_listed_name_is_there() -> None:
    for name in sigmax.__all__:
        assert getattr(sigmax, name) is not None
    assert set(sigmax.__all__) <= set(dir(sigmax))


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(str(sigmax.__file__)).read_text(encoding="utf-8"))
    seen = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("sigmax.")
        for alias in node.names
    ]
    assert sorted(seen) == sigmax.__all__


def test_every_error_is_listed() -> None:
    errors = {
        name
        for name, value in vars(_errors).items()
        if inspect.isclass(value) and issubclass(value, sigmax.SigmaxError)
    }
    assert errors <= set(sigmax.__all__)
    documented = {line.split()[0] for line in str(_errors.__doc__).splitlines()[2:]}
    assert documented == errors


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="'sigmax' has no attribute 'Klient'"):
        _ = sigmax.Klient


def test_the_package_itself_loads_nothing_heavy() -> None:
    code = "import sys, sigmax; print(sorted({'grpc', 'numpy', 'google'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
