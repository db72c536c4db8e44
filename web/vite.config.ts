// Static output with relative addresses, so that it is served from any path, under a policy that
// allows nothing inline.
import { defineConfig } from "vite";

const server = "http://127.0.0.1:50051";
// @ts-expect-error: this file runs in Node, the page does not
const target: string = process.env.RINGFEED_ENDPOINT ?? server;

const proxy = { "^/ringfeed\\.v1\\.": { target, changeOrigin: true } };

export default defineConfig({
  base: "./",
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 300,
  },
  worker: { format: "es" },
  server: { host: "127.0.0.1", proxy },
  // As the server serves it.
  preview: { host: "127.0.0.1", proxy, headers: { "content-security-policy": "default-src 'self'" } },
});
