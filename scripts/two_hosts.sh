#!/bin/sh
# Runs a command as two processes on two hosts that are network namespaces of this machine, joined by a virtual cable, so that MPI must
# go through TCP as between machines. Needs root, iproute2 and Open MPI.
#   sh scripts/two_hosts.sh npx glimpse train … --accumulate 2
set -e
a=10.77.0.1
b=10.77.0.2
of_a=glimpse-$$-$a # a killed run leaves its namespaces behind, and another may go on beside this one
of_b=glimpse-$$-$b
scratch=$(mktemp -d)
trap 'for name in $of_a $of_b; do ip netns del $name 2>/dev/null || :; done; rm -r "$scratch"' EXIT
ip netns add $of_a
ip netns add $of_b
ip link add cable0 netns $of_a type veth peer name cable1 netns $of_b
ip -n $of_a addr add $a/24 dev cable0
ip -n $of_b addr add $b/24 dev cable1
for name in $of_a $of_b; do ip -n $name link set lo up; done
ip -n $of_a link set cable0 up
ip -n $of_b link set cable1 up
# What mpirun starts its own process on the other host with, instead of ssh.
cat > "$scratch/remote_shell" <<'END'
#!/bin/sh
namespaces=$1
shift
while [ "${1#-}" != "$1" ]; do shift; done
host=$1
shift
exec ip netns exec "$namespaces-$host" unshare --uts sh -c "hostname node-${host##*.}; $*"
END
chmod +x "$scratch/remote_shell"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
ip netns exec $of_a unshare --uts sh -c 'hostname node-1; exec mpirun "$@"' mpirun --mca plm_rsh_agent "$scratch/remote_shell glimpse-$$" \
  --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 \
  --host $a,$b --bind-to none -np 2 -wdir "$PWD" "$@"
