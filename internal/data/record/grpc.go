package record

import (
	"strconv"

	"github.com/egret-mesh/egret/internal/data/match"
)

// grpcNames are the status codes of gRPC by number: as %GRPC_STATUS% prints them, and
// as %GRPC_STATUS(SNAKE_STRING)% does.
var grpcNames = [...][2]string{
	{"OK", "OK"}, {"Canceled", "CANCELLED"}, {"Unknown", "UNKNOWN"}, {"InvalidArgument", "INVALID_ARGUMENT"},
	{"DeadlineExceeded", "DEADLINE_EXCEEDED"}, {"NotFound", "NOT_FOUND"}, {"AlreadyExists", "ALREADY_EXISTS"},
	{"PermissionDenied", "PERMISSION_DENIED"}, {"ResourceExhausted", "RESOURCE_EXHAUSTED"},
	{"FailedPrecondition", "FAILED_PRECONDITION"}, {"Aborted", "ABORTED"}, {"OutOfRange", "OUT_OF_RANGE"},
	{"Unimplemented", "UNIMPLEMENTED"}, {"Internal", "INTERNAL"}, {"Unavailable", "UNAVAILABLE"},
	{"DataLoss", "DATA_LOSS"}, {"Unauthenticated", "UNAUTHENTICATED"},
}

// IsGRPC reports whether the request is gRPC by its content type
// (Envoy's Grpc::Common::isGrpcRequestHeaders). gRPC needs HTTP/2.
func (e *Entry) IsGRPC() bool {
	return e.Protocol == ProtocolHTTP2 && match.IsGRPC(get(e.RequestHeaders, "content-type"))
}

// grpcStatus is the status of a gRPC call: of the trailers, else of the headers, else
// what the HTTP status means (Envoy's Grpc::Common::getGrpcStatus). A status that is
// no number is -1.
func grpcStatus(e *Entry) (code int, ok bool) {
	if !e.IsGRPC() {
		return 0, false
	}
	for _, h := range []Headers{e.ResponseTrailers, e.ResponseHeaders} {
		if s := get(h, "grpc-status"); s != "" {
			n, err := strconv.ParseUint(s, 10, 16)
			if err != nil {
				return -1, true
			}
			return int(n), true
		}
	}
	if e.Status == 0 {
		return 0, false
	}
	return int(GRPCStatusOf(e.Status)), true
}

// GRPCStatusOf is the gRPC status that stands for an HTTP status
// (grpc/doc/http-grpc-status-mapping.md, Envoy's Grpc::Utility::httpToGrpcStatus).
func GRPCStatusOf(status int) uint32 {
	switch status {
	case 400:
		return 13 // Internal
	case 401:
		return 16 // Unauthenticated
	case 403:
		return 7 // PermissionDenied
	case 404:
		return 12 // Unimplemented
	case 429, 502, 503, 504:
		return 14 // Unavailable
	}
	return 2 // Unknown
}

func grpcNumber(_ *Recorder, e *Entry) value {
	n, ok := grpcStatus(e)
	if !ok {
		return value{}
	}
	return number(int64(n))
}

// grpcName is GRPC_STATUS(X). A number without a name is printed as it is.
func grpcName(how string) operator {
	column := 0
	switch how {
	case "NUMBER":
		return grpcNumber
	case "SNAKE_STRING":
		column = 1
	}
	return func(r *Recorder, e *Entry) value {
		n, ok := grpcStatus(e)
		switch {
		case !ok:
			return value{}
		case n < 0 || n >= len(grpcNames):
			return number(int64(n))
		}
		return word(grpcNames[n][column])
	}
}
