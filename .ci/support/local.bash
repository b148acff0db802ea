# shellcheck shell=bash
# To be sourced by the steps that run `local`.

# Builds `local`, `bench` and the tests with the features of the step `test`, so that nothing is built twice.
build_tests() { cargo build --workspace --all-targets --locked --quiet; }

# Fails unless the step `build` has built the functions since they were changed.
require_binaries() {
  if [ ! -e .aws-sam/build/template.yaml ]; then
    echo "there are no binaries yet: run .ci/run build first" >&2
    return 1
  fi
  if [ "$(find Cargo.lock Cargo.toml functions shared template.yaml -newer .aws-sam/build/template.yaml -type f -print -quit)" ]; then
    echo "the binaries are older than the code: run .ci/run build first" >&2
    return 1
  fi
}

# start_local NAME OPTION…: starts `local` in the background and returns once it is ready. Then `local` is its process
# id, its output is in target/ci/NAME.out, and its log in target/ci/NAME.log.
start_local() {
  mkdir -p target/ci
  build_tests
  target/debug/local "${@:2}" >"target/ci/$1.out" 2>"target/ci/$1.log" &
  local=$!
  until grep -qs '^ready ' "target/ci/$1.out"; do
    kill -0 "$local" 2>/dev/null || { cat "target/ci/$1.log"; return 1; }
    sleep 0.1
  done
}

# stop_local NAME: asks `local` to end, fails unless it does so without an error, and keeps its log until then as
# target/ci/NAME.served.log. What follows does not count: the binaries end with their Runtime API, and log that in their
# own form.
stop_local() {
  head -n "$(wc -l <"target/ci/$1.log")" "target/ci/$1.log" >"target/ci/$1.served.log"
  kill -TERM "$local"
  wait "$local"
}
