from pathlib import Path

from protocol.metric_table import METRICS
from protocol.metrics_docs import metrics_markdown

CHECKOUT = Path(__file__).parent.parent.parent


def test_the_metrics_page_is_what_the_table_says():
    page = (CHECKOUT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert page == metrics_markdown(), "run: python -m protocol.metrics_docs > docs/metrics.md"


def test_every_metric_has_a_row_of_five_cells_that_says_what_it_means():
    rows = {
        cells[1].strip().strip("`"): cells
        for cells in (line.split("|") for line in metrics_markdown().splitlines())
        if cells[1:] and cells[1].startswith(" `mlxrl_")
    }
    assert set(rows) == set(METRICS)
    for name, cells in rows.items():
        assert len(cells) == 7, name
        assert cells[4].strip() == METRICS[name].help
        assert all(label in cells[3] for label in METRICS[name].labels)
