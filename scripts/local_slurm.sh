#!/usr/bin/env bash
# A real Slurm of one node on this machine (munge, slurmctld, slurmd), to try the launcher and to run tests/test_slurm.py.
#   local_slurm.sh install   Debian's packages slurm-wlm and munge
#   local_slurm.sh start     configure, start, wait until the node is idle
#   local_slurm.sh stop      stop what start brought up
# Needs root and overwrites /etc/slurm/slurm.conf. The node offers all CPUs, no GPU, and keeps no accounts.
set -euo pipefail
name=$(hostname -s)

install() {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge >/dev/null
}

configure() {
  mkdir -p /etc/slurm /run/munge /var/spool/slurmctld /var/spool/slurmd /var/log/slurm
  [ -s /etc/munge/munge.key ] || head -c 1024 /dev/urandom >/etc/munge/munge.key
  chown munge:munge /run/munge /etc/munge/munge.key
  chmod 400 /etc/munge/munge.key
  local megabytes
  megabytes=$(awk '/MemTotal/ {print int($2 / 1200)}' /proc/meminfo)
  cat >/etc/slurm/slurm.conf <<CONF
ClusterName=local
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=$name NodeAddr=127.0.0.1 CPUs=$(nproc --all) RealMemory=$megabytes
PartitionName=main Nodes=$name Default=YES MaxTime=INFINITE
CONF
}

running() { kill -0 "$(cat "/run/$1.pid" 2>/dev/null)" 2>/dev/null; }

start() {
  configure
  munge -n 2>/dev/null | unmunge >/dev/null 2>&1 || runuser -u munge -- /usr/sbin/munged
  running slurmctld || slurmctld
  running slurmd || slurmd
  for _ in $(seq 60); do
    if [ "$(sinfo -h -o %T 2>/dev/null | head -n 1)" = idle ]; then return 0; fi
    sleep 1
  done
  echo "local_slurm.sh: the node is not idle after a minute; see /var/log/slurm." >&2
  return 1
}

stop() {
  for daemon in slurmd slurmctld; do
    if running "$daemon"; then kill "$(cat "/run/$daemon.pid")"; fi
  done
}

case "${1:-}" in
  install | start | stop) "$1" ;;
  *) sed -n '2,6p' "$0" >&2 && exit 2 ;;
esac
