#!/usr/bin/env bash
# A real Slurm of one node on this machine (munge, slurmctld, slurmd), to try the launcher and to run tests/run/test_slurm.py.
#   local_slurm.sh install   Debian's packages slurm-wlm and munge; does nothing where they are
#   local_slurm.sh start     configure, start, wait until the node takes jobs
#   local_slurm.sh stop      end what start brought up
# Needs root, and writes /etc/slurm/slurm.conf. The node offers all CPUs, no GPU, and keeps no accounts. It is quicker than a
# cluster: a job that was queued again waits 20 s instead of 2 min, one that is ended gets SIGKILL 2 s after SIGTERM instead of 30.
# Where that cannot be, it says why and ends with 77, by which testing tools mean "skipped".
set -euo pipefail
name=$(hostname -s)
config=/etc/slurm/slurm.conf

say() { echo "local_slurm.sh: $1." >&2; }
skip() { say "$1" && exit 77; }
running() { kill -0 "$(cat "/run/$1.pid" 2>/dev/null)" 2>/dev/null; }
takes_jobs() { sinfo -h -o %T 2>/dev/null | grep -qE '^(idle|mixed|allocated)$'; }
installed() { command -v sbatch >/dev/null && command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null; }

apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=30 "$@"; }

install() {
  if installed; then return; fi
  command -v apt-get >/dev/null || skip "Slurm is not installed, and there is no apt-get to install it with"
  local log
  log=$(mktemp)
  if ! { apt_get update && apt_get install -y slurm-wlm munge; } >"$log" 2>&1; then
    skip "Slurm could not be installed ($(grep -m 1 '^E:' "$log" || tail -n 1 "$log"))"
  fi
}

munge() { # by which the daemons know each other
  installed || skip "Slurm is not installed; local_slurm.sh install does that on Debian"
  [ "$(id -u)" = 0 ] || skip "bringing up a Slurm needs root"
  mkdir -p /run/munge
  [ -s /etc/munge/munge.key ] || head -c 1024 /dev/urandom >/etc/munge/munge.key
  chown munge:munge /run/munge /etc/munge/munge.key
  chmod 400 /etc/munge/munge.key
  command munge -n 2>/dev/null | unmunge >/dev/null 2>&1 || runuser -u munge -- /usr/sbin/munged
}

configure() {
  mkdir -p /etc/slurm /var/spool/slurmctld /var/spool/slurmd /var/log/slurm
  local megabytes
  megabytes=$(awk '/MemTotal/ {print int($2 / 1200)}' /proc/meminfo)
  cat >"$config" <<CONF
ClusterName=local
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=20
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
KillWait=2
SchedulerParameters=bf_interval=2,sched_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=$name NodeAddr=127.0.0.1 CPUs=$(nproc --all) RealMemory=$megabytes
PartitionName=main Nodes=$name Default=YES MaxTime=INFINITE
CONF
}

start() {
  if takes_jobs; then return; fi
  if [ -e "$config" ] && ! grep -q '^ClusterName=local$' "$config"; then skip "$config is another cluster's"; fi
  munge
  configure
  running slurmctld || slurmctld
  running slurmd || slurmd
  for _ in $(seq 60); do
    if takes_jobs; then return; fi
    sleep 1
  done
  say "the node takes no jobs after a minute; see /var/log/slurm"
  return 1
}

stop() {
  for daemon in slurmd slurmctld; do
    if running "$daemon"; then kill "$(cat "/run/$daemon.pid")"; fi
  done
}

case "${1:-}" in
  install | munge | start | stop) "$1" ;;
  *) sed -n '2,8p' "$0" >&2 && exit 2 ;;
esac
