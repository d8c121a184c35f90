package nodesdk_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// crm answers CRM paths as HubSpot does, from a store in memory for each portal. Each store is
// empty at first. It also has a path of its own, with which a client makes its portal's next n
// requests fail with status N: POST /fake/fail-next?n=n&code=N.
type crm struct {
	t   *testing.T
	hub *hubspottest.Server

	mu     sync.Mutex
	stores map[string]*store
}

// serveCRM makes the fake HubSpot answer CRM paths, and those of the OAuth service that only the
// SDK calls.
func serveCRM(t *testing.T, hub *hubspottest.Server) {
	hub.Handle((&crm{t: t, hub: hub, stores: map[string]*store{}}).serve)
}

// store has one portal's objects and files. A request with the credential of another
// portal finds the objects of that portal, so a test notices the wrong credential.
type store struct {
	mux *http.ServeMux // its handlers use this store

	mu           sync.Mutex // guards all below
	lastID       int
	objects      map[string][]*object // by type, in the order of their ids
	associations map[association]bool
	files        map[string]file
	failures     int // how many requests are still to fail
	failure      int // the status of these requests
}

func (c *crm) store(portal string) *store {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.stores[portal]
	if st == nil {
		st = &store{
			mux:          http.NewServeMux(),
			lastID:       100,
			objects:      map[string][]*object{},
			associations: map[association]bool{},
			files:        map[string]file{},
		}
		st.route()
		c.stores[portal] = st
	}
	return st
}

// route registers the handlers. Each handler holds the store's lock, except the one for
// uploads, which may take long to read.
func (st *store) route() {
	const objects = "/crm/v3/objects/{type}"
	const associations = "/crm/v4/objects/{type}/{id}/associations/"
	for pattern, serve := range map[string]http.HandlerFunc{
		"GET " + objects:                                  st.list,
		"POST " + objects:                                 st.create,
		"GET " + objects + "/{id}":                        st.get,
		"PATCH " + objects + "/{id}":                      st.update,
		"DELETE " + objects + "/{id}":                     st.archive,
		"POST " + objects + "/search":                     st.search,
		"POST " + objects + "/batch/create":               st.batchCreate,
		"POST " + objects + "/batch/read":                 st.batchRead,
		"POST " + objects + "/batch/update":               st.batchUpdate,
		"POST " + objects + "/batch/archive":              st.batchArchive,
		"GET " + associations + "{toType}":                st.associated,
		"PUT " + associations + "{toType}/{toID}":         st.associate,
		"PUT " + associations + "default/{toType}/{toID}": st.associateDefault,
		"DELETE " + associations + "{toType}/{toID}":      st.dissociate,
		"GET /files/v3/files/{id}":                        st.fileDetails,
		"GET /webhooks/v3/{app}/subscriptions":            serveSubscriptions,
		"POST /fake/fail-next":                            st.failNext,
	} {
		st.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			st.mu.Lock()
			defer st.mu.Unlock()
			serve(w, r)
		})
	}
	st.mux.HandleFunc("POST /files/v3/files", st.upload)
}

// serve answers the request if its path is one of the CRM's, and reports whether it has.
func (c *crm) serve(w http.ResponseWriter, r *http.Request, portal string) bool {
	if portal == "" {
		return c.tokenInfo(w, r)
	}
	st := c.store(portal)
	if status := st.failing(); status != 0 {
		writeFailure(w, status)
		return true
	}
	_, pattern := st.mux.Handler(r)
	if pattern == "" || path.Clean(r.URL.Path) != r.URL.Path { // a ServeMux would redirect a path that is not clean
		return false
	}
	st.mux.ServeHTTP(w, r)
	return true
}

// tokenInfo serves the introspection of v1, which has the token in the path, and reports
// whether it has answered.
func (c *crm) tokenInfo(w http.ResponseWriter, r *http.Request) bool {
	tail, ok := strings.CutPrefix(r.URL.Path, "/oauth/v1/")
	kind, token, isInfo := strings.Cut(tail, "-tokens/")
	if !ok || !isInfo || r.Method != http.MethodGet {
		return false
	}
	form := url.Values{"client_id": {hubspottest.ClientID}, "client_secret": {hubspottest.ClientSecret}, "token": {token}}
	request, err := http.NewRequestWithContext(r.Context(), http.MethodPost, c.hub.TokenURL()+"/introspect", strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Error(err)
		return false
	}
	request.Close = true
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.t.Error(err)
		return false
	}
	defer response.Body.Close()
	var info map[string]any
	if err := json.NewDecoder(response.Body).Decode(&info); err != nil {
		c.t.Error(err)
	}
	if info["token_use"] != kind+"_token" {
		writeNotFound(w)
		return true
	}
	info["token_type"] = kind
	writeJSON(w, http.StatusOK, info)
	return true
}

func (st *store) failNext(w http.ResponseWriter, r *http.Request) {
	st.failures, _ = strconv.Atoi(r.URL.Query().Get("n"))
	st.failure, _ = strconv.Atoi(r.URL.Query().Get("code"))
	w.WriteHeader(http.StatusOK)
}

// failing returns the status with which the current request is to fail, and counts the
// failure. 0 means that the request is not to fail.
func (st *store) failing() (status int) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.failures == 0 {
		return 0
	}
	st.failures--
	return st.failure
}

// writeFailure answers with the status. A 429 has the body that HubSpot sends for too many
// searches in a second.
func writeFailure(w http.ResponseWriter, status int) {
	e := hubspottest.APIError{Message: "This request was to fail."}
	if status == http.StatusTooManyRequests {
		e = hubspottest.APIError{Message: "You have reached your secondly limit.", ErrorType: "RATE_LIMIT", PolicyName: "SECONDLY"}
	}
	hubspottest.WriteError(w, status, e)
}

func (st *store) newID() string {
	st.lastID++
	return strconv.Itoa(st.lastID)
}

// readJSON decodes the request's body. If the body is not JSON, readJSON answers 400 and
// returns false.
func readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		writeInvalid(w, "Invalid input JSON on line 1, column 1")
		return false
	}
	return true
}

func writeInvalid(w http.ResponseWriter, message string) {
	hubspottest.WriteError(w, http.StatusBadRequest, hubspottest.APIError{Message: message, Category: "VALIDATION_ERROR"})
}

func writeNotFound(w http.ResponseWriter) {
	hubspottest.WriteError(w, http.StatusNotFound, hubspottest.APIError{Message: "resource not found", Category: "OBJECT_NOT_FOUND"})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// timestamp returns the current time as HubSpot writes it.
func timestamp() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000Z") }

// serveSubscriptions answers with a webhook subscription of an app.
func serveSubscriptions(w http.ResponseWriter, _ *http.Request) {
	now := timestamp()
	writeJSON(w, http.StatusOK, map[string]any{"results": []map[string]any{{
		"id": "25", "eventType": "contact.propertyChange", "propertyName": "email", "active": true, "createdAt": now, "updatedAt": now,
	}}})
}
