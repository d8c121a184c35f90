// Makes fetch, also Node's own, use HTTPS_PROXY. Scripts import this file, and
// `node --import ./proxied.mjs` does the same for programs that are not changed.
import { EnvHttpProxyAgent, setGlobalDispatcher } from 'undici'

if (process.env.HTTPS_PROXY) setGlobalDispatcher(new EnvHttpProxyAgent())
