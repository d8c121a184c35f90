package admin

import (
	"net/http"
	"time"

	g "maragu.dev/gomponents"

	"hubspot-auth-proxy/proxy"
	"hubspot-auth-proxy/tokens"
)

const (
	// maxPortals is the number of portals on one page of the list.
	maxPortals = 50

	// maxText is the number of characters of a search. Further characters are ignored.
	maxText = 100
)

// statusData is the data of the status page.
type statusData struct {
	Title      string
	Clock      string
	Tags       []tag
	HasMetrics bool
	SetUp      bool     // whether the connect flow is set up
	Notices    []notice // problems that concern all portals
	Search     search
	Portals    []portalRow
	About      string // describes Portals
	Chart      *chart
	Activity   *proxy.Activity
	Clients    []g.Node // rows
	MoreKeys   int      // the number of clients that are not shown
}

// A tag is a state in a few words.
type tag struct {
	Level string // "good", "idle", "warn" or "bad"
	Text  string
}

// A notice is a message for the operator.
type notice struct{ Level, Text string }

// status serves the status page.
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
	data.Clients, data.MoreKeys = a.clientRows("", now)
	show(w, http.StatusOK, data.page())
}

func clock(now time.Time) string { return now.UTC().Format("15:04:05") + " UTC" }

// briefly shortens the failure of a portal if all portals have the same failure, because the page
// shows that failure once at the top.
func briefly(status tokens.Portal, o tokens.Overview) tokens.Portal {
	if status.Failure != "" && status.Failure == o.App {
		status.Failure, status.Retry = "tokens cannot be renewed, see above", time.Time{}
	}
	return status
}

// tags returns the states of the process, of Redis and of the portals.
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

// portalsTag returns a tag with the number of portals that need attention.
func portalsTag(o tokens.Overview) tag {
	needAttention := 0
	for _, status := range o.Portals {
		if !status.Healthy() {
			needAttention++
		}
	}
	switch needAttention = max(needAttention, o.NeedAttention); {
	case len(o.Portals) == 0 && o.Counts.All() == 0:
		return tag{"idle", "No portal"}
	case needAttention == 0:
		return tag{"good", "All portals are healthy"}
	case needAttention == 1:
		return tag{"bad", "1 portal needs attention"}
	default:
		return tag{"bad", grouped(needAttention) + " portals need attention"}
	}
}

// notices returns the problems that concern all portals.
func notices(o tokens.Overview, now time.Time) []notice {
	var all []notice
	if o.Cached {
		all = append(all, notice{"bad", "Redis does not answer. The portals below are those that this process knows; they are served and renewed. " +
			"Other portals cannot be served, and no portal can be connected, until Redis answers again."})
	}
	if o.App != "" {
		all = append(all, notice{"bad", "Tokens cannot be renewed. " + sentence(o.App) + again(o.AppRetry, now)})
	}
	return all
}

// about describes which portals are shown.
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
		return all + ". No portal is found."
	case o.Found == 0 && o.Cached:
		return "This process knows no portal yet."
	case o.Found == 0 && o.Counts.All() == 0 && o.Whole:
		return "No portal is connected yet."
	case s.any():
		return all + ". " + grouped(o.Found) + " found."
	case !o.Whole && !o.Cached:
		return all + "."
	default:
		return all + ". Portals that need attention come first."
	}
}

func wereRemoved(n int) string {
	if n == 1 {
		return "was removed"
	}
	return "were removed"
}
