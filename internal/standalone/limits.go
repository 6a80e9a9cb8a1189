package standalone

import "github.com/egret-mesh/egret/internal/data/instance"

// Open files that egret reckons with. A workload that opens connections must not take
// the files that egret needs to read a change of the policy.
const (
	// filesPerConnection is the most that one connection of the workload costs: through
	// the gateway it is four sockets, and each proxy splices with a pipe (two files) in
	// each direction; and one idle connection to an upstream by each proxy.
	filesPerConnection = 4 + 4 + 4 + 4
	// mostConnections is where memory is the bound.
	mostConnections = 16384
)

// maxConnections is how many connections a proxy may have at a time, for a limit of
// open files.
func maxConnections(files uint64) int {
	return instance.MaxConnections(files, filesPerConnection, mostConnections)
}
