"""The page of figures: what was measured takes its place, what was not stays, and a figure that is no number breaks nothing."""

from __future__ import annotations

from pathlib import Path

from bench.page import write_page

PAGE = """before
<!-- bench -->
| figure | value | aim |
| --- | --- | --- |
| `sends_per_second` | 1,774 | aim 1,500 |
| `decision_cpu_ms` | 0.133 |  |
<!-- end -->
after
"""


def test_measured_figures_take_their_place_and_the_others_stay(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(PAGE)
    write_page({"sends_per_second": 2001, "flame_graph": "flame.svg", "publish_to_request_p99_ms": 48.5}, page)
    text = page.read_text()
    assert text.startswith("before\n<!-- bench -->\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "| `sends_per_second` | 2,001 | aim 1,500 |" in text
    assert "| `decision_cpu_ms` | 0.133 |" in text
    assert "| `publish_to_request_p99_ms` | 48.5 | aim 50 |" in text
    assert "flame" not in text


def test_without_a_flame_graph_the_page_is_written_too(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(PAGE)
    write_page({"flame_graph": None, "sends_per_second": 3}, page)
    assert "| `sends_per_second` | 3 |" in page.read_text()
