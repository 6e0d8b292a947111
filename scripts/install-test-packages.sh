#!/bin/sh
# Installs, with apt-get, what the end-to-end tests and the benchmark need beyond Rust and a C compiler.
# Only what is missing is installed; when nothing is, the network is not touched. Needs root, or sudo.
set -eu

# package  command it brings  why
packages="\
chromium        chromium  the dashboard's tests drive a real browser
curl            curl     a second HTTP implementation, to check the proxy from outside
haproxy         haproxy  peer in the benchmark
make            make     runs the Makefile
nghttp2-client  h2load   HTTP/2 load (h2load) and a second HTTP/2 implementation (nghttp)
nginx           nginx    origin and peer in the benchmark
nodejs          node     runs the dashboard's tests
npm             npm      installs what they and the dashboard's build need
openssl         openssl  a second TLS implementation, to check certificates from outside
postgresql      pg_ctlcluster  keeps a usage ledger
procps          ps       looks at processes from outside
prometheus      prometheus  scrapes the proxy, and checks its rules and dashboards (promtool)
python3         python3  scripts that check documents and examples
redis-server    redis-server  lets processes share quotas
tmux            tmux     a terminal for tidegate top
util-linux      taskset  pins a benchmark process to a core, and ends it with its parent (setpriv)
varnish         varnishd  peer in the benchmark, as a cache
wrk             wrk      HTTP/1.1 load"

# A login shell of an ordinary user leaves out the place where servers live.
PATH="$PATH:/usr/sbin:/sbin"

missing=""
while read -r package program why; do
    command -v "$program" >/dev/null 2>&1 && continue
    echo "missing: $package ($why)"
    missing="$missing $package"
done <<LIST
$packages
LIST

if [ -z "$missing" ]; then
    echo "test packages: all present"
    exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
    echo "apt-get is not here; install by hand:$missing" >&2
    exit 1
fi

if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1; then
    as_root="sudo"
else
    echo "neither root nor sudo; install by hand:$missing" >&2
    exit 1
fi

# The tests start their own servers on free ports: a package's own service must not take port 80.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi

echo "installing:$missing"
# env: sudo does not pass variables on by itself. RUNLEVEL=1 is the older way to say "start nothing".
$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q </dev/null
# shellcheck disable=SC2086 # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -q --no-install-recommends $missing </dev/null

# Nor may it start at the next boot. Only what was installed just now: one that was here is its owner's.
if [ -d /run/systemd/system ]; then
    for service in nginx haproxy postgresql prometheus varnish varnishncsa; do
        case " $missing " in
        *" $service "*) $as_root systemctl disable --now "$service" || true ;;
        esac
    done
fi
echo "test packages: installed"
