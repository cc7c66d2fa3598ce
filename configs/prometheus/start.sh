# Prometheus with the config and rules beside this file; run from the checkout.
#
#   PROMETHEUS            the program; without it `prometheus` of the path (Debian, Homebrew)
#   PROMETHEUS_CONFIG     configs/prometheus/prometheus.yml
#   PROMETHEUS_ADDRESS    127.0.0.1:9090
#   PROMETHEUS_DATA       runs/monitoring/prometheus
#   PROMETHEUS_RETENTION  30d

program="${PROMETHEUS:-prometheus}"
if ! command -v "$program" >/dev/null; then
  echo "error: Prometheus is missing ($program): sudo apt install prometheus, or brew install" \
    "prometheus, or set PROMETHEUS to its path" >&2
  exit 127
fi
data="${PROMETHEUS_DATA:-runs/monitoring/prometheus}"
address="${PROMETHEUS_ADDRESS:-127.0.0.1:9090}"
mkdir -p "$data" || exit
echo "Prometheus: http://$address (alerts: http://$address/alerts), data in $data"
exec "$program" \
  --config.file="${PROMETHEUS_CONFIG:-configs/prometheus/prometheus.yml}" \
  --web.listen-address="$address" \
  --storage.tsdb.path="$data" \
  --storage.tsdb.retention.time="${PROMETHEUS_RETENTION:-30d}" \
  --log.level=warn
