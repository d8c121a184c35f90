package hubspottest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubspot-auth-proxy/tokens/hubspottest"
)

// app is a client of one portal's CRM.
type app struct {
	t      *testing.T
	hub    *hubspottest.Server
	client *http.Client
	token  string
}

func newApp(t *testing.T, hub *hubspottest.Server, portal string) *app {
	return &app{t, hub, newClient(t, hub), hub.Issue(portal, time.Hour)}
}

// call makes a call and returns the answer's body. It fails the test unless the answer has
// the status.
func (a *app) call(status int, method, path, body string) map[string]any {
	a.t.Helper()
	got := do(a.t, a.client, method, a.hub.URL+path, a.token, strings.NewReader(body))
	if got.StatusCode != status {
		a.t.Fatalf("%s %s: %d %s", method, path, got.StatusCode, got.body)
	}
	if got.body == "" {
		return nil
	}
	return fields(a.t, got.body)
}

func TestTheCRMPathsEchoWithoutServeCRM(t *testing.T) {
	hub := newHub(t)
	client, token := newClient(t, hub), hub.Issue(portal, time.Hour)
	for _, target := range []string{"/crm/v3/objects/contacts", "/files/v3/files", "/oauth/v1/access-tokens/" + token} {
		if e := echoOf(t, do(t, client, "GET", hub.URL+target, token, nil)); e.Target != target {
			t.Errorf("%q", e.Target)
		}
	}
}

func TestOtherPathsEchoWithServeCRM(t *testing.T) {
	hub := newHub(t)
	hub.ServeCRM()
	for _, target := range []string{"/crm/v3/properties/contacts", "//crm/v3/objects/contacts/1", "/files/v3/folders"} {
		a := do(t, newClient(t, hub), "GET", hub.URL+target, hub.Issue(portal, time.Hour), nil)
		if e := echoOf(t, a); e.Target != target {
			t.Errorf("%q", e.Target)
		}
	}
}

func TestAnObjectExistsInItsPortalOnly(t *testing.T) {
	hub := newHub(t)
	hub.ServeCRM()
	mine, other := newApp(t, hub, portal), newApp(t, hub, "62516")
	const objects = "/crm/v3/objects/contacts"
	made := mine.call(201, "POST", objects, `{"properties":{"email":"a@example.com","city":"Bern"}}`)
	path := objects + "/" + made["id"].(string)
	for _, stamp := range []string{"createdAt", "updatedAt"} {
		if _, err := time.Parse("2006-01-02T15:04:05.000Z", made[stamp].(string)); err != nil {
			t.Error(err)
		}
	}

	mine.call(200, "PATCH", path, `{"properties":{"email":"b@example.com"}}`)
	read := mine.call(200, "GET", path+"?properties=email", "")["properties"].(map[string]any)
	if read["email"] != "b@example.com" || read["hs_object_id"] != made["id"] || read["city"] != nil {
		t.Errorf("%v", read)
	}

	if e := other.call(404, "GET", path, ""); e["message"] != "resource not found" || e["category"] != "OBJECT_NOT_FOUND" {
		t.Errorf("%v", e)
	}
	other.call(404, "PATCH", path, "{}")
	other.call(204, "DELETE", path, "")
	mine.call(204, "DELETE", path, "")
	mine.call(404, "GET", path, "")
	mine.call(400, "POST", objects, "{")
}

// emails returns the emails of an answer's results.
func emails(answer map[string]any) (all []string) {
	for _, result := range answer["results"].([]any) {
		all = append(all, result.(map[string]any)["properties"].(map[string]any)["email"].(string))
	}
	return all
}

func TestListsAndSearchesHavePages(t *testing.T) {
	hub := newHub(t)
	hub.ServeCRM()
	a := newApp(t, hub, portal)
	const objects = "/crm/v3/objects/contacts"
	made := a.call(201, "POST", objects+"/batch/create",
		`{"inputs":[{"properties":{"email":"0","city":"Bern"}},{"properties":{"email":"1"}},{"properties":{"email":"2","city":"Bern"}}]}`)
	if made["status"] != "COMPLETE" || made["startedAt"] == nil || made["completedAt"] == nil {
		t.Errorf("%v", made)
	}

	first := a.call(200, "GET", objects+"?limit=2&properties=email", "")
	next := first["paging"].(map[string]any)["next"].(map[string]any)
	if want := "https://api.hubapi.com" + objects + "?after=2&limit=2&properties=email"; next["link"] != want {
		t.Errorf("%v", next["link"])
	}
	last := a.call(200, "GET", objects+"?limit=2&after="+next["after"].(string), "")
	if diff := cmp.Diff([]string{"0", "1", "2"}, append(emails(first), emails(last)...)); diff != "" || last["paging"] != nil {
		t.Error(diff, last["paging"])
	}

	const bern = `{"filterGroups":[{"filters":[{"propertyName":"city","operator":"EQ","value":"Bern"}]}],"limit":1,"after":"1"}`
	found := a.call(200, "POST", objects+"/search", bern)
	if found["total"] != 2.0 || !cmp.Equal(emails(found), []string{"2"}) {
		t.Errorf("%v", found)
	}
	a.call(400, "POST", objects+"/search", strings.ReplaceAll(bern, "EQ", "GT"))
}

func TestABatchSkipsUnknownObjects(t *testing.T) {
	hub := newHub(t)
	hub.ServeCRM()
	a := newApp(t, hub, portal)
	const objects = "/crm/v3/objects/contacts"
	id := a.call(201, "POST", objects, `{"properties":{"email":"a"}}`)["id"]
	inputs := fmt.Sprintf(`{"inputs":[{"id":%q,"properties":{"email":"b"}},{"id":"9"}]}`, id)
	a.call(200, "POST", objects+"/batch/update", inputs)
	if read := a.call(200, "POST", objects+"/batch/read", inputs); !cmp.Equal(emails(read), []string{"b"}) {
		t.Errorf("%v", read)
	}
	a.call(204, "POST", objects+"/batch/archive", inputs)
	if read := a.call(200, "POST", objects+"/batch/read", inputs); emails(read) != nil {
		t.Errorf("%v", read)
	}
}

func TestObjectsAreAssociated(t *testing.T) {
	hub := newHub(t)
	hub.ServeCRM()
	a := newApp(t, hub, portal)
	from := "/crm/v4/objects/contacts/" + a.call(201, "POST", "/crm/v3/objects/contacts", "{}")["id"].(string) + "/associations/"
	company := a.call(201, "POST", "/crm/v3/objects/companies", "{}")["id"].(string)

	a.call(404, "PUT", from+"companies/9", "[]")
	a.call(201, "PUT", from+"companies/"+company, `[{"associationCategory":"HUBSPOT_DEFINED","associationTypeId":279}]`)
	got := a.call(200, "GET", from+"companies", "")["results"].([]any)
	if len(got) != 1 || got[0].(map[string]any)["toObjectId"] != company {
		t.Errorf("%v", got)
	}
	a.call(204, "DELETE", from+"companies/"+company, "")
	if got := a.call(200, "PUT", from+"default/companies/"+company, ""); got["status"] != "COMPLETE" {
		t.Errorf("%v", got)
	}
}

func TestAnUploadsDetailsHaveItsSizeAndHash(t *testing.T) {
	hub := newHub(t)
	hub.ServeCRM()
	a := newApp(t, hub, portal)
	upload := func(options string) answer {
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		part, _ := form.CreateFormFile("file", "a.txt")
		_, _ = part.Write([]byte("hello"))
		_ = form.WriteField("folderPath", "/docs")
		_ = form.WriteField("options", options)
		_ = form.Close()
		r, _ := http.NewRequest("POST", hub.URL+"/files/v3/files", &body)
		r.Header.Set("Content-Type", form.FormDataContentType())
		r.Header.Set("Authorization", "Bearer "+a.token)
		return send(t, a.client, r)
	}
	if got := upload(""); got.StatusCode != 400 {
		t.Errorf("without options: %d", got.StatusCode)
	}
	got := upload("{}")
	var file struct {
		ID, Path, FileMD5 string
		Size              int
	}
	if err := json.Unmarshal([]byte(got.body), &file); err != nil || got.StatusCode != 201 {
		t.Fatal(got.StatusCode, err)
	}
	if file.Path != "/docs/a.txt" || file.Size != 5 || file.FileMD5 != "5d41402abc4b2a76b9719d911017c592" {
		t.Errorf("%+v", file)
	}
	if details := a.call(200, "GET", "/files/v3/files/"+file.ID, ""); details["fileMd5"] != file.FileMD5 {
		t.Errorf("%v", details)
	}
	a.call(400, "POST", "/files/v3/files", "{}")
}

func TestTheV1EndpointsReturnThePortalOfAToken(t *testing.T) {
	hub := newHub(t)
	hub.ServeCRM()
	refresh, client := hub.Connect(portal), newClient(t, hub)
	access := hub.Issue(portal, time.Hour)
	for path, status := range map[string]int{
		"access-tokens/" + access:   200,
		"refresh-tokens/" + refresh: 200,
		"access-tokens/" + refresh:  404,
		"access-tokens/unknown":     404,
	} {
		got := do(t, client, "GET", hub.URL+"/oauth/v1/"+path, "", nil)
		if got.StatusCode != status || status == 200 && fields(t, got.body)["hub_id"] != 62515.0 {
			t.Errorf("%s: %d %s", path, got.StatusCode, got.body)
		}
	}
}
