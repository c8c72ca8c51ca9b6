// The asset builder: squeezes a style sheet into OUT/style.HASH.css, and again whenever it changes. OUT/style.name has its name.

import { createHash } from "node:crypto";
import { readFileSync, renameSync, watch, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

const [source, out] = process.argv.slice(2);
let built;

function write(name, text) { // whoever reads it finds the old one or the new one
  writeFileSync(join(out, `${name}.new`), text);
  renameSync(join(out, `${name}.new`), join(out, name));
}

function build() {
  const text = readFileSync(source, "utf8");
  const css = text.replace(/\/\*.*?\*\//gs, "").replace(/\s*([{}:;,])\s*/g, "$1").replace(/\s+/g, " ").trim();
  const name = `style.${createHash("sha256").update(css).digest("hex").slice(0, 8)}.css`;
  if (name === built) return;
  if (!css) console.error(`${source}: warning: there is nothing in it`);
  write(name, css);
  write("style.name", name);
  built = name;
  console.log(`built ${name}, ${text.length} -> ${css.length} characters`);
}

watch(dirname(source), (_, changed) => changed === basename(source) && build());
build();
