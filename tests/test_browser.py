"""Browser tests where there is no browser: skipped, or failed where they are required."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import browser


def test_without_chromium_browser_tests_are_skipped_or_fail_if_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("RLEXP_CHROMIUM", raising=False)
    monkeypatch.delenv("RLEXP_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no Chromium here \(Debian: apt-get install chromium\)"):
        browser.program()
    monkeypatch.setenv("RLEXP_BROWSER", "required")
    with pytest.raises(pytest.fail.Exception, match="RLEXP_BROWSER=required, but there is no Chromium here"):
        browser.program()


def test_chromium_is_found_by_its_variable_or_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("chromium-browser", "own"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("RLEXP_CHROMIUM", raising=False)
    assert browser.program() == str(tmp_path / "chromium-browser")
    monkeypatch.setenv("RLEXP_CHROMIUM", str(tmp_path / "own"))
    assert browser.program() == str(tmp_path / "own")
