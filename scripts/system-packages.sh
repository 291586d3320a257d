#!/bin/sh
# Makes sure that the Debian packages named as arguments are installed: installs the missing ones if it may, else says how.
set -u
if ! command -v swift >/dev/null 2>&1; then
    echo "swift is not on the PATH: install Swift 6.1 or newer from https://swift.org/install and try again" >&2
    exit 1
fi
if ! command -v dpkg-query >/dev/null 2>&1; then
    # Not Debian: the build itself tells what is missing; name the libraries once.
    exit 0
fi
missing=""
for package in "$@"; do
    # A Python that can make virtual environments without Debian's package will do.
    if [ "$package" = python3-venv ] && python3 -c 'import ensurepip' 2>/dev/null; then continue; fi
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) || status=""
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
command="apt-get install -y$missing"
if [ "$(id -u)" = 0 ]; then
    echo "installing$missing"
    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive $command) >/dev/null && exit 0
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    echo "installing$missing"
    (sudo -n apt-get update -qq && sudo -n env DEBIAN_FRONTEND=noninteractive $command) >/dev/null && exit 0
fi
echo "missing packages. Type:  sudo apt-get update && sudo $command" >&2
exit 1
