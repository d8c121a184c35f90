package faults

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
	"hubspot-auth-proxy/tokens/testkit"
)

// ready returns the status and the body of the replica's /readyz.
func (r *replica) ready() (status int, body string) {
	r.t.Helper()
	got := send(plain, &replica{Program: &testkit.Program{Address: r.Admin}, t: r.t}, http.MethodGet, "/readyz")
	if got.err != nil {
		r.t.Fatal(got.err)
	}
	return got.status, got.body
}

// wantReady checks that /readyz of the replica has that status and text.
func wantReady(t *testing.T, r *replica, status int, text string) {
	t.Helper()
	if got, body := r.ready(); got != status || !strings.Contains(body, text) {
		t.Errorf("/readyz answers %d %s, want %d and %s", got, body, status, text)
	}
}

// The process serves the static credentials of the seed file until Redis answers.
func tryUnreachableAtStart(t *testing.T) outcome {
	s := newStage(t)
	redis := s.startTwo(redistest.Persist())
	redis.Kill()
	for _, r := range s.replicas {
		r.Kill()
	}
	r := launchBy(t, testkit.LaunchWithoutRedis, append(slices.Clone(s.settings), "REDIS_URL="+redis.URL()))
	s.replicas = []*replica{r}
	wantReady(t, r, http.StatusServiceUnavailable, `"redis":"awaited"`)
	var results []result
	for _, portal := range portals {
		got := s.write(r, portal)
		results = append(results, got)
		if isStatic := !slices.Contains(granted, portal); isStatic != got.served() {
			t.Errorf("portal %s is answered %s", portal, got.kind())
		}
	}
	wantKinds(t, results, "200", "503 `CREDENTIAL_UNAVAILABLE`")
	wantAnswersWithin(t, results, time.Second)
	s.wantUnseen(results)
	redis.Restart()
	o := outcome{
		client:   "200 for static credentials of the seed file; 503 `CREDENTIAL_UNAVAILABLE`, at once, for other portals; `/readyz` is 503",
		hubspot:  "no token call",
		recovery: s.servedWithin(10*time.Second, first),
	}
	testkit.Within(t, 10*time.Second, "/readyz is 200", func() bool { status, _ := r.ready(); return status == http.StatusOK })
	s.wantNothingLost()
	return o
}

func tryNoChannel(t *testing.T) outcome {
	s := newStage(t)
	redis := s.startTwo(redistest.Without("&hubspot:*"))
	for _, r := range s.replicas {
		wantPrinted(t, r, `"missing":["&hubspot:*"]`)
		wantReady(t, r, http.StatusOK, `"redis_changes":"polled`)
	}
	s.command(redis, "", "portal", "remove", first)
	removed := time.Now()
	s.waitForStatus(http.StatusForbidden, first, s.replicas...)
	wantWithin(t, removed, 10*time.Second)
	s.connect(redis)
	o := outcome{
		client:   "for up to 10 s, answers as before a change by another process or a command; the log names the missing right, and `/readyz` says that changes are polled for",
		hubspot:  "for up to 10 s, calls for a portal that was removed",
		recovery: s.servedWithin(10*time.Second, first) + " after each change",
	}
	s.wantNothingLost()
	return o
}

func tryNewerRecord(t *testing.T) outcome {
	s := newStage(t)
	redis := s.startTwo()
	record := "hubspot:portal:{" + static + "}"
	redis.Do("HSET", record, "schema", "2")
	s.restart()
	for _, r := range s.replicas {
		if got := s.write(r, static); got.kind() != "503 `CREDENTIAL_UNAVAILABLE`" {
			t.Errorf("the portal is answered %s %s", got.kind(), got.body)
		}
		s.wantServed(r, first, "beside a newer record")
	}
	if shown := s.command(redis, "", "portal", "show", static); !strings.Contains(shown, `schema "2", of a newer version`) {
		t.Errorf("portal show: %s", shown)
	}
	const token = "pat-na1-" + hubspottest.Canary
	for _, args := range [][]string{{"portal", "set", static, "access_token"}, {"portal", "remove", static}} {
		if printed, err := s.tryCommand(redis, token, nil, args...); err == nil || !strings.Contains(printed, "newer version") {
			t.Errorf("%q: %v %s", args, err, printed)
		}
	}
	if schema := redis.Do("HGET", record, "schema"); schema != "2" {
		t.Errorf("the record has schema %s", schema)
	}
	s.command(redis, token, "portal", "set", static, "access_token", "--force")
	o := outcome{
		client:   "503 `CREDENTIAL_UNAVAILABLE` for that portal, 200 for the others; `portal show` names the version, and neither commands nor the seed file replace the record",
		hubspot:  "nothing for that portal",
		recovery: s.servedWithin(10*time.Second, static) + " after `portal set --force`, or with the newer version",
	}
	s.wantNothingLost()
	return o
}

// Another host of the Cluster has the keys, so that the process can do nothing.
func tryClusterWithoutAddr(t *testing.T) outcome {
	s := newStage(t)
	cluster := redistest.StartCluster(t)
	r := launchBy(t, testkit.LaunchWithoutRedis, append(slices.Clone(s.settings), "REDIS_URL="+cluster[0].URL()))
	r.Printed.Until(t, "this is a Redis Cluster, so add addr= with another of its hosts to REDIS_URL")
	wantReady(t, r, http.StatusServiceUnavailable, `"redis":"awaited"`)
	got := s.write(r, first)
	wantKinds(t, []result{got}, "503 `CREDENTIAL_UNAVAILABLE`")
	s.wantUnseen([]result{got})
	r.Kill()
	began := time.Now()
	s.start(cluster[0].URL() + "?addr=" + cluster[1].Addr)
	wantKinds(t, []result{s.write(s.replicas[0], first)}, "200")
	o := outcome{
		client: "503 `CREDENTIAL_UNAVAILABLE`, except for static credentials of the seed file; the log says that this is a Cluster, and what to write", hubspot: "no token call",
		recovery: wantWithin(t, began, 10*time.Second) + " with `addr=`",
	}
	s.wantNothingLost()
	return o
}
