package record

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
	"DO": "DropOverLoad", "DR": "DownstreamRemoteReset", "UDO": "UnconditionalDropOverload",
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
