package budget_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"hubspot-auth-proxy/proxy/budget"
	"hubspot-auth-proxy/tokens/store"
)

func Example() {
	redis, end := store.Embedded()
	defer end()
	calls := budget.New(budget.Options{Redis: redis, Prefix: "hubspot:"})

	turn, err := calls.Take(context.Background(), budget.Call{Portal: "62515", Client: "billing"}, 30*time.Second, nil)
	if refused := (*budget.RefusedError)(nil); errors.As(err, &refused) {
		fmt.Println("answer 429, with Retry-After", refused.RetryAfter)
		return
	}
	sent := time.Now()
	header := http.Header{"X-Hubspot-Ratelimit-Max": {"190"}} // of HubSpot's answer
	turn.Answered(header, sent)
	calls.Count("billing", "62515", sent)

	_ = calls.Close(context.Background())
	usage, _ := budget.ReadUsage(context.Background(), redis, "hubspot:", 1, sent)
	fmt.Println(usage[0].Client, usage[0].Portal, usage[0].Calls)
	// Output: billing 62515 1
}
