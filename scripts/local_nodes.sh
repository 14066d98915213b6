#!/usr/bin/env bash
# Nodes of a cluster on this machine, to try what needs several: network namespaces, each with a host name and an address of its
# own, that a bridge joins. They share this machine's processors, memory and files.
#   local_nodes.sh start N        bring up node1 (10.77.0.11) to nodeN; this machine is 10.77.0.1 there
#   local_nodes.sh run K COMMAND  run a command on node K
#   local_nodes.sh lose K         kill everything on node K, as a crash would
#   local_nodes.sh slurm start    a Slurm of these nodes, its controller on this machine; export SLURM_CONF=/run/condgen/slurm.conf
#   local_nodes.sh stop           end everything on them and take them down
# Needs root and Debian's package iproute2; a Slurm also what local_slurm.sh installs. Where that cannot be, it says why and ends
# with 77, by which testing tools mean "skipped".
set -euo pipefail
home=/run/condgen
export SLURM_CONF=$home/slurm.conf

skip() { echo "local_nodes.sh: $1." >&2 && exit 77; }
nodes() { ip netns list 2>/dev/null | awk '/^node[0-9]+/ {print substr($1, 5)}' | sort -n; }
alive() { kill -0 "$(cat "$home/$1.pid" 2>/dev/null)" 2>/dev/null; }

start() {
  [ "$(id -u)" = 0 ] || skip "network namespaces need root"
  command -v ip >/dev/null || skip "network namespaces need the command ip"
  stop
  { ip link add condgen type bridge && ip addr add 10.77.0.1/24 dev condgen && ip link set condgen up; } 2>/dev/null ||
    skip "this system makes no bridges"
  mkdir -p "$home"
  echo "127.0.0.1 localhost" >"$home/hosts" # takes the place of /etc/hosts on the nodes
  for k in $(seq "$1"); do
    echo "10.77.0.1$k node$k" >>"$home/hosts"
    ip netns add "node$k" && ip link add "condgen$k" type veth peer name eth0 netns "node$k" || skip "this system makes no nodes"
    ip link set "condgen$k" master condgen up
    ip -n "node$k" addr add "10.77.0.1$k/24" dev eth0
    ip -n "node$k" link set lo up && ip -n "node$k" link set eth0 up
  done
}

run() { # not ip netns exec, which gives the command a /sys without control groups
  nsenter --net="/run/netns/node$1" unshare --uts --mount sh -c \
    'hostname "$0" && mount --bind "/run/condgen/hosts" /etc/hosts && exec "$@"' "node$1" "${@:2}"
}

lose() { ip netns pids "node$1" | xargs -r kill -KILL; }

slurm() {
  "$(dirname "$0")/local_slurm.sh" munge
  local k megabytes
  megabytes=$(awk '/MemTotal/ {print int($2 / 2400)}' /proc/meminfo)
  mkdir -p "$home/controller"
  cat >"$SLURM_CONF" <<CONF
ClusterName=nodes
SlurmctldHost=$(hostname -s)(10.77.0.1)
SlurmctldPort=7817
SlurmdPort=7818
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$home/controller
SlurmdSpoolDir=$home/%n
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/%n.pid
SlurmctldLogFile=$home/slurmctld.log
SlurmdLogFile=$home/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
KillWait=2
SlurmdTimeout=15
SchedulerParameters=bf_interval=2,sched_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
$(for k in $(nodes); do echo "NodeName=node$k NodeAddr=10.77.0.1$k CPUs=$(nproc --all) RealMemory=$megabytes"; done)
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE
CONF
  slurmctld
  for k in $(nodes); do
    mkdir -p "$home/node$k"
    run "$k" slurmd
  done
  for _ in $(seq 60); do
    if [ "$(sinfo -h -N -o %T | grep -c idle)" = "$(nodes | wc -l)" ]; then return; fi
    sleep 0.5
  done
  echo "local_nodes.sh: the nodes take no jobs after half a minute; see $home." >&2
  return 1
}

stop() {
  if alive slurmctld; then kill -KILL "$(cat "$home/slurmctld.pid")"; fi
  for k in $(nodes); do
    lose "$k"
    ip netns del "node$k"
  done
  ip link del condgen 2>/dev/null || true
  rm -rf "$home"
}

case "${1:-}" in
  start | run | lose | slurm | stop) "$@" ;;
  *) sed -n '2,11p' "$0" >&2 && exit 2 ;;
esac
