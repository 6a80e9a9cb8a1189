package main

// allCases are the rows of the table, in its order.
func allCases() []benchCase {
	return []benchCase{
		http1Case("http1-16c", 16, true),
		http1Case("http1-128c", 128, true),
		http1Case("http1-512c", 512, true),
		http1Case("http1-128c-nolog", 128, false),
		bodiesCase("http1-64k", 64<<10, "200"),
		bodiesCase("http1-1m", 1<<20, "50"),
		http2Case("http2-1x100", 1, 100),
		http2Case("http2-16x32", 16, 32),
		twohopCase(),
		bulkCase(tlsBulk),
		connectCase(tlsConnect),
		bulkCase(tcpBulk),
		connectCase(tcpConnect),
		connectionsCase(),
		memoryCase("idle", 0),
		memoryCase("10k-entries", 10_000),
		churnCase(),
	}
}
