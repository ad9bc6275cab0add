#!/bin/sh
# Install Debian's docker-registry, which tests/local/test_registry_push.py pushes to. Where it cannot be installed this
# says why and ends with 0: the test is then skipped with the same reason. No service is started.
set -eu

explain() {
    echo "install-registry: $1; the tests against a real registry will be skipped" >&2
    exit 0
}

if command -v docker-registry >/dev/null 2>&1; then
    echo "install-registry: docker-registry is there"
    exit 0
fi
[ "$(id -u)" -eq 0 ] || explain "docker-registry is missing and this user is not root"
command -v apt-get >/dev/null 2>&1 || explain "docker-registry is missing and this system has no apt-get"

# Debian starts a package's service on installation unless policy-rc.d says no (101).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
log=$(apt-get update -qq 2>&1 && apt-get install -y -qq --no-install-recommends docker-registry 2>&1) ||
    explain "apt-get could not install docker-registry: $(printf '%s' "$log" | tail -n 1)"
echo "install-registry: docker-registry installed"
