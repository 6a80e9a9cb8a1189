package identity

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// The contract is istio.io/api/security/v1alpha1/ca.proto. Two messages of three fields
// are written here by hand: code generated from a copy of that file would take the same
// names in protobuf's registry as istio.io/api itself, which no program may have twice.
const (
	createCertificate = "/istio.v1.auth.IstioCertificateService/CreateCertificate"

	// Fields of IstioCertificateRequest.
	fieldCSR              = 1 // string, PEM
	fieldValidityDuration = 3 // int64, seconds
	fieldMetadata         = 4 // google.protobuf.Struct
	// Field of IstioCertificateResponse.
	fieldCertChain = 1 // repeated string, PEM: the leaf first, the root last
)

// maxChain bounds the certificates of an answer.
const maxChain = 32

// certificateRequest is an IstioCertificateRequest.
type certificateRequest struct {
	csr     string
	seconds int64
	// metadata is opaque to Istio's own authority; nil: none.
	metadata *structpb.Struct
}

func (r *certificateRequest) encode() ([]byte, error) {
	b := protowire.AppendTag(nil, fieldCSR, protowire.BytesType)
	b = protowire.AppendString(b, r.csr)
	b = protowire.AppendTag(b, fieldValidityDuration, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(r.seconds))
	if r.metadata == nil {
		return b, nil
	}
	m, err := proto.Marshal(r.metadata)
	if err != nil {
		return nil, err
	}
	return protowire.AppendBytes(protowire.AppendTag(b, fieldMetadata, protowire.BytesType), m), nil
}

// certificateResponse is an IstioCertificateResponse.
type certificateResponse struct{ chain []string }

// decode reads what of a message it knows, as protobuf does.
func (r *certificateResponse) decode(b []byte) error {
	r.chain = nil
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if number != fieldCertChain || kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		text, n := protowire.ConsumeString(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if r.chain = append(r.chain, text); len(r.chain) > maxChain {
			return fmt.Errorf("more than %d certificates", maxChain)
		}
	}
	return nil
}

// codec carries the two messages as gRPC's "proto".
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	r, ok := v.(*certificateRequest)
	if !ok {
		return nil, errors.New("not a certificate request")
	}
	b, err := r.encode()
	return mem.BufferSlice{mem.SliceBuffer(b)}, err
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*certificateResponse)
	if !ok {
		return errors.New("not a certificate response")
	}
	return r.decode(data.Materialize())
}

// sign asks an authority for a certificate.
func sign(ctx context.Context, authority grpc.ClientConnInterface, r *certificateRequest) ([]string, error) {
	var out certificateResponse
	err := authority.Invoke(ctx, createCertificate, r, &out, grpc.ForceCodecV2(codec{}))
	return out.chain, err
}
