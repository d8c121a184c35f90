package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubspot-auth-proxy/proxy"
)

// updating is a TLS server's side of a connection that can ask for another key
// (RFC 8446 section 4.6.3), which crypto/tls cannot. It encrypts what it writes
// itself, by TLS_AES_128_GCM_SHA256.
type updating struct {
	to     io.Writer // below TLS
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	number uint64 // of the next record
}

// newUpdating takes the writing over from a connection whose handshake is over,
// which has written nothing yet.
func newUpdating(conn *tls.Conn, keyLog string) *updating {
	_, line, _ := strings.Cut(keyLog, "SERVER_TRAFFIC_SECRET_0 ")
	secret, _ := hex.DecodeString(strings.Fields(line)[1])
	u := &updating{to: conn.NetConn()}
	u.use(secret)
	return u
}

func (u *updating) use(secret []byte) {
	block, err := aes.NewCipher(expandLabel(secret, "key", 16))
	if err != nil {
		panic(err) // of the test's own
	}
	u.aead, _ = cipher.NewGCM(block)
	u.secret, u.iv, u.number = secret, expandLabel(secret, "iv", 12), 0
}

// expandLabel is HKDF-Expand-Label with no context (RFC 8446 section 7.1).
func expandLabel(secret []byte, label string, length int) []byte {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(length))
	info = append(info, byte(len(label)))
	info = append(append(info, label...), 0)
	out, err := hkdf.Expand(sha256.New, secret, string(info), length)
	if err != nil {
		panic(err) // of the test's own
	}
	return out
}

// record returns an encrypted record (RFC 8446 section 5.2).
func (u *updating) record(kind byte, content []byte) []byte {
	inner := append(bytes.Clone(content), kind)
	header := []byte{23, 3, 3}
	header = binary.BigEndian.AppendUint16(header, uint16(len(inner)+u.aead.Overhead()))
	nonce := bytes.Clone(u.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(u.number >> (56 - 8*i))
	}
	u.number++
	return u.aead.Seal(header, nonce, inner, header)
}

// update asks for another key, and changes its own.
func (u *updating) update() {
	_, _ = u.to.Write(u.record(22, []byte{24, 0, 0, 1, 1}))
	u.use(expandLabel(u.secret, "traffic upd", len(u.secret)))
}

// Write implements io.Writer, for application data.
func (u *updating) Write(p []byte) (int, error) {
	_, err := u.to.Write(u.record(23, p))
	return len(p), err
}

// The answer to a KeyUpdate is written by the goroutine that reads, while another goroutine
// is about to end the upload.
func TestManyKeyUpdatesDuringUploadsLoseNothing(t *testing.T) {
	set := keyUpdating(t)
	r := startRig(t, func(o *proxy.Options) { set(o); o.RetryBodyLimit = 0 })
	data := bytesOf(4_000, 0)
	want := sum(data)
	together(t, volume(10_000, 500), 8, func(int) error {
		answer, err := r.exchange(r.request("POST", "/a", bytes.NewReader(data)))
		if err == nil && (answer.StatusCode != http.StatusOK || string(answer.body) != want) {
			err = fmt.Errorf("status %d %.100s", answer.StatusCode, answer.body)
		}
		return err
	})
}

// keyUpdating is an upstream that asks for other keys while it reads a body.
func keyUpdating(t *testing.T) func(*proxy.Options) {
	return byHandBelowTLS(t, func(below net.Conn, config *tls.Config) {
		var keys bytes.Buffer
		config = config.Clone()
		config.SessionTicketsDisabled, config.KeyLogWriter, config.MinVersion = true, &keys, tls.VersionTLS13
		conn := tls.Server(below, config)
		if err := conn.Handshake(); err != nil {
			return
		}
		from, to := bufio.NewReaderSize(conn, 64<<10), newUpdating(conn, keys.String())
		var writing sync.Mutex
		var asked atomic.Int64 // since the last answer
		over := make(chan struct{})
		defer close(over)
		go func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				case <-time.After(time.Duration(i%8) * 5 * time.Microsecond):
				}
				if asked.Add(1) <= 7 { // crypto/tls takes no more than 16 in a row
					writing.Lock()
					to.update()
					writing.Unlock()
				}
			}
		}()
		for {
			request, err := http.ReadRequest(from)
			if err != nil {
				return
			}
			body, err := io.ReadAll(request.Body)
			if err != nil {
				return
			}
			writing.Lock()
			_, _ = fmt.Fprintf(to, "HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n%s", sum(body))
			asked.Store(0)
			writing.Unlock()
		}
	})
}
