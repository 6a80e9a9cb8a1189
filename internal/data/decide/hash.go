package decide

import (
	"math/bits"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// HashPlan is the number by which a hashing balancer chooses for one request.
type HashPlan struct {
	Hash uint64
	OK   bool // false: the request has nothing to hash, any endpoint will do
	// Cookie, if not nil, is the policy whose cookie the client did not have: the
	// response sets it to CookieValue.
	Cookie      *resource.HashPolicy
	CookieValue string
}

// Hash combines the policies as Envoy does (source/common/http/hash_policy.cc): xxHash64
// of each value, the number so far rotated by one bit before the next is mixed in. A
// header that is there more than once is hashed as its values joined by ",".
func Hash(policies []resource.HashPolicy, r *Request) HashPlan {
	var plan HashPlan
	for i := range policies {
		p := &policies[i]
		if h, ok := plan.hash(p, r); ok {
			plan.Hash, plan.OK = bits.RotateLeft64(plan.Hash, 1)^h, true
		}
		if p.Terminal && plan.OK {
			break
		}
	}
	return plan
}

func (plan *HashPlan) hash(p *resource.HashPolicy, r *Request) (uint64, bool) {
	switch p.Kind {
	case resource.HashHeader:
		value, ok := header(r, p.Name)
		if ok && p.Rewrite != nil {
			value = p.Rewrite.Pattern.ReplaceAllString(value, p.Rewrite.Substitution)
		}
		return xxhash.Sum64String(value), ok
	case resource.HashQuery:
		value, ok := queryParameter(r.Path, p.Name)
		return xxhash.Sum64String(value), ok
	case resource.HashSourceIP:
		client := r.Client
		if !client.IsValid() && r.Conn != nil {
			client = r.Conn.Source.Addr()
		}
		if !client.IsValid() {
			return 0, false
		}
		var b [48]byte
		return xxhash.Sum64(client.Unmap().AppendTo(b[:0])), true
	case resource.HashCookie:
		return plan.hashCookie(p, r)
	}
	return 0, false
}

func (plan *HashPlan) hashCookie(p *resource.HashPolicy, r *Request) (uint64, bool) {
	value := cookie(r, p.Name)
	if value == "" {
		if p.Cookie == nil || r.Conn == nil {
			return 0, false
		}
		value = newCookieValue(r.Conn)
		if plan.Cookie == nil {
			plan.Cookie, plan.CookieValue = p, value
		}
	}
	return xxhash.Sum64String(value), true
}

// newCookieValue is the same for all requests of a connection, so that requests that
// race get the same cookie, as in Envoy.
func newCookieValue(c *Conn) string {
	b := c.Source.AppendTo(make([]byte, 0, 128))
	b = c.Destination.AppendTo(b)
	return strconv.FormatUint(xxhash.Sum64(b), 16)
}

// SetCookie is the value of a set-cookie header for the cookie that the plan makes
// (RFC 6265 section 4.1).
func (plan *HashPlan) SetCookie() string {
	p := plan.Cookie
	var b strings.Builder
	b.WriteString(p.Name + `="` + plan.CookieValue + `"`)
	if seconds := int64(p.Cookie.TTL.Seconds()); seconds > 0 {
		b.WriteString("; Max-Age=" + strconv.FormatInt(seconds, 10))
	}
	if p.Cookie.Path != "" {
		b.WriteString("; Path=" + p.Cookie.Path)
	}
	b.WriteString(p.Cookie.Attributes)
	b.WriteString("; HttpOnly")
	return b.String()
}

// queryParameter is the first parameter of the name in a request target, as written.
func queryParameter(target, name string) (string, bool) {
	_, query, more := strings.Cut(target, "?")
	for more {
		var pair string
		pair, query, more = strings.Cut(query, "&")
		if key, value, _ := strings.Cut(pair, "="); key == name {
			return value, true
		}
	}
	return "", false
}

// cookie is the value of the first cookie of the name, without quotes.
func cookie(r *Request, name string) string {
	list, more := header(r, "cookie")
	for more {
		var pair string
		pair, list, more = strings.Cut(list, ";")
		if key, value, ok := strings.Cut(strings.TrimSpace(pair), "="); ok && key == name {
			if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			return value
		}
	}
	return ""
}
