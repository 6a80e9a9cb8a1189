package intercept

import (
	"fmt"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/netns"
)

// table is one nftables table of the inet family, as it is wanted.
type table struct {
	name   string
	chains []chain
}

type chain struct {
	name, kind string
	hook       hook
	priority   int32
	policy     uint32
	rules      []rule
}

// hook is where in the kernel a chain is called (linux/netfilter.h).
type hook struct {
	name   string
	number uint32
}

var (
	prerouting = hook{"prerouting", unix.NF_INET_PRE_ROUTING}
	forward    = hook{"forward", unix.NF_INET_FORWARD}
	output     = hook{"output", unix.NF_INET_LOCAL_OUT}
)

// rule is one rule as text and as expressions, made together so that they agree.
type rule []statement

type statement struct {
	text  string
	exprs []expr.Any
}

func (t table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", t.name)
	for _, c := range t.chains {
		policy := map[uint32]string{accept: "accept", drop: "drop"}[c.policy]
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype %s hook %s priority %d; policy %s;\n", c.name, c.kind, c.hook.name, c.priority, policy)
		for _, rule := range c.rules {
			words := make([]string, len(rule))
			for i, s := range rule {
				words[i] = s.text
			}
			fmt.Fprintf(&b, "\t\t%s\n", strings.Join(words, " "))
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func (t table) apply() error {
	batch, err := t.batch(true)
	if err != nil {
		return err
	}
	if err := netns.Exchange(unix.NETLINK_NETFILTER, batch); err != nil {
		return fmt.Errorf("apply nftables table %q: %w", t.name, err)
	}
	return nil
}
