#!/usr/bin/env bash
# Starts the nine nodes of this folder, clients first, on loopback addresses, publishes an event at each, shows that all nine hear all
# nine, and stops them.
#
#   examples/nine-nodes/run.sh
#
# NATTERJACK names the program; without it the release build is taken, and made if it is missing.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
nodes=(client-{1..6} server-{1..3})
source "$here/../nodes.sh"
