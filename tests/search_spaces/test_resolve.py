"""Names of functions: found, or an error that says what to change."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from search_spaces.resolve import look_in, reason_of, resolve
from tests.nas_tuners import functions

HERE = "tests.nas_tuners.functions"


def test_it_is_the_function_of_that_name() -> None:
    assert resolve(f"{HERE}:good") is functions.good
    assert resolve(f"{HERE}.good", separator=".") is functions.good


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("good", 'wanted "module:function"'),
        ("a b:c", 'wanted "module:function"'),
        (":c", 'wanted "module:function"'),
        ("", 'wanted "module:function"'),
        ("os:sys.exit", 'wanted "module:function"'),
        ("a:b:c", 'wanted "module:function"'),
        ("no_such_module:f", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'.*PYTHONPATH"),
        (f"{HERE}:god", f"has no god; did you mean {HERE}:good"),
        (f"{HERE}:xyzxyz", "has no xyzxyz[.]"),
        (f"{HERE}:not_callable", "not_callable is of type int, wanted a function or a class"),
    ],
)
def test_what_is_wrong_with_a_name(name: str, said: str) -> None:
    with pytest.raises(KeyError, match=said):
        resolve(name, KeyError)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 +", "SyntaxError"),
        ("raise RuntimeError('no data')", "RuntimeError: no data (broken_here.py:1 in <module>)"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import not_there_at_all", "No module named 'not_there_at_all' (broken_here.py:1 in <module>)."),
    ],
)
def test_a_module_that_fails_is_no_traceback(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_here.py").write_text(code)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for _ in range(2):
        look_in(tmp_path)
    assert sys.path[0] == str(tmp_path) and sys.path.count(str(tmp_path)) == 1
    with pytest.raises(ValueError, match="broken_here:f cannot be imported: ") as caught:
        resolve("broken_here:f")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_reason_is_one_line_of_bounded_length() -> None:
    assert reason_of(ValueError("a\n  b" + "c" * 10_000)) == "ValueError: a b" + "c" * 497
    assert reason_of(KeyError()) == "KeyError"
