package admin

// statusStyle is what only the status page needs. Rows are three columns
// where there is room, and else stand one below the other.
const statusStyle = `.wide{max-width:64rem}` +
	`.top{margin-bottom:.5rem;display:flex;flex-wrap:wrap;gap:.5rem 1.5rem;align-items:center;justify-content:space-between}` +
	`.top h1{margin:.5rem 0}` +
	`h2{font-size:1.1rem;margin:2rem 0 .5rem}` +
	`.soft{color:var(--soft)}.small{font-size:.875rem}p.soft{margin:.25rem 0}` +
	`.button{display:inline-block;padding:.4rem .9rem;border:1px solid var(--link);border-radius:.4rem;text-decoration:none;font-weight:600}` +
	`.top .button{background:var(--link);color:var(--paper)}` +
	`.tags{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;margin:0;padding:0;list-style:none;font-size:.875rem}` +
	`.tag{font-weight:600;white-space:nowrap}` +
	`.tag::before{content:"";display:inline-block;width:.6em;height:.6em;margin-right:.45em;border-radius:50%;background:currentColor}` +
	`.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}.idle{color:var(--soft)}` +
	`.notice{margin:1rem 0;padding:.6rem 1rem;border-left:.25rem solid currentColor;background:var(--ground)}.notice span{color:var(--ink)}` +
	`.rows{margin:.75rem 0;padding:0;list-style:none}` +
	`.rows>li{padding:.7rem 0;border-top:1px solid var(--line)}.rows>li:last-child{border-bottom:1px solid var(--line)}` +
	`.rows p{margin:.15rem 0}` +
	`.bar{display:block;width:100%;height:.4rem;margin:.5rem 0 .3rem;border-radius:.2rem;background:var(--line)}` +
	`.bar rect{fill:var(--bar)}.bar.warn rect{fill:var(--warn)}.bar.bad rect{fill:var(--bad)}` +
	`figure{margin:.75rem 0}` +
	`.chart{display:block;width:100%;height:5rem;border-bottom:1px solid var(--line)}` +
	`.calls{fill:var(--bar)}.errors{fill:var(--bad)}` +
	`.ends{display:flex;flex-wrap:wrap;gap:0 .5rem;justify-content:space-between}` +
	`.key{display:inline-block;width:.7em;height:.7em;margin-right:.4em}` +
	`@media(min-width:48rem){.portal{display:grid;grid-template-columns:13rem 1fr 18rem;gap:0 2rem}` +
	`.client{display:grid;grid-template-columns:13rem 1fr;gap:0 2rem}}` +
	`@media(max-width:40rem){main{margin:0;min-height:100vh;border-radius:0;padding:1rem}}`

// statusPage shows a [statusData]. It asks for itself anew, and has no script.
var statusPage = newPage(`<ul class="tags" aria-label="The proxy">
{{range .Tags}}<li class="tag {{.Level}}">{{.Text}}</li>
{{end}}<li class="soft">as of {{.Clock}}, updated every 10 s</li>
{{if .HasMetrics}}<li><a href="/metrics">Metrics</a></li>
{{end}}</ul>
{{range .Notices}}<p class="notice {{.Level}}"><span>{{.Text}}</span></p>
{{end}}{{with .Chart}}<h2>Calls of the last hour</h2>
<p class="soft">{{.Text}}</p>
{{if .Bars}}<figure>
<svg class="chart" viewBox="0 0 {{.Width}} {{.Height}}" preserveAspectRatio="none" role="img" aria-label="Calls and errors, minute by minute. {{.Text}}">
{{range .Bars}}<g><title>{{.Text}}</title><rect class="calls" x="{{.X}}" y="{{.Top}}" width="{{.Width}}" height="{{.Height}}"/>{{if .Errors}}<rect class="errors" x="{{.X}}" y="{{.ErrorsTop}}" width="{{.Width}}" height="{{.Errors}}"/>{{end}}</g>
{{end}}</svg>
<div class="ends soft small"><span>60 min ago</span><span>now</span></div>
<figcaption class="soft small"><svg class="key" viewBox="0 0 1 1" aria-hidden="true"><rect class="calls" width="1" height="1"/></svg>calls of this process, and of them
<svg class="key" viewBox="0 0 1 1" aria-hidden="true"><rect class="errors" width="1" height="1"/></svg>errors: status 401, 429 and 5xx, and what the proxy itself refused</figcaption>
</figure>
{{end}}{{end}}<h2>Portals</h2>
<p class="soft">{{.About}}</p>
{{if not .SetUp}}<p class="soft">To connect portals by a click, set `+whatToSet+`.</p>
{{end}}{{with .Portals}}<ul class="rows">
{{range .}}<li class="portal">
<div><strong>{{or .Name .ID}}</strong>
<p class="soft small">{{if .Name}}{{.ID}} · {{end}}{{.Kind}}</p></div>
<div><span class="tag {{.Level}}">{{.State}}</span>
{{with .Note}}<p class="small">{{.}}</p>
{{end}}{{if .Connect}}<p><a class="button small" href="/connect?portal={{.ID}}">Connect {{.ID}} again</a></p>
{{end}}</div>
<div>{{if ge .Left 0}}<svg class="bar {{.Level}}" viewBox="0 0 100 1" preserveAspectRatio="none" role="img" aria-label="{{.Left}} % of the token's life is left"><rect width="{{.Left}}" height="1"/></svg>
{{end}}<p class="ends soft small"><span>{{.Life}}</span><span>{{.Renewed}}</span></p></div>
</li>
{{end}}</ul>
{{end}}{{with .Clients}}<h2>Client keys</h2>
<ul class="rows">
{{range .}}<li class="client"><strong>{{.Name}}</strong><p class="soft">{{.Portals}}{{if .ReadOnly}}, read only{{end}}</p></li>
{{end}}</ul>
{{end}}{{if .MoreKeys}}<p class="soft">And {{.MoreKeys}} more; the command “hubspot-auth-proxy client list” shows those in Redis.</p>
{{end}}`, `{{define "head"}}<meta http-equiv="refresh" content="10">
{{end}}{{define "wide"}} class="wide"{{end}}{{define "title"}}<header class="top"><h1>{{.Title}}</h1>
{{if .SetUp}}<a class="button" href="/connect">Connect a portal</a>{{end}}</header>{{end}}`)
