# Grafana with the datasource and dashboards beside this file; run from the checkout.
#
#   GRAFANA           the program; without it `grafana` or `grafana-server` of the path, or Debian's place
#   GRAFANA_HOME      its share folder; without it Debian's or Homebrew's
#   GRAFANA_PORT      3000, on 127.0.0.1
#   GRAFANA_DATA      runs/monitoring/grafana
#   PROMETHEUS_URL    http:// and PROMETHEUS_ADDRESS, 127.0.0.1:9090 as it comes
#
# Without Grafana this says so and waits: if it ended, honcho would end Prometheus too.

find_program() {
  for candidate in $GRAFANA grafana grafana-server /usr/share/grafana/bin/grafana; do
    command -v "$candidate" && return
    [ -z "$GRAFANA" ] || return # the one that was asked for, or none
  done
}

find_home() {
  for candidate in "$GRAFANA_HOME" /usr/share/grafana "$(brew --prefix 2>/dev/null)/share/grafana" \
    "$(dirname "$1")/../share/grafana" "$(dirname "$1")/.."; do
    [ -d "$candidate/conf" ] && echo "$candidate" && return
  done
}

wait_without() {
  echo "Grafana does not start: $1. Prometheus goes on alone; its own page has graphs and alerts." >&2
  exec tail -f /dev/null
}

program="$(find_program)"
[ -n "$program" ] || wait_without "no ${GRAFANA:-grafana and no grafana-server} is there; brew install\
 grafana, or Debian's package from https://apt.grafana.com, or set GRAFANA to its path"
home="$(find_home "$program")"
[ -n "$home" ] || wait_without "no folder with its conf/ was found; set GRAFANA_HOME to its share folder"

data="${GRAFANA_DATA:-runs/monitoring/grafana}"
mkdir -p "$data" || exit
data="$(cd "$data" && pwd)"
export PROMETHEUS_URL="${PROMETHEUS_URL:-http://${PROMETHEUS_ADDRESS:-127.0.0.1:9090}}"
export MLXRL_DASHBOARDS="$PWD/configs/grafana/dashboards"
export GF_PATHS_PROVISIONING="$PWD/configs/grafana/provisioning"
export GF_PATHS_DATA="$data" GF_PATHS_LOGS="$data/log" GF_PATHS_PLUGINS="$data/plugins"
export GF_LOG_MODE=console GF_LOG_LEVEL=warn
export GF_SERVER_HTTP_ADDR=127.0.0.1 GF_SERVER_HTTP_PORT="${GRAFANA_PORT:-3000}"
export GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH="$MLXRL_DASHBOARDS/overview.json"
# On loopback alone, where everyone may look without a password.
export GF_AUTH_ANONYMOUS_ENABLED=true GF_AUTH_ANONYMOUS_ORG_ROLE=Viewer
export GF_ANALYTICS_REPORTING_ENABLED=false GF_ANALYTICS_CHECK_FOR_UPDATES=false
echo "Grafana: http://127.0.0.1:$GF_SERVER_HTTP_PORT, data in $data"
case "$program" in
*grafana-server) exec "$program" --homepath "$home" ;;
*) exec "$program" server --homepath "$home" ;;
esac
