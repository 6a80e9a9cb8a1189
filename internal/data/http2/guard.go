package http2

import "time"

// work is a kind of frame that makes work and moves nothing.
type work uint8

const (
	workReset    work = iota // a stream that ended by RST_STREAM, a broken rule or refusal
	workPing                 // PING without ACK
	workSettings             // one setting, or an empty SETTINGS
	workEmpty                // DATA without bytes that does not end the stream
	workWindow               // WINDOW_UPDATE
	workPriority             // PRIORITY
	workIgnored              // frames of unknown types, or for closed streams
	works
)

// allowance is a bucket: how many at once, how many more per second, and how many more
// for each stream that ended well, or for each DATA frame that was sent.
type allowance struct {
	burst, perSecond, perStream, perData int
}

// allowances are wide for peers that work, and narrow beside what a flood sends. Envoy
// has similar ones (max_inbound_priority_frames_per_stream and its neighbours).
var allowances = [works]allowance{
	workReset:    {burst: 500, perSecond: 50, perStream: 1},
	workPing:     {burst: 500, perSecond: 50, perStream: 1},
	workSettings: {burst: 200, perSecond: 10},
	workEmpty:    {burst: 200, perSecond: 50},
	workWindow:   {burst: 1000, perSecond: 200, perStream: 5, perData: 10},
	workPriority: {burst: 200, perSecond: 10, perStream: 100},
	workIgnored:  {burst: 2000, perSecond: 200},
}

// floods are the refusals, by work.
var floods = [works]*Error{
	workReset:    calm("reset_flood", "too many streams were reset, refused or malformed for those that ended well"),
	workPing:     calm("ping_flood", "too many PING frames"),
	workSettings: calm("settings_flood", "too many settings"),
	workEmpty:    calm("empty_data_flood", "too many DATA frames without data"),
	workWindow:   calm("window_update_flood", "too many WINDOW_UPDATE frames"),
	workPriority: calm("priority_flood", "too many PRIORITY frames"),
	workIgnored:  calm("ignored_frame_flood", "too many frames of unknown types or for closed streams"),
}

// guard counts work against allowances.
type guard struct {
	spent [works]int
	last  time.Duration // when perSecond was given last
}

// spend takes n from an allowance. now is asked for only when it is used up.
func (g *guard) spend(w work, n int, now func() time.Duration) *Error {
	a := &allowances[w]
	if g.spent[w] += n; g.spent[w] <= a.burst {
		return nil
	}
	g.refill(now())
	if g.spent[w] > a.burst {
		return floods[w]
	}
	return nil
}

func (g *guard) refill(now time.Duration) {
	seconds := (now - g.last).Seconds()
	if seconds < 0.1 { // less than one of the smallest allowance
		return
	}
	g.last = now
	for w := range g.spent {
		back := int(min(seconds*float64(allowances[w].perSecond), float64(g.spent[w])))
		g.spent[w] -= back
	}
}

// ended is told of a stream that ended well.
func (g *guard) ended() {
	for w := range g.spent {
		g.spent[w] = max(0, g.spent[w]-allowances[w].perStream)
	}
}

// sent is told of a DATA frame that was sent.
func (g *guard) sent() {
	g.spent[workWindow] = max(0, g.spent[workWindow]-allowances[workWindow].perData)
}
