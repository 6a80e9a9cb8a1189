package intercept

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Verdicts of a base chain (linux/netfilter.h).
const (
	drop   uint32 = 0
	accept uint32 = 1
)

// Batch is the ruleset as one nftables transaction, ready to be sent on a
// NETLINK_NETFILTER socket. With replace a table of the same name is replaced; without,
// its being there is an error (EEXIST), and the kernel is done some five to ten
// milliseconds sooner, for it waits until nobody uses the old table.
// (linux/netfilter/nf_tables.h; the expressions are encoded by google/nftables, whose
// connection type is not used because the sandbox's first stage, which sends the
// batch, must stay free of it to start fast.)
func (r Ruleset) Batch(replace bool) ([]byte, error) { return r.table().batch(replace) }

func (t table) batch(replace bool) ([]byte, error) {
	table := []netlink.Attribute{{Type: unix.NFTA_TABLE_NAME, Data: zero(t.name)}}
	b := &batch{}
	b.control(unix.NFNL_MSG_BATCH_BEGIN)
	if replace {
		b.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, table) // so that there is one to delete
		b.add(unix.NFT_MSG_DELTABLE, 0, table)
	}
	b.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, table)
	for _, c := range t.chains {
		b.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, b.chain(t.name, c))
		for _, rule := range c.rules {
			b.add(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, b.rule(t.name, c.name, rule))
		}
	}
	b.control(unix.NFNL_MSG_BATCH_END)
	if b.err != nil {
		return nil, fmt.Errorf("encode nftables table %q: %w", t.name, b.err)
	}
	return b.data, nil
}

// batch collects messages; the first error sticks.
type batch struct {
	data []byte
	seq  uint32
	err  error
}

func (b *batch) chain(table string, c chain) []netlink.Attribute {
	hook := b.encode([]netlink.Attribute{
		{Type: unix.NFTA_HOOK_HOOKNUM, Data: binaryutil.BigEndian.PutUint32(c.hook.number)},
		{Type: unix.NFTA_HOOK_PRIORITY, Data: binaryutil.BigEndian.PutUint32(uint32(c.priority))},
	})
	return []netlink.Attribute{
		{Type: unix.NFTA_CHAIN_TABLE, Data: zero(table)},
		{Type: unix.NFTA_CHAIN_NAME, Data: zero(c.name)},
		{Type: unix.NLA_F_NESTED | unix.NFTA_CHAIN_HOOK, Data: hook},
		{Type: unix.NFTA_CHAIN_POLICY, Data: binaryutil.BigEndian.PutUint32(c.policy)},
		{Type: unix.NFTA_CHAIN_TYPE, Data: zero(c.kind)},
	}
}

func (b *batch) rule(table, chain string, r rule) []netlink.Attribute {
	var list []netlink.Attribute
	for _, s := range r {
		for _, e := range s.exprs {
			data, err := expr.Marshal(unix.NFPROTO_INET, e)
			b.fail(err)
			list = append(list, netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, Data: data})
		}
	}
	return []netlink.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: zero(table)},
		{Type: unix.NFTA_RULE_CHAIN, Data: zero(chain)},
		{Type: unix.NLA_F_NESTED | unix.NFTA_RULE_EXPRESSIONS, Data: b.encode(list)},
	}
}

// add appends one nftables message that asks for an acknowledgement.
func (b *batch) add(kind, flags uint16, attributes []netlink.Attribute) {
	body := append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, b.encode(attributes)...)
	b.message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK, body)
}

// control appends the begin or end of the transaction.
func (b *batch) control(kind uint16) {
	body := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, unix.NFNL_SUBSYS_NFTABLES)
	b.message(kind, unix.NLM_F_REQUEST, body)
}

func (b *batch) message(kind, flags uint16, body []byte) {
	b.data = appendMessage(b.data, kind, flags, b.seq, body)
	b.seq++
}

func (b *batch) encode(attributes []netlink.Attribute) []byte {
	data, err := netlink.MarshalAttributes(attributes)
	b.fail(err)
	return data
}

func (b *batch) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

func appendMessage(b []byte, kind, flags uint16, seq uint32, body []byte) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, body...)
	for len(b)%unix.NLMSG_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func zero(s string) []byte { return append([]byte(s), 0) }
