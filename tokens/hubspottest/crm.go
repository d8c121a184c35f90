package hubspottest

import (
	"encoding/json"
	"net/http"
	"path"
	"strconv"
	"sync"
	"time"
)

// ServeCRM makes the API answer CRM paths as HubSpot does, for clients that need HubSpot's
// own answers. Without ServeCRM, these paths answer an [Echo]. Each portal has a store of
// its own, which is empty at first.
func (s *Server) ServeCRM() { s.crm.Store(&crm{stores: map[string]*store{}}) }

// crm has the stores of all portals.
type crm struct {
	mu     sync.Mutex
	stores map[string]*store
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
	} {
		st.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			st.mu.Lock()
			defer st.mu.Unlock()
			serve(w, r)
		})
	}
	st.mux.HandleFunc("POST /files/v3/files", st.upload)
}

// serveCRM answers the request if its path is one of the CRM's, and reports whether it
// has.
func (s *Server) serveCRM(w http.ResponseWriter, r *http.Request, v verdict) bool {
	c := s.crm.Load()
	if c == nil {
		return false
	}
	if s.serveTokenInfo(w, r) {
		return true
	}
	mux := c.store(v.portal).mux
	_, pattern := mux.Handler(r)
	if pattern == "" || v.portal == "" || path.Clean(r.URL.Path) != r.URL.Path { // a ServeMux would redirect a path that is not clean
		return false
	}
	mux.ServeHTTP(w, r)
	return true
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
	writeJSON(w, http.StatusBadRequest, apiError{
		Status: "error", Message: message, CorrelationID: newCorrelationID(), Category: "VALIDATION_ERROR",
	})
}

func writeNotFound(w http.ResponseWriter) {
	writeJSON(w, http.StatusNotFound, apiError{
		Status: "error", Message: "resource not found", CorrelationID: newCorrelationID(), Category: "OBJECT_NOT_FOUND",
	})
}

// timestamp returns a time as HubSpot writes it.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// subscription is a webhook subscription of an app.
type subscription struct {
	ID           string `json:"id"`
	EventType    string `json:"eventType"`
	PropertyName string `json:"propertyName"`
	Active       bool   `json:"active"`
	CreatedAt    string `json:"createdAt"`
	UpdatedAt    string `json:"updatedAt"`
}

func serveSubscriptions(w http.ResponseWriter, _ *http.Request) {
	now := timestamp(time.Now())
	writeJSON(w, http.StatusOK, map[string]any{"results": []subscription{{
		ID: "25", EventType: "contact.propertyChange", PropertyName: "email", Active: true, CreatedAt: now, UpdatedAt: now,
	}}})
}
