package resource

import (
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/match"
)

const typeNameTable = "istio.networking.nds.v1.NameTable"

// NameTable decodes Istio's NameTable; see DecodeNameTable.
func (d Decoder) NameTable(a *anypb.Any) (*NameTable, error) { return DecodeNameTable(a) }

// DecodeNameTable decodes Istio's NDS resource from the wire: message NameTable {
// map<string, NameInfo> table = 1; }, message NameInfo { repeated string ips = 1;
// string registry = 2; string shortname = 3; string namespace = 4; }. Fields that
// are not known are left out: they only add names.
func DecodeNameTable(a *anypb.Any) (*NameTable, error) {
	if typeName(a.GetTypeUrl()) != typeNameTable {
		return nil, fmt.Errorf("name table: type %q, want %s", clip(a.GetTypeUrl()), typeNameTable)
	}
	t := &NameTable{Names: map[string]NameInfo{}}
	err := eachBytes(a.GetValue(), func(num protowire.Number, entry []byte) error {
		if num != 1 {
			return nil
		}
		var name string
		var info NameInfo
		err := eachBytes(entry, func(num protowire.Number, v []byte) (err error) {
			switch num {
			case 1:
				name = string(v)
			case 2:
				info, err = decodeNameInfo(v)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("%q: %w", clip(name), err)
		}
		name = strings.TrimSuffix(match.Lower(name), ".")
		if name == "" {
			return fmt.Errorf("an empty name")
		}
		t.Names[name] = info
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("name table: %w", err)
	}
	return t, nil
}

func decodeNameInfo(b []byte) (NameInfo, error) {
	var info NameInfo
	err := eachBytes(b, func(num protowire.Number, v []byte) error {
		switch num {
		case 1:
			if prefix, err := netip.ParsePrefix(string(v)); err == nil {
				info.Prefixes = append(info.Prefixes, prefix.Masked())
				return nil
			}
			addr, err := netip.ParseAddr(string(v))
			if err != nil {
				return fmt.Errorf("%q is neither an IP address nor a CIDR", clip(string(v)))
			}
			info.Addresses = append(info.Addresses, addr.Unmap())
		case 2:
			info.Registry = string(v)
		case 4:
			info.Namespace = string(v)
		}
		return nil
	})
	return info, err
}

// eachBytes calls f for each length-delimited field of a message.
func eachBytes(b []byte, f func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := f(num, v); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// Lookup finds a name (lower case, no final dot): exactly, or by the longest
// "*.suffix" key. The key "*" is not looked at: it says that other names may be
// looked up outside, not that they are known. key is the table's key.
func (t *NameTable) Lookup(name string) (info NameInfo, key string, ok bool) {
	if t == nil {
		return NameInfo{}, "", false
	}
	if info, ok = t.Names[name]; ok && name != "*" {
		return info, name, true
	}
	for i := 1; i < len(name); i++ {
		if name[i] != '.' || i == len(name)-1 {
			continue
		}
		key = "*" + name[i:]
		if info, ok = t.Names[key]; ok {
			return info, key, true
		}
	}
	return NameInfo{}, "", false
}
