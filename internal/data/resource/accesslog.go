package resource

//lint:file-ignore SA1019 Deprecated fields are read because control planes still send them.

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	fileaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	streamaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"

	"github.com/egret-mesh/egret/internal/format"
)

const (
	typeFileLog   = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
	typeStdoutLog = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
	typeStderrLog = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog"
)

// accessLog decodes a log to a file or stream. Logs to a service are left out:
// they change nothing that is allowed, and the proxy's own record stays.
func (c *decoding) accessLog(p *path, m *accesslogv3.AccessLog) (AccessLog, bool) {
	l := AccessLog{}
	at := p.field("typed_config")
	a := m.GetTypedConfig()
	switch typeName(a.GetTypeUrl()) {
	case typeFileLog:
		var f fileaccesslogv3.FileAccessLog
		if !c.unpack(at, a, &f) {
			return l, false
		}
		c.fileLog(at, &l, &f)
	case typeStdoutLog:
		var f streamaccesslogv3.StdoutAccessLog
		if !c.unpack(at, a, &f) {
			return l, false
		}
		l.Path = "/dev/stdout"
		c.logFormat(at.field("log_format"), &l, f.GetLogFormat())
	case typeStderrLog:
		var f streamaccesslogv3.StderrAccessLog
		if !c.unpack(at, a, &f) {
			return l, false
		}
		l.Path = "/dev/stderr"
		c.logFormat(at.field("log_format"), &l, f.GetLogFormat())
	default:
		c.skipped(string(typeName(a.GetTypeUrl())))
		return l, false
	}
	c.checkFormat(at, &l)
	if m.GetFilter() != nil {
		l.Filter = c.logFilter(p.field("filter"), m.GetFilter())
	}
	return l, true
}

// checkFormat refuses what Envoy would refuse, and the commands that Egret does not have.
func (c *decoding) checkFormat(p *path, l *AccessLog) {
	var err error
	if l.JSON != nil {
		err = format.CheckJSON(l.JSON)
	} else {
		_, err = format.Parse(l.Text)
	}
	if err != nil {
		c.fail(p, "access log format: %w", err)
	}
}

func (c *decoding) fileLog(p *path, l *AccessLog, f *fileaccesslogv3.FileAccessLog) {
	l.Path = f.GetPath()
	if l.Path == "" {
		c.fail(p.field("path"), "a file access log needs a path")
	}
	switch written := f.GetAccessLogFormat().(type) {
	case *fileaccesslogv3.FileAccessLog_Format:
		l.Text = written.Format
	case *fileaccesslogv3.FileAccessLog_JsonFormat:
		l.JSON = written.JsonFormat.AsMap()
	case *fileaccesslogv3.FileAccessLog_TypedJsonFormat:
		l.JSON = written.TypedJsonFormat.AsMap()
	case *fileaccesslogv3.FileAccessLog_LogFormat:
		c.logFormat(p.field("log_format"), l, written.LogFormat)
	}
}

// logFormat leaves Text "" for Envoy's default format.
func (c *decoding) logFormat(p *path, l *AccessLog, f *corev3.SubstitutionFormatString) {
	l.OmitEmpty = f.GetOmitEmptyValues()
	switch written := f.GetFormat().(type) {
	case *corev3.SubstitutionFormatString_TextFormat:
		l.Text = written.TextFormat
	case *corev3.SubstitutionFormatString_JsonFormat:
		l.JSON = written.JsonFormat.AsMap()
	case *corev3.SubstitutionFormatString_TextFormatSource:
		l.Text = string(c.inlineData(p.field("text_format_source"), written.TextFormatSource))
	}
}

// inlineData is data that the resource itself carries. Files and environment
// variables are refused: decoding opens nothing.
func (c *decoding) inlineData(p *path, d *corev3.DataSource) []byte {
	switch s := d.GetSpecifier().(type) {
	case *corev3.DataSource_InlineString:
		return []byte(s.InlineString)
	case *corev3.DataSource_InlineBytes:
		return s.InlineBytes
	case nil:
		return nil
	}
	c.fail(p, "only inline data is supported here")
	return nil
}
