package standalone

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// A stderr that takes nothing holds up nobody, neither while the mesh runs (it would
// keep changes of the policy from taking effect) nor at the end.
func TestVoiceNeverWaits(t *testing.T) {
	reader, stuck := io.Pipe()
	defer func() { _ = reader.Close() }()
	v := newVoice(stuck, false)
	for i := range 3 * maxUnsaid {
		v.say(fmt.Sprint(i), "word")
	}
	if v.unsaid == 0 {
		t.Error("lines wait without bound")
	}
	v.close()
	v.close()
	v.say("late", "word")
}

func TestVoiceSaysEachThingOnce(t *testing.T) {
	var out bytes.Buffer
	v := newVoice(&out, false)
	for range 3 {
		v.say("a", "one")
		v.say("b", "two")
	}
	v.close()
	if out.String() != "egret: one\negret: two\n" {
		t.Errorf("said %q", out.String())
	}
}

func TestVoiceTellsHowMuchWasLost(t *testing.T) {
	reader, writer := io.Pipe()
	v := newVoice(writer, false)
	for i := 0; v.unsaid < 2; i++ {
		v.say(fmt.Sprint(i), "word")
	}
	got := make(chan string)
	go func() {
		text, _ := io.ReadAll(reader)
		got <- string(text)
	}()
	for len(v.lines) > 0 {
		v.say("again", "word") // lost as well, until there is room
	}
	v.say("last", "word")
	v.close()
	_ = writer.Close()
	if text := <-got; !strings.Contains(text, "lines were not written") {
		t.Errorf("said %q", text)
	}
}
