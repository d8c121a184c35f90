package hubspottest_test

import (
	"fmt"
	"net/http"
	"time"

	"hubspot-auth-proxy/tokens/hubspottest"
)

func Example() {
	hub := hubspottest.NewServer()
	defer hub.Close()
	defer http.DefaultClient.CloseIdleConnections()

	request, _ := http.NewRequest("GET", hub.URL+"/crm/v3/objects/contacts?limit=1", nil)
	request.Header.Set("Authorization", "Bearer "+hub.Issue("62515", time.Hour))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()

	echo, err := hubspottest.DecodeEcho(response.Body)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(echo.Portal, echo.Credential, echo.Target)
	// Output: 62515 oauth /crm/v3/objects/contacts?limit=1
}
