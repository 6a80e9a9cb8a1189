package xdsgen

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// NameTable is Istio's NDS message: host name -> what a DNS proxy answers.
// The key "*" says that every name may be looked up outside.
type NameTable map[string]NameInfo

// NameInfo is the answer for a name. Without IPs the name is known, and resolved
// outside when it is dialled.
type NameInfo struct {
	IPs                            []string
	Registry, Shortname, Namespace string
}

// everyName is the key that says that every name may be looked up outside.
const everyName = "*"

// nameTable emits the table for nodes whose DNS the proxy answers.
func (b *builder) nameTable() {
	if !b.node.DNSCapture {
		return
	}
	body := &anypb.Any{TypeUrl: xds.NameTableType, Value: b.names().Encode()}
	b.emitBody(xds.NameTableType, "", body)
}

func (b *builder) names() NameTable {
	t := make(NameTable, len(b.scope.Services)+1)
	for _, s := range b.scope.Services {
		info := nameInfo(s, b.mesh.Domain())
		t[s.Host] = info
		for _, alias := range s.Aliases {
			t[alias] = info
		}
		if s.Headless {
			t.addHostnames(s, info)
		}
	}
	for i := range b.scope.Egress { // hosts that only a VirtualService names
		for _, v := range b.scope.Egress[i].List() {
			if len(v.Spec.GetHttp()) == 0 {
				continue
			}
			for _, h := range v.Hosts {
				if _, ok := t[h]; !ok && h != "*" {
					t[h] = NameInfo{Registry: "External", Namespace: v.Namespace}
				}
			}
		}
	}
	if b.scope.Policy.Mode == mesh.AllowAny {
		t[everyName] = NameInfo{Registry: "External"}
	}
	return t
}

// addHostnames adds the names of a headless Service's pods.
func (t NameTable) addHostnames(s *mesh.Service, info NameInfo) {
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.Hostname == "" {
			continue
		}
		one := t[e.Hostname+"."+s.Host]
		one.Registry, one.Namespace = info.Registry, info.Namespace
		if !slices.Contains(one.IPs, e.Address) {
			one.IPs = append(one.IPs, e.Address)
		}
		t[e.Hostname+"."+s.Host] = one
	}
}

// nameInfo has the service's single addresses, else those allocated for it. A CIDR is
// there too: the name is looked up outside, and answers within the CIDR are good.
func nameInfo(s *mesh.Service, domain string) NameInfo {
	info := NameInfo{Registry: "External", Namespace: s.Namespace}
	for _, a := range s.Addresses {
		if a.IsSingleIP() {
			info.IPs = append(info.IPs, a.Addr().String())
		} else {
			info.IPs = append(info.IPs, a.String())
		}
	}
	if len(s.Addresses) == 0 {
		for _, a := range s.AutoAddresses {
			info.IPs = append(info.IPs, a.String())
		}
	}
	if s.Headless {
		for i := range s.Endpoints {
			if a := s.Endpoints[i].Address; !slices.Contains(info.IPs, a) {
				info.IPs = append(info.IPs, a)
			}
		}
	}
	if s.Source.Kind == "Service" {
		info.Registry = "Kubernetes"
		if name, ok := strings.CutSuffix(s.Host, "."+s.Namespace+".svc."+domain); ok {
			info.Shortname = name
		}
	}
	return info
}

// Wire format: NameTable { map<string, NameInfo> table = 1; } and NameInfo { repeated
// string ips = 1; string registry = 2; string shortname = 3; string namespace = 4; }.

// Encode is the table in its wire format, with sorted keys.
func (t NameTable) Encode() []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(t)) {
		var e entry
		b, e = beginEntry(b, name)
		b = e.end(t[name].encode(b))
	}
	return b
}

func (n NameInfo) encode(b []byte) []byte {
	for _, ip := range n.IPs {
		b = appendText(b, 1, ip)
	}
	for i, s := range []string{n.Registry, n.Shortname, n.Namespace} {
		if s != "" {
			b = appendText(b, protowire.Number(i+2), s)
		}
	}
	return b
}

var errWireType = errors.New("not a length-delimited field")

// DecodeNameTable reads the wire format. Fields it does not know are skipped.
func DecodeNameTable(b []byte) (NameTable, error) {
	t := NameTable{}
	err := fields(b, func(number protowire.Number, entry []byte) error {
		if number != 1 {
			return nil
		}
		name, info := "", NameInfo{}
		if err := fields(entry, func(number protowire.Number, value []byte) error {
			switch number {
			case 1:
				name = string(value)
			case 2:
				return info.decode(value)
			}
			return nil
		}); err != nil {
			return fmt.Errorf("name table: entry %q: %w", name, err)
		}
		t[name] = info
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (n *NameInfo) decode(b []byte) error {
	return fields(b, func(number protowire.Number, value []byte) error {
		switch number {
		case 1:
			n.IPs = append(n.IPs, string(value))
		case 2:
			n.Registry = string(value)
		case 3:
			n.Shortname = string(value)
		case 4:
			n.Namespace = string(value)
		}
		return nil
	})
}

// fields calls f for each length-delimited field of a message; others must have
// numbers that no field of ours has.
func fields(b []byte, f func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if kind != protowire.BytesType {
			if number <= 4 {
				return fmt.Errorf("field %d: %w", number, errWireType)
			}
			if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := f(number, value); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
