package faults

import (
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
	"hubspot-auth-proxy/tokens/redistest"
)

func clusterFaults(*testing.T) []fault {
	return []fault{
		{"Redis Cluster: the slot of a portal is moved to another node; HubSpot rotates", tryMovedSlot},
		{"`REDIS_URL` names a Redis Cluster without `addr=`", tryClusterWithoutAddr},
	}
}

func tryMovedSlot(t *testing.T) outcome {
	s := newStage(t)
	s.hub.SetToken(hubspottest.TokenBehaviour{Life: short, Rotate: true})
	cluster := redistest.StartCluster(t)
	for range 2 {
		s.start(cluster[0].URL() + "?addr=" + cluster[1].Addr)
	}
	l := s.load()
	began, before := time.Now(), s.calls()
	// The portal is renewed in the middle of the move, when the record is still at
	// the old node and a new lock would be at the new one. It is renewed again
	// after the move, which the processes do not know of yet.
	cluster.MoveSlot(cluster.SlotOf("hubspot:portal:{"+first+"}"), func() { s.renewed(1) })
	s.renewed(1)
	calls, lasted := s.calls()-before, time.Since(began)
	if most := len(granted) * (int(lasted/(short*3/4)) + 2); calls > most {
		t.Errorf("%d token calls in %v, more than %d", calls, lasted, most)
	}
	o := outcome{hubspot: "one token call per portal and expiry", recovery: s.wantRecovery(l, 5*time.Second)}
	results := l.stop()
	o.client = wantKinds(t, results, "200")
	wantAnswersWithin(t, results, usualWait)
	s.wantNothingLost()
	return o
}
