package standalone

import "golang.org/x/sys/unix"

// Open files that egret reckons with. A workload that opens connections must not take
// the files that egret needs to read a change of the policy.
const (
	// filesPerConnection is the most that one connection of the workload costs: through
	// the gateway it is four sockets, and each proxy splices with a pipe (two files) in
	// each direction; and one idle connection to an upstream by each proxy.
	filesPerConnection = 4 + 4 + 4 + 4
	// reservedFiles are for all else: policy, logs, name lookups, DNS connections.
	reservedFiles = 512
	// mostConnections is where memory is the bound.
	mostConnections = 16384
)

// maxConnections is how many connections a proxy may have at a time, for a limit of
// open files (RLIMIT_NOFILE). A quarter of a low limit is reserved.
func maxConnections(files uint64) int {
	free := files - min(reservedFiles, files/4)
	return int(min(max(free/filesPerConnection, 1), mostConnections))
}

// openFilesLimit is this process's soft limit, which the Go runtime has raised to the
// hard limit.
func openFilesLimit() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return limit.Cur
}
