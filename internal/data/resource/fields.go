package resource

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// fieldUse says what the decoder does with a field that is set.
type fieldUse uint8

const (
	fieldRefused fieldUse = iota // not in the table: an error
	fieldUsed
	fieldSkipped // cosmetic for Egret: left out, counted
	fieldWhole   // used, and the decoder of the field judges all that is in it
)

// fieldTable has, per message, which fields are used and which are skipped. It is
// read-only. Whatever is in neither list is refused, so a field that a new Envoy
// version brings is refused until somebody has thought about it.
var fieldTable = parseFields(listenerFields + httpFields + routeFields + clusterFields + tlsFields + sharedFields)

// parseFields reads lines "message", "+used fields", "=whole fields", "-skipped fields".
func parseFields(text string) map[protoreflect.FullName]map[protoreflect.Name]fieldUse {
	table := map[protoreflect.FullName]map[protoreflect.Name]fieldUse{}
	var message map[protoreflect.Name]fieldUse
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		use := fieldUsed
		switch {
		case line == "":
			continue
		case line[0] == '-':
			use = fieldSkipped
		case line[0] == '=':
			use = fieldWhole
		case line[0] != '+':
			message = map[protoreflect.Name]fieldUse{}
			table[protoreflect.FullName(line)] = message
			continue
		}
		for _, f := range strings.Fields(line[1:]) {
			message[protoreflect.Name(f)] = use
		}
	}
	return table
}

const listenerFields = `
envoy.config.listener.v3.Listener
+ name address additional_addresses filter_chains use_original_dst default_filter_chain metadata deprecated_v1
+ listener_filters listener_filters_timeout continue_on_listener_filters_timeout traffic_direction access_log bind_to_port transparent fcds_config
- stat_prefix stats_matcher per_connection_buffer_limit_bytes per_connection_buffer_high_watermark_timeout drain_type freebind
- socket_options tcp_fast_open_queue_length connection_balance_config reuse_port enable_reuse_port tcp_backlog_size
- max_connections_to_accept_per_socket_event enable_mptcp ignore_global_conn_limit bypass_overload_manager tcp_keepalive
envoy.config.listener.v3.Listener.DeprecatedV1
+ bind_to_port
envoy.config.listener.v3.Listener.FcdsConfig
+ name config_source
envoy.config.listener.v3.AdditionalAddress
+ address
- socket_options tcp_keepalive
envoy.config.listener.v3.ListenerFilter
+ name typed_config filter_disabled
envoy.config.listener.v3.ListenerFilterChainMatchPredicate
+ or_match and_match not_match any_match destination_port_range
envoy.config.listener.v3.ListenerFilterChainMatchPredicate.MatchSet
+ rules
envoy.config.listener.v3.FilterChain
+ filter_chain_match filters use_proxy_proto metadata transport_socket transport_socket_connect_timeout name
envoy.config.listener.v3.FilterChainMatch
+ destination_port prefix_ranges source_prefix_ranges source_ports server_names transport_protocol application_protocols
envoy.config.listener.v3.Filter
+ name typed_config
envoy.extensions.filters.listener.original_dst.v3.OriginalDst
+
envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector
- enable_ja3_fingerprinting enable_ja4_fingerprinting initial_read_buffer_size max_client_hello_size close_connection_on_client_hello_parsing_errors
envoy.extensions.filters.listener.http_inspector.v3.HttpInspector
+
envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
+ cluster weighted_clusters idle_timeout access_log hash_policy metadata_match max_downstream_connection_duration tunneling_config on_demand
- stat_prefix
- max_connect_attempts backoff_options max_downstream_connection_duration_jitter_percentage access_log_flush_interval flush_access_log_on_connected access_log_options
- downstream_idle_timeout upstream_idle_timeout check_drain_close
envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TunnelingConfig
+ hostname use_post headers_to_add post_path
- propagate_response_headers propagate_response_trailers
envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.OnDemand
+ odcds_config
- timeout
envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster
+ clusters
envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight
+ name weight metadata_match
envoy.type.v3.HashPolicy
+ source_ip
envoy.type.v3.HashPolicy.SourceIp
+
envoy.config.accesslog.v3.AccessLog
+ name filter typed_config
envoy.config.accesslog.v3.AccessLogFilter
+ status_code_filter duration_filter not_health_check_filter and_filter or_filter header_filter response_flag_filter
+ traceable_filter runtime_filter grpc_status_filter extension_filter metadata_filter log_type_filter
envoy.config.accesslog.v3.TraceableFilter
+
envoy.config.accesslog.v3.RuntimeFilter
+ percent_sampled
- runtime_key use_independent_randomness
envoy.config.accesslog.v3.GrpcStatusFilter
+ statuses exclude
envoy.config.accesslog.v3.ExtensionFilter
+ name typed_config
envoy.config.accesslog.v3.MetadataFilter
+ match_if_key_not_found
- matcher
envoy.config.accesslog.v3.LogTypeFilter
+ types exclude
envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter
+ expression
envoy.config.accesslog.v3.StatusCodeFilter
+ comparison
envoy.config.accesslog.v3.DurationFilter
+ comparison
envoy.config.accesslog.v3.ComparisonFilter
+ op value
envoy.config.accesslog.v3.NotHealthCheckFilter
+
envoy.config.accesslog.v3.AndFilter
+ filters
envoy.config.accesslog.v3.OrFilter
+ filters
envoy.config.accesslog.v3.HeaderFilter
+ header
envoy.config.accesslog.v3.ResponseFlagFilter
+ flags
envoy.extensions.access_loggers.file.v3.FileAccessLog
+ path format json_format typed_json_format log_format
envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
+ log_format
envoy.extensions.access_loggers.stream.v3.StderrAccessLog
+ log_format
envoy.config.core.v3.SubstitutionFormatString
+ text_format json_format text_format_source omit_empty_values
- content_type formatters json_format_options
`

const httpFields = `
envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
+ codec_type rds route_config http_filters common_http_protocol_options http_protocol_options http2_protocol_options server_name
+ server_header_transformation max_request_headers_kb stream_idle_timeout request_timeout request_headers_timeout access_log
+ use_remote_address skip_xff_append generate_request_id preserve_external_request_id forward_client_cert_details
+ proxy_100_continue upgrade_configs normalize_path merge_slashes path_with_escaped_slashes_action
- stat_prefix
+ always_set_request_id_in_response strip_matching_host_port strip_any_host_port
- add_user_agent tracing http1_safe_max_connection_duration http3_protocol_options stream_flush_timeout
- drain_timeout drain_timeout_jitter delayed_close_timeout access_log_flush_interval flush_access_log_on_new_request
+ set_current_client_cert_details via append_x_forwarded_port
+ xff_num_trusted_hops
- access_log_options internal_address_config
- represent_ipv4_remote_address_as_ipv4_mapped_ipv6 request_id_extension
- stream_error_on_invalid_http_message proxy_status_config append_local_overload
- add_proxy_protocol_connection_state record_route_resolution_stats
envoy.extensions.filters.network.http_connection_manager.v3.Rds
+ config_source route_config_name
envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter
+ name typed_config is_optional disabled
envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails
+ subject cert chain dns uri
envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig
+ upgrade_type enabled
envoy.extensions.filters.http.router.v3.Router
+ suppress_envoy_headers
- dynamic_stats start_child_span upstream_log upstream_log_options respect_expected_rq_timeout
- suppress_grpc_request_failure_code_stats reject_connect_request_early_data
envoy.extensions.filters.http.on_demand.v3.OnDemand
+ odcds
envoy.extensions.filters.http.on_demand.v3.OnDemandCds
+ source
- timeout
envoy.extensions.filters.http.fault.v3.HTTPFault
+ delay abort upstream_cluster headers downstream_nodes max_active_faults
- delay_percent_runtime abort_percent_runtime delay_duration_runtime abort_http_status_runtime max_active_faults_runtime
- response_rate_limit_percent_runtime abort_grpc_status_runtime disable_downstream_cluster_stats filter_metadata
envoy.extensions.filters.http.fault.v3.FaultAbort
+ http_status grpc_status percentage
envoy.extensions.filters.common.fault.v3.FaultDelay
+ fixed_delay percentage
envoy.extensions.filters.http.cors.v3.CorsPolicy
+ allow_origin_string_match allow_methods allow_headers expose_headers max_age allow_credentials filter_enabled
+ allow_private_network_access forward_not_matching_preflights
- shadow_enabled
envoy.extensions.filters.http.cors.v3.Cors
+
envoy.config.core.v3.HttpProtocolOptions
+ idle_timeout max_requests_per_connection max_connection_duration
- max_connection_duration_jitter max_headers_count max_response_headers_kb
envoy.config.core.v3.Http1ProtocolOptions
- accept_http_10 allow_absolute_url header_key_format enable_trailers allow_chunked_length override_stream_error_on_invalid_http_message
- use_balsa_parser allow_custom_methods
`

const routeFields = `
envoy.config.route.v3.RouteConfiguration
+ name virtual_hosts response_headers_to_add response_headers_to_remove request_headers_to_add request_headers_to_remove
+ max_direct_response_body_size_bytes ignore_port_in_host_matching typed_per_filter_config most_specific_header_mutations_wins vhds
- validate_clusters metadata
envoy.config.route.v3.Vhds
+ config_source
envoy.config.route.v3.VirtualHost
+ name domains routes require_tls request_headers_to_add request_headers_to_remove response_headers_to_add
+ response_headers_to_remove typed_per_filter_config include_request_attempt_count retry_policy metadata
+ include_attempt_count_in_response request_mirror_policies
- virtual_clusters include_is_timeout_retry_header per_request_buffer_limit_bytes
- request_body_buffer_limit
envoy.config.route.v3.Route
+ name match route redirect direct_response metadata typed_per_filter_config request_headers_to_add
+ request_headers_to_remove response_headers_to_add response_headers_to_remove
- decorator tracing per_request_buffer_limit_bytes stat_prefix request_body_buffer_limit
envoy.config.route.v3.RouteMatch
+ prefix path safe_regex connect_matcher path_separated_prefix case_sensitive runtime_fraction headers query_parameters
+ grpc
envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions
+
envoy.config.route.v3.RouteMatch.ConnectMatcher
+
envoy.config.route.v3.HeaderMatcher
+ name exact_match safe_regex_match range_match present_match prefix_match suffix_match contains_match string_match
+ invert_match treat_missing_header_as_empty
envoy.config.route.v3.QueryParameterMatcher
+ name string_match present_match
envoy.config.route.v3.RouteAction
+ cluster weighted_clusters prefix_rewrite regex_rewrite host_rewrite_literal auto_host_rewrite timeout idle_timeout
+ retry_policy upgrade_configs max_stream_duration cluster_not_found_response_code append_x_forwarded_host hash_policy
+ max_grpc_timeout grpc_timeout_offset request_mirror_policies metadata_match priority
- flush_timeout early_data_policy
envoy.config.route.v3.RouteAction.MaxStreamDuration
+ max_stream_duration grpc_timeout_header_max grpc_timeout_header_offset
envoy.config.route.v3.RouteAction.RequestMirrorPolicy
+ cluster runtime_fraction disable_shadow_host_suffix_append
- trace_sampled
envoy.config.route.v3.RouteAction.HashPolicy
+ header cookie connection_properties query_parameter terminal
envoy.config.route.v3.RouteAction.HashPolicy.Header
+ header_name regex_rewrite
envoy.config.route.v3.RouteAction.HashPolicy.Cookie
+ name ttl path attributes
envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute
+ name value
envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties
+ source_ip
envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter
+ name
envoy.config.route.v3.RouteAction.UpgradeConfig
+ upgrade_type enabled
envoy.config.route.v3.WeightedCluster
+ clusters total_weight
- runtime_key_prefix
envoy.config.route.v3.WeightedCluster.ClusterWeight
+ name weight request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove
+ typed_per_filter_config host_rewrite_literal metadata_match
envoy.config.route.v3.RetryPolicy
+ retry_on num_retries per_try_timeout retry_host_predicate host_selection_retry_max_attempts retriable_status_codes retry_back_off
+ retriable_headers retriable_request_headers rate_limited_retry_back_off retry_priority
envoy.config.route.v3.RetryPolicy.RetryPriority
+ name typed_config
envoy.config.route.v3.RetryPolicy.RateLimitedRetryBackOff
+ reset_headers max_interval
envoy.config.route.v3.RetryPolicy.ResetHeader
+ name format
envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig
+ update_frequency
envoy.config.route.v3.RetryPolicy.RetryHostPredicate
+ name typed_config
envoy.config.route.v3.RetryPolicy.RetryBackOff
+ base_interval max_interval
envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate
+
envoy.config.route.v3.RedirectAction
+ https_redirect scheme_redirect host_redirect port_redirect path_redirect prefix_rewrite regex_rewrite response_code strip_query
envoy.config.route.v3.DirectResponseAction
+ status body
`

const sharedFields = `
envoy.config.core.v3.Address
+ socket_address
envoy.config.core.v3.SocketAddress
+ protocol address port_value ipv4_compat
envoy.config.core.v3.CidrRange
+ address_prefix prefix_len
envoy.config.core.v3.ConfigSource
+ ads self
- initial_fetch_timeout resource_api_version
envoy.config.core.v3.AggregatedConfigSource
+
envoy.config.core.v3.SelfConfigSource
- transport_api_version
envoy.config.core.v3.Metadata
+ filter_metadata
- typed_filter_metadata
envoy.config.core.v3.HeaderValueOption
+ header append append_action keep_empty_value
envoy.config.core.v3.HeaderValue
+ key value raw_value
envoy.config.core.v3.DataSource
+ filename inline_bytes inline_string
- watched_directory
envoy.config.core.v3.TransportSocket
+ name typed_config
envoy.config.core.v3.RuntimeFractionalPercent
+ default_value
- runtime_key
envoy.config.core.v3.RuntimeUInt32
+ default_value
- runtime_key
envoy.type.v3.FractionalPercent
+ numerator denominator
envoy.type.v3.Percent
+ value
envoy.type.v3.Int32Range
+ start end
envoy.type.v3.Int64Range
+ start end
envoy.type.matcher.v3.StringMatcher
+ exact prefix suffix safe_regex contains ignore_case
envoy.type.matcher.v3.RegexMatcher
+ regex
- google_re2
envoy.type.matcher.v3.RegexMatchAndSubstitute
+ pattern substitution
`
