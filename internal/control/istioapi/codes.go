package istioapi

// The codes of problems. They are stable: scripts may compare them.
const (
	// CodeSyntax: the text is not YAML (or JSON).
	CodeSyntax = "yaml_syntax"
	// CodeTooLarge: over a limit on size, nesting or alias expansion.
	CodeTooLarge = "too_large"
	// CodeNotAnObject: a document that is not a Kubernetes object.
	CodeNotAnObject = "not_an_object"
	// CodeDuplicateKey: a key twice in one mapping, or two names of one field.
	CodeDuplicateKey = "duplicate_key"
	// CodeUnknownKind: no such kind or version in an Istio API group.
	CodeUnknownKind = "unknown_kind"
	// CodeNotUsed: a valid kind or object that Egret does not read.
	CodeNotUsed = "not_used"
	// CodeMissing: a required field is absent.
	CodeMissing = "missing_field"
	// CodeUnknownField: no such field.
	CodeUnknownField = "unknown_field"
	// CodeWrongType: the field's value has the wrong type.
	CodeWrongType = "wrong_type"
	// CodeInvalid: the value is not acceptable.
	CodeInvalid = "invalid_value"
	// CodeInvalidHost: not a host name or wildcard as this field allows.
	CodeInvalidHost = "invalid_host"
	// CodeInvalidAddress: not an IP address or CIDR range.
	CodeInvalidAddress = "invalid_address"
	// CodeInvalidPort: a port number out of range.
	CodeInvalidPort = "invalid_port"
	// CodeDuplicate: a value that must be unique is there twice.
	CodeDuplicate = "duplicate_value"
	// CodeConflict: fields that exclude each other, or need each other.
	CodeConflict = "conflicting_fields"
	// CodeNotImplemented: Istio has it, Egret ignores it; told as a Warning.
	CodeNotImplemented = "not_implemented"
	// CodeNotSupported: Istio has it, and ignoring it would change what is allowed
	// or where bytes go, so the object is refused.
	CodeNotSupported = "not_supported"
	// CodeNoEffect: valid, but it does nothing.
	CodeNoEffect = "no_effect"
	// CodeInsecure: it does what it says, which is less than most want.
	CodeInsecure = "insecure"
	// CodeUnreachableRule: an earlier rule takes everything this rule could match.
	CodeUnreachableRule = "unreachable_rule"
	// CodeDuplicateObject: the same kind, namespace and name twice.
	CodeDuplicateObject = "duplicate_object"
)
