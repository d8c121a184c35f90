package admin

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/proxy/clients"
	"hubspot-auth-proxy/tokens"
)

const (
	// mostPortals is how many portals are on one page of the list, and
	// mostClients how many clients the status page shows: it stays small,
	// however many there are.
	mostPortals = 50
	mostClients = 100

	// mostText is how many characters of a search count.
	mostText = 100

	// mostNamed is how many of a client's portals it names.
	mostNamed = 8
)

// statusData is what the status page shows.
type statusData struct {
	Title      string
	Clock      string
	Tags       []tag
	HasMetrics bool
	SetUp      bool     // the connect flow is
	Notices    []notice // what concerns all portals
	Search     search
	Portals    []portalRow
	About      string // what Portals are
	Chart      *chart
	Activity   *proxy.Activity
	Clients    []clientRow
	MoreKeys   int // clients that are not shown
}

// A tag is a state in a few words.
type tag struct {
	Level string // "good", "idle", "warn" or "bad"
	Text  string
}

// A notice is something that an operator should know.
type notice struct{ Level, Text string }

// status shows how the proxy and its portals are.
func (a *Admin) status(w http.ResponseWriter, r *http.Request) {
	now := a.now()
	data := statusData{
		Title:      "hubspot-auth-proxy",
		Clock:      clock(now),
		HasMetrics: a.options.Metrics != nil,
		SetUp:      a.states != nil,
		Search:     newSearch(r.URL.Query()),
	}
	overview := tokens.Overview{Whole: true}
	if a.options.Portals != nil {
		overview = a.options.Portals.Overview(r.Context(), data.Search.query())
	}
	data.Search.found(overview)
	if data.Search.Page > data.Search.Pages && a.options.Portals != nil {
		data.Search.Page = data.Search.Pages
		overview = a.options.Portals.Overview(r.Context(), data.Search.query())
	}
	data.Tags = a.tags(overview)
	data.Notices = notices(overview, now)
	for _, status := range overview.Portals {
		row := newPortalRow(briefly(status, overview), now, data.SetUp)
		if a.options.Activity != nil {
			row.Limit = limitText(a.options.Activity, status.ID, now)
		}
		data.Portals = append(data.Portals, row)
	}
	data.About = about(overview, data.Search)
	if a.options.History != nil {
		data.Chart = newChart(a.options.History.Minutes())
	}
	data.Activity = a.options.Activity
	if a.options.Callers != nil {
		data.Clients, data.MoreKeys = clientRows(a.options.Callers(), a.options.Activity, now)
	}
	show(w, http.StatusOK, data.page())
}

func clock(now time.Time) string { return now.UTC().Format("15:04:05") + " UTC" }

// briefly leaves out why a portal is not renewed where that concerns all of them:
// the page says so once, above.
func briefly(status tokens.Portal, o tokens.Overview) tokens.Portal {
	if status.Failure != "" && status.Failure == o.App {
		status.Failure, status.Retry = "tokens cannot be renewed, see above", time.Time{}
	}
	return status
}

// tags say the most important in a few words.
func (a *Admin) tags(o tokens.Overview) []tag {
	process := tag{"good", "Ready"}
	switch a.state.Load().(string) {
	case starting:
		process = tag{"warn", "Starting"}
	case stopping:
		process = tag{"warn", "Stopping"}
	}
	redis := tag{"good", "Redis answers"}
	if o.Cached || !a.options.RedisAnswers() {
		redis = tag{"bad", "Redis does not answer"}
	}
	return []tag{process, redis, portalsTag(o)}
}

// portalsTag says how many portals need attention.
func portalsTag(o tokens.Overview) tag {
	unwell := 0
	for _, status := range o.Portals {
		if !status.Healthy() {
			unwell++
		}
	}
	switch unwell = max(unwell, o.NeedAttention); {
	case len(o.Portals) == 0 && o.Counts.All() == 0:
		return tag{"idle", "No portal"}
	case unwell == 0:
		return tag{"good", "All portals are healthy"}
	case unwell == 1:
		return tag{"bad", "1 portal needs attention"}
	default:
		return tag{"bad", grouped(unwell) + " portals need attention"}
	}
}

// notices tell what concerns all portals.
func notices(o tokens.Overview, now time.Time) []notice {
	var all []notice
	if o.Cached {
		all = append(all, notice{"bad", "Redis does not answer. The portals below are those that this process knows; they are served and renewed. " +
			"Others cannot be served, and none can be connected, until Redis is back."})
	}
	if o.App != "" {
		all = append(all, notice{"bad", "Tokens cannot be renewed. " + sentence(o.App) + again(o.AppRetry, now)})
	}
	return all
}

// about says which portals are shown.
func about(o tokens.Overview, s search) string {
	all := counted(o.Counts.All(), "portal")
	if o.Cached {
		all = counted(o.Found, "portal")
	}
	if !o.Whole && !o.Cached {
		all = "Records are being counted: " + all + " so far"
	}
	if removed := o.Counts[tokens.Removed]; removed > 0 {
		all += ", and " + grouped(removed) + " that " + wereRemoved(removed)
	}
	switch {
	case o.Found == 0 && s.any():
		return all + ". None is found."
	case o.Found == 0 && o.Cached:
		return "This process knows none yet."
	case o.Found == 0 && o.Counts.All() == 0 && o.Whole:
		return "None is connected yet."
	case s.any():
		return all + ". " + grouped(o.Found) + " found."
	case !o.Whole && !o.Cached:
		return all + "."
	default:
		return all + ", those first that need attention."
	}
}

func wereRemoved(n int) string {
	if n == 1 {
		return "was removed"
	}
	return "were removed"
}

// A clientRow is one client key on the page.
type clientRow struct {
	Name, Portals string
	ReadOnly      bool
	Seeded        bool
	Paths         int    // how many rules limit it; 0 means that none does
	Expiry        string // when its key expires; empty means never
	ExpiresSoon   bool
	Calls         int64 // of the last hour
}

// clientRows returns the clients by name, and how many there are besides.
func clientRows(callers []clients.Client, activity *proxy.Activity, now time.Time) (rows []clientRow, more int) {
	calls := shareOf(activity)
	callers = slices.SortedStableFunc(slices.Values(callers), func(a, b clients.Client) int { return cmp.Compare(a.Name, b.Name) })
	shown := callers[:min(len(callers), mostClients)]
	for _, c := range shown {
		rows = append(rows, clientRow{
			Name: clip(c.Name, maxName), Portals: portalsOf(c), ReadOnly: c.ReadOnly, Seeded: c.Seeded, Paths: len(c.Paths),
			Expiry: expiryOf(c, now), ExpiresSoon: c.ExpiresSoon(now), Calls: calls[c.Name],
		})
	}
	return rows, len(callers) - len(shown)
}

// expiryOf says when a client's key expires.
func expiryOf(c clients.Client, now time.Time) string {
	switch {
	case c.Expires.IsZero():
		return ""
	case !now.Before(c.Expires):
		return "key has expired"
	}
	return "key expires in " + Span(c.Expires.Sub(now))
}

// portalsOf tells which portals a client may use.
func portalsOf(c clients.Client) string {
	if slices.Contains(c.Portals, clients.AllPortals) {
		return "all portals"
	}
	named := c.Portals[:min(len(c.Portals), mostNamed)]
	text := "portal "
	if len(c.Portals) != 1 {
		text = "portals "
	}
	text += strings.Join(named, ", ")
	if more := len(c.Portals) - len(named); more > 0 {
		text += " and " + grouped(more) + " more"
	}
	return clip(text, maxQuote)
}
