package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"sync"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

func TestARollingRestartFailsNoRequest(t *testing.T) {
	t.Parallel()
	for name, listen := range map[string]func(*testing.T, *balancer) (address string){
		// Like a Service of Kubernetes: a connection stays with its process.
		"connections are balanced": balanceConnections,
		// Like an ingress, which keeps connections to the processes.
		"requests are balanced": balanceRequests,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := redistest.Start(t)
			hub := hubspottest.NewServer()
			defer hub.Close()
			hub.SetToken(hubspottest.TokenBehaviour{Life: 2 * time.Second, Rotate: true})
			settings := append(oauth(hub), "REDIS_URL="+redis.URL(), "SHUTDOWN_DELAY=1s")
			b := newBalancer(t)
			replicas := []*replica{startReplica(t, settings), startReplica(t, settings)}
			b.set(replicas)
			testkit.Eventually(t, "both are ready", func() bool { return b.ready() == 2 })

			callers := newCallers(t, listen(t, b), 20)
			for range 2 {
				for i, old := range replicas {
					old.terminate()
					if status := old.exit(); status != 0 {
						t.Errorf("exit status %d:\n%s", status, old.stderr.String())
					}
					replicas[i] = startReplica(t, settings)
					b.set(replicas)
					testkit.Eventually(t, "both are ready again", func() bool { return b.ready() == 2 })
				}
			}
			succeeded, failed := callers.stop()
			if len(failed) > 0 {
				t.Errorf("%d of %d requests failed: %q", len(failed), succeeded+len(failed), failed[:min(5, len(failed))])
			}
			if accepted := hub.Requests() - hub.Unauthorized(); accepted != succeeded {
				t.Errorf("HubSpot has accepted %d requests, of %d", accepted, succeeded)
			}
			if renewals := hub.TokenCalls("62515"); renewals < 2 || succeeded < 500 {
				t.Errorf("there were %d renewals and %d requests only", renewals, succeeded)
			}
			t.Logf("%d requests, %d renewals", succeeded, hub.TokenCalls("62515"))
		})
	}
}

// A replica is a process behind a balancer.
type replica struct {
	*process
	listen, admin string
}

// startReplica starts a replica, and does not wait until it is ready.
func startReplica(t *testing.T, settings []string) *replica {
	t.Helper()
	r := &replica{listen: freePort(t), admin: freePort(t)}
	r.process = launch(t, "serve", append(slices.Clone(settings), "LISTEN_ADDR="+r.listen, "ADMIN_ADDR="+r.admin)...)
	return r
}

// A balancer polls its replicas, and sends requests to those that are ready.
type balancer struct {
	mu       sync.Mutex
	replicas []*replica
	able     []string // addresses of the replicas that are ready
	next     int
}

func newBalancer(t *testing.T) *balancer {
	b := &balancer{}
	ctx, end := context.WithCancel(context.Background())
	var probing sync.WaitGroup
	probing.Go(func() {
		for ctx.Err() == nil {
			b.probe()
			<-time.After(50 * time.Millisecond)
		}
	})
	t.Cleanup(func() {
		end()
		probing.Wait()
	})
	return b
}

func (b *balancer) set(replicas []*replica) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replicas = slices.Clone(replicas)
}

func (b *balancer) probe() {
	b.mu.Lock()
	replicas := b.replicas
	b.mu.Unlock()
	var able []string
	for _, r := range replicas {
		if isReady(r.admin) {
			able = append(able, r.listen)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.able = able
}

func isReady(admin string) bool {
	response, err := http.Get("http://" + admin + "/readyz")
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func (b *balancer) ready() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.able)
}

// dial connects to the next replica that is ready.
func (b *balancer) dial(ctx context.Context) (net.Conn, error) {
	address, err := b.pick()
	if err != nil {
		return nil, err
	}
	return dialFar(ctx, address)
}

func (b *balancer) pick() (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.able) == 0 {
		return "", errors.New("none is ready")
	}
	b.next++
	return b.able[b.next%len(b.able)], nil
}

func dialFar(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &farConn{conn.(*net.TCPConn)}, nil
}

// A farConn is a connection with a delay for sent bytes, like one between machines.
type farConn struct{ *net.TCPConn }

func (c *farConn) Write(p []byte) (int, error) {
	<-time.After(5 * time.Millisecond)
	return c.TCPConn.Write(p)
}

// ReadFrom makes io.Copy use Write.
func (c *farConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}

// balanceConnections forwards each connection to a replica.
func balanceConnections(t *testing.T, b *balancer) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		work.Wait()
	})
	work.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() { b.join(client.(*net.TCPConn)) })
		}
	})
	return listener.Addr().String()
}

// join copies in both directions, and passes on the end of each.
func (b *balancer) join(client *net.TCPConn) {
	defer client.Close()
	server, err := b.dial(context.Background())
	if err != nil {
		return
	}
	defer server.Close()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.(*farConn).CloseWrite()
	})
	_, _ = io.Copy(client, server)
	_ = client.CloseWrite()
	up.Wait()
}

// balanceRequests forwards each request to a replica. A request that cannot be forwarded is a
// failure, unless http.Transport itself sends it again.
func balanceRequests(t *testing.T, b *balancer) string {
	transport := &http.Transport{MaxIdleConnsPerHost: 100, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return dialFar(ctx, address)
	}}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme = "http"
			r.Out.URL.Host, _ = b.pick()
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	})
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.Listener.Addr().String()
}

// callers are clients that keep their connections open, and send no request twice.
type callers struct {
	end  context.CancelFunc
	work sync.WaitGroup

	mu        sync.Mutex
	succeeded int
	failed    []string
}

func newCallers(t *testing.T, address string, count int) *callers {
	c := &callers{}
	ctx, end := context.WithCancel(context.Background())
	c.end = end
	t.Cleanup(func() { c.stop() })
	for number := range count {
		c.work.Go(func() {
			k := &keptConn{address: address}
			defer k.close()
			for i := 0; ctx.Err() == nil; i++ {
				err := k.exchange(fmt.Sprintf("%d-%d", number, i), i%2 == 0)
				c.note(err)
				<-time.After(5 * time.Millisecond)
			}
		})
	}
	return c
}

func (c *callers) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.succeeded++
		return
	}
	c.failed = append(c.failed, err.Error())
}

func (c *callers) stop() (succeeded int, failed []string) {
	c.end()
	c.work.Wait()
	return c.succeeded, c.failed
}

// A keptConn is a client's connection, which is opened again when it has been closed.
type keptConn struct {
	address string
	conn    net.Conn
	reader  *bufio.Reader
}

func (k *keptConn) close() {
	if k.conn != nil {
		_ = k.conn.Close()
		k.conn = nil
	}
}

// open makes sure that there is a connection that is not known to be closed.
func (k *keptConn) open() error {
	if k.conn != nil {
		_ = k.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := k.reader.Peek(1); !isTimeout(err) {
			k.close()
		}
	}
	if k.conn == nil {
		conn, err := net.Dial("tcp", k.address)
		if err != nil {
			return err
		}
		k.conn, k.reader = conn, bufio.NewReader(conn)
	}
	return k.conn.SetDeadline(time.Now().Add(15 * time.Second))
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// exchange sends a request, and checks the answer.
func (k *keptConn) exchange(id string, post bool) error {
	if err := k.open(); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	method, body := http.MethodGet, []byte(nil)
	if post {
		method, body = http.MethodPost, bytes.Repeat([]byte(id+","), 100)
	}
	request, err := http.NewRequest(method, "http://"+k.address+"/crm/v3/objects/contacts/"+id, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			k.close()
		}
	}()
	if err = request.Write(k.conn); err != nil {
		return fmt.Errorf("%s %s: send: %w", method, id, err)
	}
	response, err := http.ReadResponse(k.reader, request)
	if err != nil {
		return fmt.Errorf("%s %s: receive: %w", method, id, err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("%s %s: receive the body: %w", method, id, err)
	}
	if response.Close {
		k.close()
	}
	return k.check(method, id, body, response.StatusCode, text)
}

// check compares HubSpot's echo with the request.
func (k *keptConn) check(method, id string, body []byte, status int, text []byte) error {
	echo, err := hubspottest.DecodeEcho(bytes.NewReader(text))
	if status != http.StatusOK || err != nil || echo.Method != method || echo.Target != "/crm/v3/objects/contacts/"+id ||
		echo.Portal != "62515" || echo.BodySHA256 != fmt.Sprintf("%x", sha256.Sum256(body)) {
		return fmt.Errorf("%s %s: status %d, %.200s", method, id, status, text)
	}
	return nil
}
