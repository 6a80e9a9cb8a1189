package instance

import "golang.org/x/sys/unix"

// reservedFiles are for all but connections: configuration, logs, name lookups, DNS.
const reservedFiles = 512

// MaxConnections is how many connections a proxy may have at a time, for a limit of open
// files (RLIMIT_NOFILE): each costs so many of them, and where memory is the bound there
// are most. A quarter of a low limit is reserved.
func MaxConnections(files, each, most uint64) int {
	free := files - min(reservedFiles, files/4)
	return int(min(max(free/each, 1), most))
}

// OpenFiles is this process's soft limit of open files, which the Go runtime has raised to
// the hard limit.
func OpenFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return limit.Cur
}
