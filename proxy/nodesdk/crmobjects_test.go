package nodesdk_test

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// object is a CRM object of any type, such as a contact or a company.
type object struct {
	ID         string            `json:"id"`
	Properties map[string]string `json:"properties"`
	CreatedAt  string            `json:"createdAt"`
	UpdatedAt  string            `json:"updatedAt"`
	Archived   bool              `json:"archived"`
}

// objectInput is an object in a request. In a batch, it has its id.
type objectInput struct {
	ID         string            `json:"id"`
	Properties map[string]string `json:"properties"`
}

// page is one page of a list.
type page struct {
	Total   *int     `json:"total,omitempty"` // searches only
	Results []object `json:"results"`
	Paging  *paging  `json:"paging,omitempty"` // nil means the last page
}

type paging struct {
	Next struct {
		After string `json:"after"`
		Link  string `json:"link,omitempty"`
	} `json:"next"`
}

// pageOf returns the page that begins at index after and has at most limit objects. 0 means
// HubSpot's default of 10.
func pageOf(objects []object, limit int, after string) page {
	begin, _ := strconv.Atoi(after)
	begin = max(0, min(begin, len(objects)))
	end := min(begin+cmp.Or(limit, 10), len(objects))
	p := page{Results: objects[begin:end]}
	if end < len(objects) {
		p.Paging = &paging{}
		p.Paging.Next.After = strconv.Itoa(end)
	}
	return p
}

// insert stores a new object of the type and returns a copy.
func (st *store) insert(kind string, properties map[string]string) object {
	now := timestamp()
	o := &object{ID: st.newID(), CreatedAt: now, UpdatedAt: now, Properties: map[string]string{"createdate": now}}
	o.set(properties)
	o.Properties["hs_object_id"] = o.ID
	st.objects[kind] = append(st.objects[kind], o)
	return o.with("")
}

func (o *object) set(properties map[string]string) {
	o.UpdatedAt = timestamp()
	maps.Copy(o.Properties, properties)
	o.Properties["lastmodifieddate"] = o.UpdatedAt
}

// with returns a copy with the properties of the comma-separated list, and with those that
// HubSpot always returns. An empty list means all properties.
func (o *object) with(properties string) object {
	wanted := append(strings.Split(properties, ","), "createdate", "hs_object_id", "lastmodifieddate")
	c := *o
	c.Properties = maps.Clone(o.Properties)
	if properties != "" {
		maps.DeleteFunc(c.Properties, func(name, _ string) bool { return !slices.Contains(wanted, name) })
	}
	return c
}

// find returns the object. nil means that the object does not exist or is archived.
func (st *store) find(kind, id string) *object {
	for _, o := range st.objects[kind] {
		if o.ID == id && !o.Archived {
			return o
		}
	}
	return nil
}

// live returns copies of the objects of the type that match and are not archived.
func (st *store) live(kind, properties string, match func(*object) bool) []object {
	live := []object{}
	for _, o := range st.objects[kind] {
		if !o.Archived && match(o) {
			live = append(live, o.with(properties))
		}
	}
	return live
}

func (st *store) list(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	limit, _ := strconv.Atoi(query.Get("limit"))
	// SDKs repeat the parameter or separate the names by commas.
	properties := strings.Join(query["properties"], ",")
	all := st.live(r.PathValue("type"), properties, func(*object) bool { return true })
	p := pageOf(all, limit, query.Get("after"))
	if p.Paging != nil {
		query.Set("after", p.Paging.Next.After)
		p.Paging.Next.Link = "https://api.hubapi.com" + r.URL.Path + "?" + query.Encode()
	}
	writeJSON(w, http.StatusOK, p)
}

func (st *store) create(w http.ResponseWriter, r *http.Request) {
	var input objectInput
	if readJSON(w, r, &input) {
		writeJSON(w, http.StatusCreated, st.insert(r.PathValue("type"), input.Properties))
	}
}

func (st *store) get(w http.ResponseWriter, r *http.Request) {
	o := st.find(r.PathValue("type"), r.PathValue("id"))
	if o == nil {
		writeNotFound(w)
		return
	}
	writeJSON(w, http.StatusOK, o.with(strings.Join(r.URL.Query()["properties"], ",")))
}

func (st *store) update(w http.ResponseWriter, r *http.Request) {
	var input objectInput
	if !readJSON(w, r, &input) {
		return
	}
	o := st.find(r.PathValue("type"), r.PathValue("id"))
	if o == nil {
		writeNotFound(w)
		return
	}
	o.set(input.Properties)
	writeJSON(w, http.StatusOK, o.with(""))
}

// archive answers 204 for an unknown object too, as HubSpot does.
func (st *store) archive(w http.ResponseWriter, r *http.Request) {
	if o := st.find(r.PathValue("type"), r.PathValue("id")); o != nil {
		o.Archived = true
	}
	w.WriteHeader(http.StatusNoContent)
}
