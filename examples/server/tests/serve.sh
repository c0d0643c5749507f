#!/usr/bin/env bash
# Starts the server on a free port, runs the curl lines of README.md, and checks that SIGTERM ends it in order.
set -euo pipefail

server=$1
output=$(mktemp)
trap 'kill "$pid" 2>/dev/null || true; rm -f "$output"' EXIT
"$server" --models models --port 0 >"$output" &
pid=$!
for _ in $(seq 300); do
  port=$(sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' "$output")
  [ -n "$port" ] && break
  sleep 0.1
done
[ -n "$port" ]

count=0
while IFS= read -r line; do
  echo "$line"
  bash -c "${line//8080/$port}" </dev/null
  echo
  count=$((count + 1))
done < <(grep '^curl ' README.md)
[ "$count" -ge 5 ]

# What is wrong is a 4xx, not the end of the server.
[ "$(curl -s -o /dev/null -w '%{http_code}' -d 'null' "http://127.0.0.1:$port/predictions/model")" = 400 ]
[ "$(curl -s -o /dev/null -w '%{http_code}' -d '[]' --path-as-is "http://127.0.0.1:$port/serve?servable_identifier=../model.pt")" = 400 ]

kill -TERM "$pid"
wait "$pid"
echo "ended in order after $count requests"
