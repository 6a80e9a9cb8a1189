package format

import (
	"encoding/json"
	"errors"
	"fmt"
)

const (
	coalesce      = "COALESCE"
	maxCoalesce   = 64 // operators in one
	coalesceDepth = 4  // of one in another
)

// Coalesced are the commands that %COALESCE(args)% tries one after the other.
func Coalesced(args string) ([]Part, error) { return coalesced(args, 1) }

func coalesced(args string, depth int) ([]Part, error) {
	if depth > coalesceDepth {
		return nil, errors.New("COALESCE inside COALESCE too often")
	}
	var written struct {
		Operators []json.RawMessage `json:"operators"`
	}
	if err := json.Unmarshal([]byte(args), &written); err != nil {
		return nil, fmt.Errorf("COALESCE takes a JSON object with the list operators: %w", err)
	}
	if n := len(written.Operators); n == 0 || n > maxCoalesce {
		return nil, fmt.Errorf("COALESCE with %d operators; it takes from 1 to %d", n, maxCoalesce)
	}
	var parts []Part
	for _, raw := range written.Operators {
		part, err := coalescedPart(raw)
		if err == nil {
			err = part.check(depth)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", abbreviate(string(raw)), err)
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// coalescedPart reads a name, or an object with command, param and max_length.
func coalescedPart(raw []byte) (Part, error) {
	var name string
	if json.Unmarshal(raw, &name) == nil {
		return Part{Command: name}, nil
	}
	var o struct {
		Command   string `json:"command"`
		Param     string `json:"param"`
		MaxLength int    `json:"max_length"`
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return Part{}, err
	}
	if o.MaxLength < 0 || o.MaxLength > MaxLength {
		return Part{}, fmt.Errorf("max_length %d", o.MaxLength)
	}
	return Part{Command: o.Command, Args: o.Param, Max: o.MaxLength}, nil
}
