package main

// allCases are the rows of the table, in its order.
func allCases() []benchCase {
	return []benchCase{
		http1Case("http1-16c", 16, true),
		http1Case("http1-128c", 128, true),
		http1Case("http1-512c", 512, true),
		http1Case("http1-128c-nolog", 128, false),
	}
}
