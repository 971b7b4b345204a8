/** The Content-Security-Policy of every page: nothing but the site's own files, and no script that stands in a page. */
import type { Plugin } from 'vite';

/** The editor makes style elements, which is why styles may stand in a page. Scripts may not. */
export const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "worker-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data: blob:",
  "style-src 'self' 'unsafe-inline'",
  "base-uri 'none'",
  "form-action 'none'",
].join('; ');

/** Puts the policy into built pages, so that it holds on any host. */
export function policy(): Plugin {
  return {
    name: 'glimpse-policy',
    apply: 'build',
    transformIndexHtml: () => [{ tag: 'meta', attrs: { 'http-equiv': 'Content-Security-Policy', content: POLICY }, injectTo: 'head-prepend' }],
  };
}
