#!/usr/bin/env bash
# Starts the three nodes of this folder on loopback addresses, publishes an event at each, shows that all three hear all
# three, and stops them.
#
#   examples/three-nodes/run.sh
#
# NATTERJACK names the program; without it the release build is taken, and made if it is missing.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
nodes=(node-1 node-2 node-3)
source "$here/../nodes.sh"
