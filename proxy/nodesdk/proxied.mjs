// Makes fetch, Node's own one as well, read HTTPS_PROXY: as programs do that
// are run behind a proxy, or by `node --import ./proxied.mjs`.
import { EnvHttpProxyAgent, setGlobalDispatcher } from 'undici'

if (process.env.HTTPS_PROXY) setGlobalDispatcher(new EnvHttpProxyAgent())
