package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// hidden is a request that is hidden behind another one's end. Its key could
// have another portal's credential.
const hidden = "GET /hidden HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {all}\r\nX-HubSpot-Portal-Id: 62516\r\nConnection: close\r\n\r\n"

// answers sends bytes on one connection, in which {name} stands for the key of
// that client, and returns its answers: each the status, and of what reached
// HubSpot the method, target, portal, and bytes of the body.
func (c keyedRig) answers(sent string) (answers []string) {
	c.t.Helper()
	for name, key := range c.key {
		sent = strings.ReplaceAll(sent, "{"+name+"}", key)
	}
	conn := c.raw(sent)
	defer conn.Close()
	from := reading(conn)
	for {
		if _, err := from.Peek(1); err != nil {
			return answers
		}
		got := receive(c.t, from, http.MethodGet)
		c.noKey("an answer", fmt.Sprint(got.Header, got.text))
		answer := fmt.Sprint(got.StatusCode)
		if echo, err := hubspottest.DecodeEcho(strings.NewReader(got.text)); err == nil && echo.Method != "" {
			answer = fmt.Sprint(got.StatusCode, " ", echo.Method, " ", echo.Target, " ", echo.Portal, " ", echo.BodyBytes)
		}
		answers = append(answers, answer)
		if got.Close {
			_ = conn.(*net.TCPConn).CloseWrite() // the proxy lingers for the rest of a body
		}
	}
}

func TestTheFramingOfABodyIsClearOrRefused(t *testing.T) {
	const (
		chunked = "Transfer-Encoding: chunked\r\n"
		chunks  = "\r\n3\r\nabc\r\n0\r\n\r\n"
		whole   = "200 POST /a 62515 3"
		other   = "200 GET /hidden 62516 0" // on the same connection, by its own right
	)
	c := startKeyed(t)
	var arrived atomic.Int64 // hidden requests, at HubSpot
	own := int64(0)          // of these, the ones on a connection that goes on, by their own right
	c.hub.Observe(func(e hubspottest.Echo) {
		if strings.HasSuffix(e.Target, "/hidden") {
			arrived.Add(1)
		}
	})
	for name, test := range map[string]struct {
		sent string
		want []string
	}{
		// Which framing there is.
		"the same length twice":                  {"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", []string{whole, other}},
		"a list of the same lengths":             {"Content-Length: 3, 3\r\n\r\nabc", []string{"400"}},
		"a longer length first":                  {"Content-Length: 999\r\nContent-Length: 3\r\n\r\nabc", []string{"400"}},
		"a shorter length first":                 {"Content-Length: 0\r\nContent-Length: 3\r\n\r\nabc", []string{"400"}},
		"no length":                              {"Content-Length:\r\n\r\n", []string{"400"}},
		"a negative length":                      {"Content-Length: -1\r\n\r\n", []string{"400"}},
		"a length in hex":                        {"Content-Length: 0x3\r\n\r\nabc", []string{"400"}},
		"a length with an underscore":            {"Content-Length: 1_0\r\n\r\nabc", []string{"400"}},
		"a length that overflows":                {"Content-Length: 18446744073709551619\r\n\r\nabc", []string{"400"}},
		"a length with zeros before":             {"Content-Length: 0003\r\n\r\nabc", []string{whole, other}},
		"a length between a tab and a space":     {"Content-Length:\t3 \r\n\r\nabc", []string{whole, other}},
		"a length with a space inside":           {"Content-Length: 3 0\r\n\r\nabc", []string{"400"}},
		"a length behind a vertical tab":         {"Content-Length: \v3\r\n\r\nabc", []string{"400"}},
		"a length that is folded":                {"Content-Length:\r\n 3\r\n\r\nabc", []string{whole, other}},
		"a length that is folded into two":       {"Content-Length: 3\r\n 0\r\n\r\nabc", []string{"400"}},
		"a length, in a header of two words":     {"Content Length: 3\r\n\r\nabc", []string{"400"}},
		"a length before a tab and the colon":    {"Content-Length\t: 3\r\n\r\nabc", []string{"400"}},
		"a length with a NUL in its name":        {"Content-\x00Length: 3\r\n\r\nabc", []string{"400"}},
		"chunked and a length":                   {chunked + "Content-Length: 3\r\n" + chunks, []string{whole}},
		"a length and chunked":                   {"Content-Length: 3\r\n" + chunked + chunks, []string{whole}},
		"chunked and two lengths":                {chunked + "Content-Length: 3\r\nContent-Length: 4\r\n" + chunks, []string{"400"}},
		"chunked and a length that is none":      {chunked + "Content-Length: abc\r\n" + chunks, []string{"400"}},
		"chunked twice":                          {chunked + chunked + chunks, []string{"501"}},
		"chunked, identity":                      {"Transfer-Encoding: chunked, identity\r\n" + chunks, []string{"501"}},
		"identity, chunked":                      {"Transfer-Encoding: identity, chunked\r\n" + chunks, []string{"501"}},
		"chunked, chunked":                       {"Transfer-Encoding: chunked, chunked\r\n" + chunks, []string{"501"}},
		"identity":                               {"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", []string{"501"}},
		"no coding":                              {"Transfer-Encoding:\r\nContent-Length: 3\r\n\r\nabc", []string{"501"}},
		"a comma after chunked":                  {"Transfer-Encoding: chunked,\r\nContent-Length: 3\r\n" + chunks, []string{"501"}},
		"chunked with a parameter":               {"Transfer-Encoding: chunked;a=b\r\nContent-Length: 3\r\n" + chunks, []string{"501"}},
		"chunked in quotes":                      {"Transfer-Encoding: \"chunked\"\r\nContent-Length: 3\r\n" + chunks, []string{"501"}},
		"xchunked and a length":                  {"Transfer-Encoding: xchunked\r\nContent-Length: 3\r\n\r\nabc", []string{"501"}},
		"cow":                                    {"Transfer-Encoding: cow\r\nContent-Length: 3\r\n" + chunks, []string{"501"}},
		"CHUNKED":                                {"TRANSFER-ENCODING: CHUNKED\r\n" + chunks, []string{whole}},
		"chunked between tabs":                   {"Transfer-Encoding:\tchunked\t\r\nContent-Length: 3\r\n" + chunks, []string{whole}},
		"chunked behind a vertical tab":          {"Transfer-Encoding: \vchunked\r\nContent-Length: 3\r\n" + chunks, []string{"400"}},
		"chunked before a NUL":                   {"Transfer-Encoding: chunked\x00\r\nContent-Length: 3\r\n" + chunks, []string{"400"}},
		"chunked behind a no-break space":        {"Transfer-Encoding: \u00a0chunked\r\nContent-Length: 3\r\n" + chunks, []string{"501"}},
		"chunked that is folded":                 {"Transfer-Encoding:\r\n chunked\r\nContent-Length: 3\r\n" + chunks, []string{whole}},
		"chunked folded into another":            {"X-A: b\r\n Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", []string{whole, other}},
		"chunked folded behind a tab":            {"X-A: b\r\n\tTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", []string{whole, other}},
		"chunked behind a bare LF":               {"X-A: b\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n" + chunks, []string{whole}},
		"chunked behind a bare CR":               {"X-A: b\rTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", []string{"400"}},
		"chunked before a space and the colon":   {"Transfer-Encoding : chunked\r\nContent-Length: 3\r\n\r\nabc", []string{"400"}},
		"chunked before a tab and the colon":     {"Transfer-Encoding\t: chunked\r\nContent-Length: 3\r\n\r\nabc", []string{"400"}},
		"chunked folded into the key":            {" Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", []string{"401"}},
		"a header that ends at a bare LF":        {"Content-Length: 3\n\nabc", []string{whole, other}},
		"a header that ends at LF CR LF":         {"Content-Length: 3\n\r\nabc", []string{whole, other}},
		"a header with CR CR LF":                 {"Content-Length: 3\r\r\n\r\nabc", []string{"400"}},
		"a line without a colon":                 {"Content-Length: 3\r\nX-A\r\n\r\nabc", []string{"400"}},
		"a line without a name":                  {"Content-Length: 3\r\n: b\r\n\r\nabc", []string{"400"}},
		"Connection names the framing, length":   {"Connection: Content-Length\r\nContent-Length: 3\r\n\r\nabc", []string{whole, other}},
		"Connection names the framing, chunked":  {"Connection: Transfer-Encoding\r\n" + chunked + chunks, []string{whole}},
		"Connection names authority and portal":  {"Connection: Authorization, X-HubSpot-Portal-Id\r\nX-HubSpot-Portal-Id: 62515\r\nContent-Length: 3\r\n\r\nabc", []string{whole, other}},
		"Connection names another's portal":      {"Connection: Authorization, X-HubSpot-Portal-Id\r\nX-HubSpot-Portal-Id: 62516\r\nContent-Length: 3\r\n\r\nabc", []string{"403"}},
		"Connection names the debug header":      {"Connection: X-Hubspot-Auth-Proxy-Debug\r\nX-Hubspot-Auth-Proxy-Debug: 1\r\nContent-Length: 3\r\n\r\nabc", []string{whole, other}},
		"a name that would be ours for a CGI":    {"Transfer_Encoding: chunked\r\nX_HubSpot_Portal_Id: 62516\r\nContent-Length: 3\r\n\r\nabc", []string{whole, other}},
		"Trailer names what frames and lets in":  {chunked + "Trailer: X-A, Authorization\r\n" + "\r\n3\r\nabc\r\n0\r\nAuthorization: Bearer {all}\r\nX-HubSpot-Portal-Id: 62516\r\n\r\n", []string{whole}},
		"Trailer names what no trailer may have": {chunked + "Trailer: Content-Length\r\n" + chunks, []string{"400"}},
		"trailers that would frame":              {chunked + "\r\n3\r\nabc\r\n0\r\nContent-Length: 999\r\nTransfer-Encoding: chunked\r\nHost: elsewhere\r\n\r\n", []string{whole}},

		// How chunks are written.
		"an extension":                 {chunked + "\r\n3;a=\"b\"\r\nabc\r\n0;c\r\n\r\n", []string{whole}},
		"a space before an extension":  {chunked + "\r\n3 ;a\r\nabc\r\n0\r\n\r\n", []string{"400"}},
		"a space after a size":         {chunked + "\r\n3 \r\nabc\r\n0\r\n\r\n", []string{whole}},
		"a space before a size":        {chunked + "\r\n 3\r\nabc\r\n0\r\n\r\n", []string{"400"}},
		"a size with zeros before":     {chunked + "\r\n0000000000000003\r\nabc\r\n000\r\n\r\n", []string{whole}},
		"a size with too many zeros":   {chunked + "\r\n00000000000000003\r\nabc\r\n0\r\n\r\n", []string{"400"}},
		"a size with 0x":               {chunked + "\r\n0x3\r\nabc\r\n0\r\n\r\n", []string{"400"}},
		"a signed size":                {chunked + "\r\n+3\r\nabc\r\n0\r\n\r\n", []string{"400"}},
		"a size with an underscore":    {chunked + "\r\n0_3\r\nabc\r\n0\r\n\r\n", []string{"400"}},
		"no size":                      {chunked + "\r\n\r\nabc\r\n0\r\n\r\n", []string{"400"}},
		"no size but an extension":     {chunked + "\r\n;a\r\nabc\r\n0\r\n\r\n", []string{"400"}},
		"a size before a NUL":          {chunked + "\r\n3\x00\r\nabc\r\n0\r\n\r\n", []string{"400"}},
		"a size before a vertical tab": {chunked + "\r\n3\v\r\nabc\r\n0\r\n\r\n", []string{"400"}},
		"a size before a bare LF":      {chunked + "\r\n3\nabc\r\n0\r\n\r\n", []string{"400"}},
		"a size before a bare CR":      {chunked + "\r\n3\rabc\r\n0\r\n\r\n", []string{"400"}},
		"a chunk before a bare LF":     {chunked + "\r\n3\r\nabc\n0\r\n\r\n", []string{"400"}},
		"a chunk without its end":      {chunked + "\r\n3\r\nabc0\r\n\r\n", []string{"400"}},
		"a chunk before more":          {chunked + "\r\n3\r\nabcdef\r\n0\r\n\r\n", []string{"400"}},
		"a bare CR in an extension":    {chunked + "\r\n3;a\rb\r\nabc\r\n0\r\n\r\n", []string{"400"}},
		"a very long extension":        {chunked + "\r\n3;" + strings.Repeat("a", 8<<10) + "\r\nabc\r\n0\r\n\r\n", []string{"400"}},
		"too many extensions":          {chunked + "\r\n" + strings.Repeat("1;"+strings.Repeat("a", 900)+"\r\nx\r\n", 99) + "0\r\n\r\n", []string{"400"}},
		"more after the last chunk":    {chunked + "\r\n3\r\nabc\r\n0\r\n" + "GET /a HTTP/1.1\r\n\r\n", []string{"400"}},
		"no end":                       {chunked + "\r\n3\r\nabc\r\n", []string{"400"}},
		"a folded trailer":             {chunked + "\r\n3\r\nabc\r\n0\r\nX-A: b\r\n Authorization: Bearer x\r\n\r\n", []string{whole}},
		"a very long trailer":          {chunked + "\r\n3\r\nabc\r\n0\r\nX-A: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", []string{"400"}},
	} {
		if slices.Contains(test.want, other) {
			own++
		}
		t.Run(name, func(t *testing.T) {
			got := c.answers("POST /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {one}\r\n" + test.sent + hidden)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if n := arrived.Load(); n != own {
		t.Errorf("HubSpot got %d hidden requests, want %d", n, own)
	}
	if v := c.hub.Violations(); len(v) > 0 {
		t.Error(v)
	}
}

// A chunk of a size that no number of 63 bits can have is waited for, however
// much of it comes.
func TestAChunkOfAnyLengthTakesAllThatFollows(t *testing.T) {
	for _, size := range []string{"ffffffffffffffff", "8000000000000003", "7fffffffffffffff"} {
		c := startKeyed(t)
		c.hub.AllowClientKeys() // the hidden request is in the body, which is forwarded as it is
		text := "POST /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {one}\r\nTransfer-Encoding: chunked\r\n\r\n" + size + "\r\nabc\r\n0\r\n\r\n" + hidden
		conn := c.raw(strings.NewReplacer("{one}", c.key["one"], "{all}", c.key["all"]).Replace(text))
		within(t, c.hub, func() bool { return c.hub.Requests() == 1 })
		_ = conn.(*net.TCPConn).CloseWrite()
		if answer, _ := io.ReadAll(reading(conn)); strings.Contains(string(answer), "200 OK") || c.hub.Requests() != 1 {
			t.Errorf("%s: %d requests, answered %q", size, c.hub.Requests(), answer)
		}
	}
}
