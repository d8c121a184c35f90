package admin_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// axePath is where npm ci puts axe-core, which checks pages for what keeps people
// from using them: https://github.com/dequelabs/axe-core.
const axePath = "../nodesdk/node_modules/axe-core/axe.min.js"

// accessible checks the page with axe-core.
func (c *chrome) accessible(name string) {
	c.Helper()
	axe, err := os.ReadFile(axePath)
	if err != nil {
		c.Logf("NOT CHECKED by axe-core, which is not installed: run `npm ci --ignore-scripts` in proxy/nodesdk")
		return
	}
	violations, err := chromedp.Run(c.ctx, chromedp.Evaluate[[]string](string(axe)+`
axe.run({resultTypes: ["violations"]}).then(found => found.violations.map(v => v.impact + ": " + v.help + ": " + v.nodes.map(n => n.html).join(" ")))`,
		chromedp.EvalAwaitPromise))
	if err != nil {
		c.Fatal(err)
	}
	for _, v := range violations {
		c.Errorf("%s: %s", name, v)
	}
}

// update makes the page update itself, as it does every 10 seconds, and waits until it has the text.
func (c *chrome) update(words string) {
	c.Helper()
	c.do(evaluating(`document.dispatchEvent(new Event("visibilitychange"))`))
	c.waits(fmt.Sprintf("document.body.innerText.includes(%q)", words))
}

// waits waits until the JavaScript expression is true.
func (c *chrome) waits(expression string) {
	c.Helper()
	if _, err := chromedp.Run(c.ctx, chromedp.Poll[bool](expression)); err != nil {
		c.Fatalf("%s: %v", expression, err)
	}
}

func TestInABrowserThePageUpdatesItselfAndKeepsFocusScrollAndInput(t *testing.T) {
	t.Parallel()
	r, c := newRig(t, nil), newChrome(t)
	r.admin.Joined()
	for id := range 60 {
		r.portals.record(t, fmt.Sprint(2000+id), "name", fmt.Sprint("Portal No. ", id))
	}
	r.survey()
	c.open(r.server.URL + "/?q=no")
	c.do(chromedp.EmulateViewport(360, 600), evaluating(`window.before = document.getElementById("portal-2005");
		document.querySelector("input[type=search]").value = "half a wo"; scrollTo(0, 900); document.querySelector("a[rel=next]").focus({preventScroll: true})`))
	scrolled := evaluate[float64](c, "scrollY")
	r.portals.record(t, "2005", "state", "ended", "ended_code", "BAD_REFRESH_TOKEN", "name", "No longer")
	r.portals.record(t, "3000", "name", "No newer one")
	r.survey()
	c.update("1 portal needs attention")
	c.says("No longer", "BAD_REFRESH_TOKEN", "61 found.")
	for _, still := range []string{
		`document.querySelector(".rows li") === window.before`, // the same element, and the first one now
		`document.querySelector("input[type=search]").value === "half a wo"`,
		`document.activeElement.rel === "next"`,
		`document.getElementById("stale").hidden`,
	} {
		if !evaluate[bool](c, still) {
			t.Errorf("it is not true that %s", still)
		}
	}
	if now := evaluate[float64](c, "scrollY"); now < scrolled || now > scrolled+300 { // the row above has grown
		t.Errorf("scrolled from %v to %v", scrolled, now)
	}
	c.silent()
	r.server.CloseClientConnections()
	_ = r.server.Listener.Close()
	c.update("The proxy does not answer.")
}

func TestInABrowserThePageIsUsedByKeyboardAndWithoutScripts(t *testing.T) {
	t.Parallel()
	r, c := newRig(t, nil), newChrome(t)
	r.admin.Joined()
	for id := range 60 {
		r.portals.record(t, fmt.Sprint(2000+id), "name", "Acme")
	}
	r.portals.record(t, "7", "state", "ended", "ended_code", "BAD_HUB", "name", "Globex")
	r.survey()
	c.open(r.server.URL)
	var order []string
	for range 5 {
		c.do(chromedp.KeyEvent(kb.Tab))
		order = append(order, evaluate[string](c, `document.activeElement.name || document.activeElement.innerText`))
		if outline := evaluate[string](c, `getComputedStyle(document.activeElement).outlineStyle`); outline == "none" {
			t.Errorf("the focus on %s is not seen", order[len(order)-1])
		}
	}
	if got := strings.Join(order, ", "); got != "Connect a portal, q, state, Search, Globex" {
		t.Errorf("the order of the keyboard: %s", got)
	}
	c.do(evaluating(`document.querySelector("input[type=search]").focus()`), chromedp.KeyEvent("glob"))
	if _, err := chromedp.RunResponse(c.ctx, chromedp.KeyEvent(kb.Enter)); err != nil {
		t.Fatal(err)
	}
	c.says("1 found.")
	if address := evaluate[string](c, "location.search"); address != "?q=glob&state=" {
		t.Errorf("the search leads to %s", address)
	}

	c.do(func(ctx context.Context, tab *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return chromedp.Void{}, err
	})
	c.open(r.server.URL + "/?state=ended")
	c.says("Globex", "update")
	r.portals.record(t, "7", "state", "active")
	r.survey()
	c.click("noscript a")
	c.says("No portal is found.")
	c.click(".search a")
	c.says("61 portals", "Page 1 of 2", "All portals are healthy")
	c.click("a[rel=next]")
	c.says("Page 2 of 2", "2059")
	c.silent()
}
