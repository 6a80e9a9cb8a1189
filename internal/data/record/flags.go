package record

import (
	"slices"
	"strings"
)

// longFlags are Envoy's names for %RESPONSE_FLAGS_LONG%.
var longFlags = map[string]string{
	"LH": "FailedLocalHealthCheck", "UH": "NoHealthyUpstream", "UT": "UpstreamRequestTimeout",
	"LR": "LocalReset", "UR": "UpstreamRemoteReset", "UF": "UpstreamConnectionFailure",
	"UC": "UpstreamConnectionTermination", "UO": "UpstreamOverflow", "NR": "NoRouteFound",
	"DI": "DelayInjected", "FI": "FaultInjected", "RL": "RateLimited",
	"UAEX": "UnauthorizedExternalService", "RLSE": "RateLimitServiceError",
	"DC": "DownstreamConnectionTermination", "URX": "UpstreamRetryLimitExceeded",
	"SI": "StreamIdleTimeout", "IH": "InvalidEnvoyRequestHeaders", "DPE": "DownstreamProtocolError",
	"UMSDR": "UpstreamMaxStreamDurationReached", "RFCF": "ResponseFromCacheFilter",
	"NFCF": "NoFilterConfigFound", "DT": "DurationTimeout", "UPE": "UpstreamProtocolError",
	"NC": "NoClusterFound", "OM": "OverloadManagerTerminated", "DF": "DnsResolutionFailed",
	"DO": "DropOverload", "DR": "DownstreamRemoteReset", "UDO": "UnconditionalDropOverload",
}

// flagOrder is the order of Envoy's CoreResponseFlag, which gives each flag its bit in
// the attribute response.flags.
var flagOrder = strings.Fields("LH UH UT LR UR UF UC UO NR DI FI RL UAEX RLSE DC URX SI IH DPE UMSDR RFCF NFCF DT UPE NC OM DF DO DR UDO")

func flagBits(flags []string) int64 {
	var bits int64
	for _, f := range flags {
		if i := slices.Index(flagOrder, f); i >= 0 {
			bits |= 1 << i
		}
	}
	return bits
}

// appendFlags prints flags joined by ","; "-" when there are none.
func appendFlags(dst []byte, flags []string, long bool) []byte {
	if len(flags) == 0 {
		return append(dst, '-')
	}
	for i, f := range flags {
		if i > 0 {
			dst = append(dst, ',')
		}
		if name := longFlags[f]; long && name != "" {
			f = name
		}
		dst = append(dst, f...)
	}
	return dst
}
