package nodesdk_test

import (
	"cmp"
	"net/http"
	"slices"
)

// association is an association from one object to another. Unlike HubSpot, the fake
// keeps no labels and adds no association in the other direction.
type association struct{ fromType, fromID, toType, toID string }

// These ids name the only kind of association that the fake knows: contact to company.
const (
	associationCategory = "HUBSPOT_DEFINED"
	associationType     = 279
)

func associationOf(r *http.Request) association {
	return association{r.PathValue("type"), r.PathValue("id"), r.PathValue("toType"), r.PathValue("toID")}
}

// add stores the association. If one of the objects is missing, add answers 404 and
// returns false.
func (st *store) add(w http.ResponseWriter, a association) bool {
	if st.find(a.fromType, a.fromID) == nil || st.find(a.toType, a.toID) == nil {
		writeNotFound(w)
		return false
	}
	st.associations[a] = true
	return true
}

func (st *store) associate(w http.ResponseWriter, r *http.Request) {
	a := associationOf(r)
	var specs []struct {
		AssociationTypeID int `json:"associationTypeId"`
	}
	if !readJSON(w, r, &specs) || !st.add(w, a) {
		return
	}
	writeJSON(w, http.StatusCreated, map[string]any{
		"fromObjectTypeId": a.fromType, "fromObjectId": a.fromID,
		"toObjectTypeId": a.toType, "toObjectId": a.toID,
		"labels": []string{},
	})
}

func (st *store) associateDefault(w http.ResponseWriter, r *http.Request) {
	a := associationOf(r)
	if !st.add(w, a) {
		return
	}
	writeJSON(w, http.StatusOK, complete([]map[string]any{{
		"from":            map[string]string{"id": a.fromID},
		"to":              map[string]string{"id": a.toID},
		"associationSpec": map[string]any{"associationCategory": associationCategory, "associationTypeId": associationType},
	}}))
}

// associated answers all associations in one page.
func (st *store) associated(w http.ResponseWriter, r *http.Request) {
	type result struct {
		ToObjectID       string           `json:"toObjectId"`
		AssociationTypes []map[string]any `json:"associationTypes"`
	}
	from := associationOf(r)
	results := []result{}
	for a := range st.associations {
		if a.fromType == from.fromType && a.fromID == from.fromID && a.toType == from.toType {
			results = append(results, result{a.toID, []map[string]any{
				{"category": associationCategory, "typeId": associationType, "label": nil},
			}})
		}
	}
	slices.SortFunc(results, func(a, b result) int { return cmp.Compare(a.ToObjectID, b.ToObjectID) })
	writeJSON(w, http.StatusOK, map[string]any{"results": results})
}

func (st *store) dissociate(w http.ResponseWriter, r *http.Request) {
	delete(st.associations, associationOf(r))
	w.WriteHeader(http.StatusNoContent)
}
