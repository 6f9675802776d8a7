"""Models of texts go by the rules of a locale, which the machine has or has not."""

import shutil
import subprocess
from pathlib import Path

import pytest
from support import files
from support.server import Serve

SOURCES = Path("/usr/share/i18n/locales/en_US")


@pytest.mark.parametrize("name", ["", "en_US"], ids=["default", "named"])
def test_a_locale_that_is_missing_is_named_with_its_cure(
    serve: Serve, tmp_path: Path, name: str
) -> None:
    files.save(files.bag_of_words(**({"locale": name} if name else {})), tmp_path, "words")
    server = serve(tmp_path, environment={"LOCPATH": str(tmp_path / "none")})
    needed = name or "en_US.UTF-8"
    assert f"needs the locale {needed}, which is not installed" in server.line("words")
    assert f"localedef -i en_US -f UTF-8 {needed}), and start" in server.line("words")


@pytest.mark.skipif(
    not (SOURCES.exists() and shutil.which("localedef")),
    reason="locales cannot be made: install Debian's package locales",
)
def test_case_is_changed_by_the_locale(serve: Serve, tmp_path: Path) -> None:
    locale = tmp_path / "locales/en_US.UTF-8"
    locale.parent.mkdir()
    subprocess.run(["localedef", "--no-archive", "-i", "en_US", "-f", "UTF-8", locale], check=True)
    files.save(files.bag_of_words(), tmp_path / "repository", "words")
    server = serve(tmp_path / "repository", environment={"LOCPATH": str(locale.parent)})
    result = server.client.classify("words", [["CAFÉ Menu"], ["Rally serve"]])
    assert result.labels == ["café", "tennis"]
