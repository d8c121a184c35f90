package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"strconv"
	"time"

	"hubspot-auth-proxy/proxy/budget"
)

const usageManual = `Prints how many calls each client has sent to HubSpot for each portal on each day (UTC),
the newest day first. Calls that HubSpot answered with 401 or 429 count. Calls that the
proxy answered itself do not. Calls without a client key are shown as "(anonymous)", and
have an empty name in JSON. The proxies store their counts every few seconds, and keep
them for 35 days.

  hubspot-auth-proxy usage
  hubspot-auth-proxy usage --days 7 --json | jq 'map(.calls) | add'
`

func usage(flags *flag.FlagSet) action {
	days := flags.Int("days", 1, "how many `DAYS`, including today: from 1 to 35")
	asJSON := flags.Bool("json", false, "print an array of objects")
	return func(ctx context.Context, c *call) error {
		if *days < 1 || *days > budget.UsageDays {
			return usageError{problem: fmt.Sprintf("--days is not a number from 1 to %d", budget.UsageDays)}
		}
		return c.operate(ctx, func(s *store) error {
			all, err := budget.ReadUsage(ctx, s.redis, s.settings.RedisPrefix, *days, time.Now())
			if err != nil {
				return err
			}
			return c.printUsage(all, *asJSON)
		})
	}
}

func (c *call) printUsage(all []budget.DayUsage, asJSON bool) error {
	if asJSON {
		if all == nil {
			all = []budget.DayUsage{}
		}
		return printJSON(c.stdout, all)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(c.stderr, "No calls were counted on these days.")
		return err
	}
	rows := [][]string{{"DAY", "PORTAL", "CLIENT", "CALLS"}}
	for _, one := range all {
		rows = append(rows, []string{one.Day, one.Portal, cmp.Or(one.Client, "(anonymous)"), strconv.FormatInt(one.Calls, 10)})
	}
	return printTable(c.stdout, rows)
}
