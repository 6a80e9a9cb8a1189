package istioapi

import (
	"fmt"
	"strings"
	"testing"
)

func manyServiceEntries(n int) []byte {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: host-%d
spec:
  hosts:
  - www.host-%d.example.com
  ports:
  - number: 80
    name: http
    protocol: HTTP
  - number: 443
    name: https
    protocol: HTTPS
  resolution: DNS
`, i, i)
	}
	return []byte(b.String())
}

func BenchmarkDecode10000(b *testing.B) {
	data := manyServiceEntries(10_000)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if objects, _ := Decode("f", data); objects.Len() != 10_000 {
			b.Fatal(objects.Len())
		}
	}
}
