// Builds dist/ from src/: the ES module, the UMD that TVs load (also minified), and the types. Where the control room
// is beside it, its copy of the module is renewed, too, so that the demo needs no Node.

import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { parse } from "acorn";
import { rollup } from "rollup";
import uglify from "uglify-js";

const HERE = dirname(fileURLToPath(import.meta.url));
const DIST = join(HERE, "dist");
const VENDOR = join(HERE, "..", "..", "fanout", "console", "static", "vendor");
const NAME = "fanout-device";

const { version } = JSON.parse(readFileSync(join(HERE, "package.json"), "utf8"));
const banner = `/*! ${NAME} ${version} */`;

const bundle = await rollup({
  input: join(HERE, "src", "index.js"),
  onwarn(warning) {
    throw new Error(warning.message);
  },
});
// Rollup's own wrapper for UMD is longer. Whoever loads modules by AMD finds the global.
const footer = 'if (typeof module === "object") module.exports = Fanout;';
const formats = [
  { format: "es", file: `${NAME}.mjs` },
  { format: "iife", file: `${NAME}.umd.js`, footer },
];

rmSync(DIST, { recursive: true, force: true });
mkdirSync(DIST);
for (const { file, ...format } of formats) {
  const { output } = await bundle.generate({
    ...format,
    name: "Fanout",
    exports: "named",
    banner,
    generatedCode: "es5",
    strict: false,
    externalLiveBindings: false,
    freeze: false,
  });
  writeFileSync(join(DIST, file), output[0].code);
}
await bundle.close();

// Names of fields that nobody outside knows are shortened. Whatever is public, on the wire or in an action stays: the
// words of the types, those of any string of the sources (wire.js lists the fields of messages in strings), and these:
const OTHERS_KNOW = [
  "ms", // a report's
  "exp", "sub", // claims of a token
  "headers", "statusCode", // of a refused handshake, in Node
];

function* words(node) {
  if (Array.isArray(node)) {
    for (const one of node) yield* words(one);
  } else if (node && typeof node.type === "string") {
    if (node.type === "Literal" && typeof node.value === "string") yield* node.value.match(/\w+/g) || [];
    for (const key of Object.keys(node)) yield* words(node[key]);
  }
}

const umd = readFileSync(join(DIST, `${NAME}.umd.js`), "utf8");
const types = readFileSync(join(HERE, "src", "index.d.ts"), "utf8");
const kept = new Set([...types.match(/\w+/g), ...words(parse(umd, { ecmaVersion: 5 })), ...OTHERS_KNOW]);
const { code, error } = uglify.minify(umd, {
  compress: {
    arrows: false, // its default writes ES6
    inline: false, // what is inlined compresses worse
    passes: 8,
    keep_fargs: false,
    pure_getters: true,
    unsafe: true,
    unsafe_proto: true,
  },
  mangle: { properties: { reserved: [...kept] } },
  output: { comments: /^!/ },
});
if (error) throw error;
writeFileSync(join(DIST, `${NAME}.umd.min.js`), `${code}\n`);
copyFileSync(join(HERE, "src", "index.d.ts"), join(DIST, `${NAME}.d.ts`));
// The package is of modules, but whoever says require() gets the UMD.
writeFileSync(join(DIST, "package.json"), '{ "type": "commonjs" }\n');

if (existsSync(VENDOR)) copyFileSync(join(DIST, `${NAME}.mjs`), join(VENDOR, `${NAME}.mjs`));
