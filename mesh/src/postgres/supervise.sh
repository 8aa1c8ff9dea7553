# Runs one PostgreSQL server and makes sure that it does not outlive the process that asked for it.
#
#   sh supervise.sh DISCARD COMMAND...      DISCARD: a directory to delete at the end, or ''
#
# Standard input is a pipe from that process. A line on it is the name of a signal for the server. Its end means that the process
# is gone, however it went (SIGKILL closes pipes too): the server is told to stop at once, without a checkpoint, and recovers
# from its log the next time. Exits with the server's own status as soon as the server has ended.

# Signals meant for the process above us (a closed terminal, a stopped session) must not end the supervision.
trap '' HUP INT TERM

discard=$1
shift

# 'exec' copies standard input to descriptor 3, since a background command of a shell gets /dev/null as its input.
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!

{
    while read -r signal; do
        kill -"$signal" "$server"
    done <&3
    # Again and again: the first one is lost on a server too young to have its handlers.
    while kill -QUIT "$server"; do
        sleep 1
    done
} 2>/dev/null &
watcher=$!
exec 3<&-

wait "$server"
status=$?
kill -KILL "$watcher"
wait "$watcher" 2>/dev/null
if [ -n "$discard" ]; then
    rm -rf -- "$discard"
fi
exit "$status"
