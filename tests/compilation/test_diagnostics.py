"""The lines of a failed build's output that name the error are shown."""

from __future__ import annotations

import pytest

from torchlink.compilation.cmake import decisive_lines

# The line that must be shown first begins with ">>".
OUTPUTS = {
    "a header is missing": """
In file included from a.h:1:
>>a.cpp:3:10: fatal error: x.h: No such file or directory
compilation terminated.
""",
    "a name is missing": """
a.cpp:1:1: warning: w
>>a.cpp:2:1: error: 'x' was not declared
a.cpp:3:1: note: n
""",
    "a symbol is missing": """
>>/usr/bin/ld: a.o: undefined reference to `f'
collect2: error: ld returned 1 exit status
""",
    "a library is missing": """
>>/usr/bin/ld: cannot find -ltorch: No such file or directory
collect2: error: ld returned 1 exit status
""",
    "CMake": """
-- The CXX compiler identification is GNU 12.2.0
>>CMake Error at CMakeLists.txt:5 (find_package):
  By not providing "FindTorch.cmake"
""",
    "memory ran out": """
>>g++: fatal error: Killed signal terminated program cc1plus
compilation terminated.
""",
    "Nim": """
Hint: used config file 'nim.cfg' [Conf]
>>loader.nim(3, 2) Error: undeclared identifier: 'x'
""",
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_decisive_line_comes_first(name: str) -> None:
    marked = OUTPUTS[name]
    (expected,) = [line[2:] for line in marked.splitlines() if line.startswith(">>")]
    assert decisive_lines(marked.replace(">>", ""))[0] == expected


def test_repeated_lines_are_shown_once_and_few_of_them() -> None:
    output = "".join(f"a.cpp:{number // 2}:1: error: no\n" for number in range(40))
    assert len(decisive_lines(output)) == len(set(decisive_lines(output))) == 5


def test_the_end_of_output_without_an_error_is_shown() -> None:
    assert decisive_lines("one\ntwo\n\nthree\n", most=2) == ("two", "three")
    assert decisive_lines("") == ()
