package http1

import "strconv"

// AppendField appends "name: value CRLF".
func AppendField(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// AppendLength appends a Content-Length field.
func AppendLength(dst []byte, n int64) []byte {
	dst = append(dst, "content-length: "...)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "\r\n"...)
}

// AppendRequestLine appends the request line of an HTTP/1.1 request.
func AppendRequestLine(dst []byte, method, target string) []byte {
	dst = append(dst, method...)
	dst = append(dst, ' ')
	dst = append(dst, target...)
	return append(dst, " HTTP/1.1\r\n"...)
}

// AppendStatusLine appends the status line of an HTTP/1.1 response. An empty reason
// becomes the registered one.
func AppendStatusLine(dst []byte, status int, reason string) []byte {
	if status == 200 && (reason == "" || reason == "OK") {
		return append(dst, "HTTP/1.1 200 OK\r\n"...)
	}
	if reason == "" {
		reason = StatusText(status)
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, reason...)
	return append(dst, "\r\n"...)
}

// ChunkOverhead is the most that AppendChunkHead and the CRLF after the data add.
const ChunkOverhead = 16 + 4

// AppendChunkHead appends the size line of a chunk of n bytes; n must not be 0.
// The data and CRLF follow.
func AppendChunkHead(dst []byte, n int) []byte {
	dst = strconv.AppendInt(dst, int64(n), 16)
	return append(dst, "\r\n"...)
}

// AppendChunkEnd appends the last chunk and the trailers, which may be nil.
func AppendChunkEnd(dst []byte, trailers *Fields) []byte {
	dst = append(dst, "0\r\n"...)
	if trailers != nil {
		dst = trailers.Append(dst)
	}
	return append(dst, "\r\n"...)
}

// StatusText is the registered reason phrase, or "".
func StatusText(status int) string {
	for i := range statusTexts {
		if statusTexts[i].code == status {
			return statusTexts[i].text
		}
	}
	return ""
}

var statusTexts = [...]struct {
	code int
	text string
}{
	{200, "OK"}, {204, "No Content"}, {206, "Partial Content"}, {301, "Moved Permanently"}, {302, "Found"},
	{303, "See Other"}, {304, "Not Modified"}, {307, "Temporary Redirect"}, {308, "Permanent Redirect"},
	{400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"},
	{405, "Method Not Allowed"}, {408, "Request Timeout"}, {409, "Conflict"}, {410, "Gone"},
	{413, "Content Too Large"}, {414, "URI Too Long"}, {417, "Expectation Failed"}, {421, "Misdirected Request"},
	{422, "Unprocessable Content"}, {426, "Upgrade Required"}, {429, "Too Many Requests"},
	{431, "Request Header Fields Too Large"}, {500, "Internal Server Error"}, {501, "Not Implemented"},
	{502, "Bad Gateway"}, {503, "Service Unavailable"}, {504, "Gateway Timeout"},
	{505, "HTTP Version Not Supported"}, {100, "Continue"}, {101, "Switching Protocols"}, {103, "Early Hints"},
	{201, "Created"}, {202, "Accepted"}, {418, "I'm a teapot"},
}
