import { defineConfig } from "vite";

// Four files of fixed names: the binary embeds them, and adds a hash to each address by itself.
export default defineConfig({
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "inline" },
  build: {
    target: ["chrome123", "firefox128", "safari17.5"],
    cssTarget: ["chrome123", "firefox128", "safari17.5"],
    assetsInlineLimit: 0,
    modulePreload: false,
    rollupOptions: {
      output: {
        entryFileNames: "app.js",
        assetFileNames: "app[extname]",
        inlineDynamicImports: true,
        banner: "/*! Preact (c) 2015-present Jason Miller, uPlot (c) 2022 Leon Sorokin; both under the MIT licence, see licenses.txt */",
      },
    },
  },
});
