package nodesdk_test

import (
	"net/http"
	"slices"
	"strings"
)

// batchInput is the request of a batch.
type batchInput struct {
	Inputs     []objectInput `json:"inputs"`
	Properties []string      `json:"properties"` // batch/read only
}

// batchAnswer is the answer to a batch without errors.
type batchAnswer struct {
	Status      string `json:"status"`
	Results     any    `json:"results"`
	StartedAt   string `json:"startedAt"`
	CompletedAt string `json:"completedAt"`
}

func complete(results any) batchAnswer {
	now := timestamp()
	return batchAnswer{Status: "COMPLETE", Results: results, StartedAt: now, CompletedAt: now}
}

// batch calls do for each input and answers with the objects that do returns. An input for
// which do returns false is left out.
func batch(w http.ResponseWriter, r *http.Request, status int, do func(objectInput, batchInput) (object, bool)) {
	var input batchInput
	if !readJSON(w, r, &input) {
		return
	}
	results := []object{}
	for _, one := range input.Inputs {
		if o, ok := do(one, input); ok {
			results = append(results, o)
		}
	}
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	writeJSON(w, status, complete(results))
}

func (st *store) batchCreate(w http.ResponseWriter, r *http.Request) {
	batch(w, r, http.StatusCreated, func(one objectInput, _ batchInput) (object, bool) {
		return st.insert(r.PathValue("type"), one.Properties), true
	})
}

func (st *store) batchRead(w http.ResponseWriter, r *http.Request) {
	batch(w, r, http.StatusOK, func(one objectInput, all batchInput) (object, bool) {
		o := st.find(r.PathValue("type"), one.ID)
		if o == nil {
			return object{}, false
		}
		return o.with(strings.Join(all.Properties, ",")), true
	})
}

func (st *store) batchUpdate(w http.ResponseWriter, r *http.Request) {
	batch(w, r, http.StatusOK, func(one objectInput, _ batchInput) (object, bool) {
		o := st.find(r.PathValue("type"), one.ID)
		if o == nil {
			return object{}, false
		}
		o.set(one.Properties)
		return o.with(""), true
	})
}

func (st *store) batchArchive(w http.ResponseWriter, r *http.Request) {
	batch(w, r, http.StatusNoContent, func(one objectInput, _ batchInput) (object, bool) {
		if o := st.find(r.PathValue("type"), one.ID); o != nil {
			o.Archived = true
		}
		return object{}, false
	})
}

// searchInput is the request of a search. An object is found if all filters of at least
// one group match.
type searchInput struct {
	FilterGroups []struct {
		Filters []filter `json:"filters"`
	} `json:"filterGroups"`
	Properties []string `json:"properties"`
	Limit      int      `json:"limit"`
	After      string   `json:"after"`
}

type filter struct {
	PropertyName string `json:"propertyName"`
	Operator     string `json:"operator"`
	Value        string `json:"value"`
}

func (st *store) search(w http.ResponseWriter, r *http.Request) {
	var input searchInput
	if !readJSON(w, r, &input) {
		return
	}
	for _, group := range input.FilterGroups {
		if slices.ContainsFunc(group.Filters, func(f filter) bool { return f.Operator != "EQ" }) {
			writeInvalid(w, "This fake knows the operator EQ only.")
			return
		}
	}
	found := st.live(r.PathValue("type"), strings.Join(input.Properties, ","), func(o *object) bool {
		for _, group := range input.FilterGroups {
			if !slices.ContainsFunc(group.Filters, func(f filter) bool { return o.Properties[f.PropertyName] != f.Value }) {
				return true
			}
		}
		return len(input.FilterGroups) == 0
	})
	p := pageOf(found, input.Limit, input.After)
	total := len(found)
	p.Total = &total
	writeJSON(w, http.StatusOK, p)
}
