"""What all dashboards are made of: panels, each with a unit and a description.

The description says what is shown, what a bad value means and what to do about it.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, statetimeline
from grafana_foundation_sdk.builders import dashboard as page
from grafana_foundation_sdk.builders import timeseries as curves
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    ScaleDistribution,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Panel = curves.Panel | heatmap.Panel | stat.Panel | statetimeline.Panel
PanelT = TypeVar("PanelT", curves.Panel, heatmap.Panel, stat.Panel, statetimeline.Panel)
Color = Literal["green", "yellow", "orange", "red", "blue"]
Limits = Sequence[tuple[float, Color]]
"""From each value on, its colour; below the first, green."""

PROMETHEUS = DataSourceRef("prometheus", "mlxrl-prometheus")
"""As provisioning/datasources/prometheus.yml calls it."""


class Query(NamedTuple):
    """One expression."""

    expr: str
    legend: str = ""
    """With {{label}} where there are several curves."""


def learner(metric: str, *matchers: str) -> str:
    """A metric of the learner that is chosen above the dashboard."""
    return _selector(metric, 'instance=~"$learner"', *matchers)


def peer(metric: str, *matchers: str) -> str:
    """A metric of the peers that are chosen above the dashboard."""
    return _selector(metric, 'instance=~"$peer"', *matchers)


def rate(metric: str) -> str:
    """How fast a counter grows, by second."""
    return f"rate({metric}[$__rate_interval])"


def rise(metric: str) -> str:
    """By how much a counter grew, for what happens now and then."""
    return f"increase({metric}[$__rate_interval])"


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    limits: Limits = (),
    stacked: bool = False,
    width: int = 8,
) -> curves.Panel:
    """Curves over time; `limits` are drawn as dashed lines."""
    panel = (
        _filled(curves.Panel(), title, description, unit, queries, width)
        .line_width(1)
        .fill_opacity(30 if stacked else 8)
        .show_points(VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if limits:
        style = common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED)
        panel.thresholds(_thresholds(limits)).thresholds_style(style)
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    limits: Limits = (),
    words: Mapping[int, tuple[str, Color]] | None = None,
    shows_names: bool = False,
    width: int = 4,
) -> stat.Panel:
    """The newest value, large; `words` stand in place of values, or `shows_names` of all."""
    panel = (
        _filled(stat.Panel(), title, description, unit, queries, width)
        .height(4)
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.VALUE)
        .text_mode(BigValueTextMode.NAME if shows_names else BigValueTextMode.AUTO)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(limits))
    )
    return panel.mappings(_mappings(words)) if words else panel


def states(
    title: str,
    description: str,
    *queries: Query,
    words: Mapping[int, tuple[str, Color]],
    width: int = 8,
) -> statetimeline.Panel:
    """A bar for each curve, coloured by what its value means."""
    return (
        _filled(statetimeline.Panel(), title, description, "none", queries, width)
        .mappings(_mappings(words))
        .show_value(VisibilityMode.NEVER)
        .line_width(0)
        .fill_opacity(70)
        .legend(_legend())
    )


def spread(
    title: str, description: str, unit: str, histogram: str, *, width: int = 8
) -> heatmap.Panel:
    """How observations are spread over the buckets of a histogram; `unit` is theirs."""
    query = Query(f"sum by (le) ({rise(histogram)})", "{{le}}")
    return (
        _filled(heatmap.Panel(), title, description, "short", (query,), width, is_heatmap=True)
        .calculate(False)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Turbo"))
        .scale_distribution(common.ScaleDistributionConfig().type(ScaleDistribution.LINEAR))
        .y_axis(heatmap.YAxisConfig().unit(unit))
    )


def _selector(metric: str, *matchers: str) -> str:
    return f"{metric}{{{', '.join(matchers)}}}"


def _filled(
    panel: PanelT,
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    width: int,
    *,
    is_heatmap: bool = False,
) -> PanelT:
    panel.title(title).description(description).datasource(PROMETHEUS)
    panel.unit(unit).height(8).span(width)
    for index, query in enumerate(queries):
        target = prometheus.Dataquery().expr(query.expr).range().ref_id(chr(ord("A") + index))
        target.legend_format(query.legend or "__auto")
        target.format(PromQueryFormat.HEATMAP if is_heatmap else PromQueryFormat.TIME_SERIES)
        panel.with_target(target)
    return panel


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST)
    return legend.placement(LegendPlacement.BOTTOM).show_legend(True)


def _thresholds(limits: Limits) -> page.ThresholdsConfig:
    steps = [Threshold(None, "green"), *(Threshold(value, color) for value, color in limits)]
    return page.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _mappings(words: Mapping[int, tuple[str, Color]]) -> list[ValueMapping]:
    results = {
        str(value): ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(words.items())
    }
    return [ValueMap(results)]
