// Builds into dist/, which is committed and compiled into the program. Names carry
// no hashes, so that a change shows as a change of the same file.
import { defineConfig } from 'vite';

const server = process.env.MLXLM_SERVER ?? 'http://127.0.0.1:8080';
const routes = ['/v1', '/props', '/slots', '/metrics', '/health', '/conversations'];

export default defineConfig({
  base: './',
  build: {
    target: 'es2022',
    modulePreload: false,
    assetsInlineLimit: 0,
    license: { fileName: 'page/licenses.md' },
    rolldownOptions: {
      output: {
        entryFileNames: 'page/app.js',
        chunkFileNames: 'page/[name].js',
        assetFileNames: 'page/app[extname]',
      },
    },
  },
  // `npm run dev` shows the page from its sources, against a running server.
  server: { proxy: Object.fromEntries(routes.map((route) => [route, server])) },
});
