// Updates the page without reloading it: fetches the page every 10 seconds and
// replaces the parts that have changed. So the focus, the scroll position, a
// selection and typed text stay as they are.
(() => {
  "use strict";
  const every = 10_000;
  const looks = (page) => ["script", "style"].map((name) => page.querySelector(name)?.textContent).join();
  const same = (a, b) => a.nodeName === b.nodeName && (a.id || "") === (b.id || "");

  function merge(node, next) {
    if (node.isEqualNode(next) || node.nodeName === "FORM") return; // a person may be typing
    if (node.nodeType !== Node.ELEMENT_NODE) {
      node.nodeValue = next.nodeValue;
      return;
    }
    for (const { name } of [...node.attributes]) {
      if (!next.hasAttribute(name) && !(node.nodeName === "DETAILS" && name === "open")) node.removeAttribute(name);
    }
    for (const { name, value } of next.attributes) {
      if (node.getAttribute(name) !== value) node.setAttribute(name, value);
    }
    let at = node.firstChild;
    for (const wanted of [...next.childNodes]) {
      let found = at;
      while (found && !same(found, wanted)) found = found.nextSibling;
      if (!found) {
        node.insertBefore(document.importNode(wanted, true), at);
        continue;
      }
      if (found === at) at = at.nextSibling;
      else node.insertBefore(found, at);
      merge(found, wanted);
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  }

  async function update() {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(every) });
    if (answer.status >= 429) throw new Error(answer.statusText);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (looks(next) !== looks(document)) {
      location.reload(); // another version of the program, or another page
      return;
    }
    const focused = document.activeElement;
    merge(document.querySelector("main"), next.querySelector("main"));
    if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  }

  async function run() {
    clearTimeout(timer);
    if (!document.hidden) {
      try {
        await update();
      } catch {
        document.getElementById("stale").hidden = false;
      }
    }
    timer = setTimeout(run, every);
  }

  let timer = setTimeout(run, every);
  document.addEventListener("visibilitychange", run);
})();
