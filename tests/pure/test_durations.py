"""Laws of `fanout.durations`."""

from __future__ import annotations

import pytest

from fanout.durations import in_words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.0004, "1 ms"),
        (0.013, "13 ms"),
        (0.4, "0.4 s"),
        (45, "45 s"),
        (119.9, "119.9 s"),
        (750, "12 min 30 s"),
        (7_200, "2 h"),
        (7_501, "2 h 5 min"),
        (2.17774e8, "2,520 days 12 h"),
    ],
)
def test_a_duration_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert in_words(seconds) == said
