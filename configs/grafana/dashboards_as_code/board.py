"""The page around the panels: rows, links to the other dashboards, and what can be chosen."""

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import dashboard as page
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    VariableRefresh,
    VariableSort,
)

from configs.grafana.dashboards_as_code.panels import PROMETHEUS, Panel

TAG = "mlxrl"


def board(
    name: str,
    description: str,
    rows: Mapping[str, Sequence[Panel]],
    variables: Sequence[page.QueryVariable],
) -> Dashboard:
    """A dashboard.

    Args:
        name: of its file, and with the tag before it its uid; its title is made from it.
        description: what it answers.
        rows: panels by the row's title; widths of a line add up to 24.
        variables: what can be chosen above the panels.
    """
    made = (
        page.Dashboard(f"MLX RL / {name.replace('_', ' ')}")
        .uid(f"{TAG}-{name.replace('_', '-')}")
        .description(description)
        .tags([TAG])
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-30m", "now")
        .timezone("browser")
        .refresh("5s")
        .readonly()
        .link(
            page.DashboardLink("Dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
    )
    for variable in variables:
        made.with_variable(variable)
    number = 0
    for title, panels in rows.items():
        number += 1
        made.with_row(page.Row(title).id(number))
        for panel in panels:
            number += 1
            made.with_panel(panel.id(number))
    return made.build()


def the_learner() -> page.QueryVariable:
    """Which learner, for a Prometheus that watches several."""
    query = "label_values(mlxrl_run_active, instance)"
    return _variable("learner", "Learner", query).multi(False).include_all(False)


def some_peers(role: str) -> page.QueryVariable:
    """Which actors or reward workers; all at first."""
    label = role.replace("_", " ").capitalize() + "s"
    query = f'label_values(up{{job="mlxrl-peer", role="{role}"}}, instance)'
    return _variable("peer", label, query).multi(True).include_all(True).all_value(".*")


def some_rewards() -> page.QueryVariable:
    """Which reward functions; all at first."""
    query = "label_values(mlxrl_reward_function_mean, reward)"
    return _variable("reward", "Rewards", query).multi(True).include_all(True).all_value(".*")


def _variable(name: str, label: str, query: str) -> page.QueryVariable:
    return (
        page.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(PROMETHEUS)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
